"""Trust policies (C2SP tlog-policy): which logs, which witnesses, and how many of whom must have cosigned.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>…
    quorum <name>|none

To the specification this adds a bound on age: a cosignature that is too old says nothing about the log of today.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sandtrail.errors import DamagedError, NotFoundError, UsageError
from sandtrail.store.cosignature import CosignatureKey, cosigned_at, parse_key
from sandtrail.store.note import Checkpoint, Note, VerifierKey, parse_checkpoint, parse_note, signed_by

__all__ = ["Group", "Log", "Policy", "State", "Verdict", "Witness", "WitnessState", "load_policy", "parse_policy"]

_MAX_BYTES = 1 << 20
_MAX_EACH = 256
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_NONE = "none"
# How far a witness's clock may be ahead of ours.
AHEAD = 300.0


class State(StrEnum):
    """What a witness's cosignature on a note is worth."""

    GOOD = "good"
    MISSING = "missing"
    BAD = "bad"
    OLD = "too old"
    FUTURE = "from the future"


@dataclass(frozen=True, slots=True)
class Log:
    """A log that the policy knows, by its key; the key's name is its origin."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness under the policy's own name for it."""

    name: str
    key: CosignatureKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """At least `least` of the members (witnesses or groups) must have witnessed."""

    name: str
    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessState:
    """How a note stands with one witness; `at` is the time of its cosignature in POSIX seconds, where it is genuine."""

    name: str
    state: State
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a checkpoint satisfies a policy. `reason` says why not, and is empty when it does."""

    ok: bool
    reason: str
    checkpoint: Checkpoint | None = None
    witnesses: tuple[WitnessState, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that is well formed."""

    quorum: str
    logs: tuple[Log, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = field(default=())

    def judge(
        self,
        note: bytes,
        *,
        now: float | None = None,
        max_age: float | None = None,
        log: VerifierKey | None = None,
    ) -> Verdict:
        """Whether a checkpoint is signed by one of the logs and cosigned by the quorum.

        `log` stands in for the policy's logs where the caller knows which log it wants; without either nothing is good.
        `now` is POSIX seconds (default: the clock's); a cosignature more than `max_age` seconds older than that does
        not count, nor one from more than five minutes ahead. A line in the name of a known key that is no good
        signature makes the whole note bad, as the signed-note specification asks.
        """
        now = time.time() if now is None else now
        try:
            parsed = parse_note(note)
            checkpoint = parse_checkpoint(parsed.text)
        except DamagedError as error:
            return Verdict(False, str(error))
        states = tuple(_state(witness, parsed, now, max_age) for witness in self.witnesses)
        reason = self._why_not_the_logs(parsed, checkpoint, log) or self._why_not_witnessed(states)
        return Verdict(not reason, reason, checkpoint, states)

    def _why_not_the_logs(self, note: Note, checkpoint: Checkpoint, log: VerifierKey | None) -> str:
        keys = [log] if log else [known.key for known in self.logs]
        if not keys:
            return "neither the policy nor the caller names a log"
        ours = [key for key in keys if key.name == checkpoint.origin]
        if not ours:
            return f"the checkpoint is of the log {checkpoint.origin!r}, which is not one of those asked for"
        claimed = [key for key in ours if any(map(key.claims, note.signatures))]
        if not claimed or not all(signed_by(note, key) for key in claimed):
            return f"the checkpoint carries no good signature by {checkpoint.origin}"
        return ""

    def _why_not_witnessed(self, states: tuple[WitnessState, ...]) -> str:
        bad = [state.name for state in states if state.state is State.BAD]
        if bad:
            return f"the cosignature by {bad[0]!r} is not genuine"
        if self.quorum == _NONE:
            return ""
        good = {state.name for state in states if state.state is State.GOOD}
        for group in self.groups:  # members come before their groups
            if sum(name in good for name in group.members) >= group.least:
                good.add(group.name)
        if self.quorum in good:
            return ""
        standing = ", ".join(f"{state.name!r} {state.state}" for state in states)
        return f"the quorum {self.quorum!r} has not cosigned it ({standing})"


def _state(witness: Witness, note: Note, now: float, max_age: float | None) -> WitnessState:
    if not any(map(witness.key.claims, note.signatures)):
        return WitnessState(witness.name, State.MISSING)
    at = cosigned_at(note, witness.key)
    if not at:  # a witness always says when; 0 is for those who make no statement about time
        return WitnessState(witness.name, State.BAD)
    if at > now + AHEAD:
        return WitnessState(witness.name, State.FUTURE, at)
    old = max_age is not None and at < now - max_age
    return WitnessState(witness.name, State.OLD if old else State.GOOD, at)


def load_policy(path: Path) -> Policy:
    """Read a policy file. Raises NotFoundError when it can't be read, UsageError when it is no policy."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise NotFoundError(f"the policy {path} cannot be read: {error.strerror}") from None
    try:
        return parse_policy(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def parse_policy(data: bytes) -> Policy:
    """Read a policy. Raises UsageError, with the line, when it breaks a rule of the specification."""
    if len(data) > _MAX_BYTES:
        raise UsageError("the policy is longer than 1 MiB")
    if data and not data.endswith(b"\n"):
        raise UsageError("the policy's last line does not end in a newline; it may have been cut off")
    reader = _Reader()
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            if _FORBIDDEN.search(line):
                raise UsageError("control characters other than tab are not allowed")
            reader.line(line)
        except UsageError as error:
            raise UsageError(f"line {number}: {error}") from None
    return reader.finish()


class _Reader:
    """Collects what the lines define; a name may be used on the lines below its own."""

    def __init__(self) -> None:
        self._logs: dict[bytes, Log] = {}
        self._witnesses: dict[bytes, Witness] = {}
        self._groups: list[Group] = []
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._quorum: str | None = None

    def line(self, line: bytes) -> None:
        # Octets with the high bit set are opaque: escaped, each byte string is a text of its own.
        words = [word for word in re.split(r"[ \t]+", line.decode("utf-8", "surrogateescape")) if word]
        if not words or words[0].startswith("#"):
            return
        known: dict[str, tuple[Callable[[list[str]], None], int, int]] = {
            "log": (self._log, 1, 2),
            "witness": (self._witness, 2, 3),
            "group": (self._group, 3, 2 + 2 * _MAX_EACH),
            "quorum": (self._set_quorum, 1, 1),
        }
        if words[0] not in known:
            raise UsageError("a line begins with log, witness, group, quorum or #")
        handle, least, most = known[words[0]]
        if not least <= len(words) - 1 <= most:
            raise UsageError(f"a {words[0]} line does not have {len(words) - 1} items")
        handle(words[1:])

    def _log(self, words: list[str]) -> None:
        log = Log(parse_key(words[0]), *words[1:])
        if log.key.public in self._logs:
            raise UsageError("this log's key was there before")
        self._logs[log.key.public] = log
        _few(self._logs, "logs")

    def _witness(self, words: list[str]) -> None:
        key = parse_key(words[1])
        if not isinstance(key, CosignatureKey):
            raise UsageError("a witness has a key of type 04 or 06")
        if key.public in self._witnesses:
            raise UsageError("this witness's key was there before")
        self._name(words[0])
        self._witnesses[key.public] = Witness(words[0], key, *words[2:])
        _few(self._witnesses, "witnesses")

    def _group(self, words: list[str]) -> None:
        name, count, members = words[0], words[1], words[2:]
        for member in members:
            if member not in self._names:
                raise UsageError(f"{member!r} is not defined above")
            if member in self._members:
                raise UsageError(f"{member!r} is a member already; a name can be one only once")
            self._members.add(member)
        self._name(name)
        short = {"any": 1, "all": len(members)}
        if count not in short and not re.fullmatch("[1-9][0-9]{0,5}", count):
            raise UsageError("a group needs all, any or a number of its members")
        least = short.get(count) or int(count)
        if least > len(members):
            raise UsageError(f"{least} of {len(members)} members is more than there are")
        self._groups.append(Group(name, least, tuple(members)))
        _few(self._groups, "groups")

    def _name(self, name: str) -> None:
        if name in self._names or name == _NONE:
            raise UsageError(f"the name {name!r} is taken")
        self._names.add(name)

    def _set_quorum(self, words: list[str]) -> None:
        if self._quorum is not None:
            raise UsageError("there is a second quorum line")
        if words[0] != _NONE and words[0] not in self._names:
            raise UsageError(f"{words[0]!r} is not defined above")
        self._quorum = words[0]

    def finish(self) -> Policy:
        if self._quorum is None:
            raise UsageError("the policy has no quorum line; without witnesses it says: quorum none")
        return Policy(self._quorum, tuple(self._logs.values()), tuple(self._witnesses.values()), tuple(self._groups))


def _few(found: dict[bytes, Log] | dict[bytes, Witness] | list[Group], what: str) -> None:
    if len(found) > _MAX_EACH:
        raise UsageError(f"more than {_MAX_EACH} {what}")
