"""A log's side of the witness protocol: asks witnesses to cosign a checkpoint, and believes nothing it can check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

import httpx

from sandtrail.errors import DamagedError, WitnessError
from sandtrail.store.cosignature import CosignatureKey, cosigned_at
from sandtrail.store.note import Checkpoint, Note, parse_checkpoint, parse_note, parse_number, signature_line
from sandtrail.store.policy import AHEAD, Policy, Witness
from sandtrail.witness.protocol import encode_request

__all__ = ["Ahead", "Asked", "Collected", "Conflict", "Prover", "Unreachable", "add_checkpoint", "collect", "submit"]

Prover = Callable[[int], Sequence[bytes]]
"""From a size to the proof that the submitted log begins with the one of that size: `TileReader.consistency`."""

_MAX_REPLY = 256 << 10
_TRIES = 4


class Conflict(WitnessError):
    """The witness holds another size than the one that the proof began from (409)."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the witness holds size {size}")
        self.size = size


class Ahead(WitnessError):
    """The witness has cosigned a larger log than the one submitted: it was rolled back, or another one has its key.

    `note` is the witness's checkpoint, where it shows one that it has cosigned; the log's own signature on it, if it is
    genuine, turns what the witness says into a proof.
    """

    def __init__(self, url: str, size: int, ours: int, note: bytes | None = None) -> None:
        shown = "it shows the checkpoint" if note else "it does not show the checkpoint"
        super().__init__(
            f"the witness {url} has cosigned {size} entries of this log, which has only {ours} ({shown}): the log was "
            "cut off, or somebody else signs in its name; find out which before going on"
        )
        self.size = size
        self.note = note


class Unreachable(WitnessError):
    """No answer, or one that says: later."""


def add_checkpoint(
    url: str, old: int, proof: Iterable[bytes], note: bytes, *, timeout: float = 10.0, http: httpx.Client | None = None
) -> bytes:
    """Submit a checkpoint to one witness once; the body of its answer, which nobody has checked yet.

    `url` is the submission prefix; `timeout` bounds the whole exchange, in seconds. Raises Conflict when the witness
    holds another size than `old`, WitnessError when it refuses, cannot be reached, or answers at too great a length.
    """
    if http is None:
        with httpx.Client() as made:
            return add_checkpoint(url, old, proof, note, timeout=timeout, http=made)
    status, answer = _exchange(http, "POST", url, "add-checkpoint", encode_request(old, proof, note), timeout)
    if status == 200:
        return answer
    words = answer[:200].decode("utf-8", "replace").strip()
    if status == 409:
        size = parse_number(words)
        if size is not None:
            raise Conflict(size)
    kind = Unreachable if status in (408, 425, 429) or status >= 500 else WitnessError
    raise kind(f"the witness {url} answers {status}: {words!r}")


def _exchange(http: httpx.Client, method: str, url: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    headers = {"Accept-Encoding": "identity", "Content-Type": "text/plain; charset=utf-8"}
    until = time.monotonic() + timeout
    answer = bytearray()
    try:
        where = f"{url.rstrip('/')}/{path}"
        with http.stream(method, where, content=body or None, headers=headers, timeout=timeout) as response:
            for piece in response.iter_raw():
                answer += piece
                if len(answer) > _MAX_REPLY or time.monotonic() > until:
                    raise WitnessError(f"the witness {url} answers at too great a length")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"the witness {url} cannot be reached: {error}") from None
    return response.status_code, bytes(answer)


def submit(
    url: str,
    note: bytes,
    keys: Sequence[CosignatureKey],
    old: int,
    prove: Prover,
    *,
    timeout: float = 10.0,
    http: httpx.Client | None = None,
) -> dict[CosignatureKey, bytes]:
    """Have one witness cosign a checkpoint: its signature lines, each checked, by those of `keys` that have signed.

    `old` is the size that the witness is thought to hold; where it holds another one, the proof is made anew from that.
    A witness that does not answer is asked again, four times in all. Raises Ahead when it holds more than we have,
    other WitnessErrors when it refuses, or its answer has no good cosignature by any of `keys`.
    """
    if http is None:
        with httpx.Client() as made:
            return submit(url, note, keys, old, prove, timeout=timeout, http=made)
    size = parse_checkpoint(parse_note(note).text).size
    old, pause = min(old, size), 0.2
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            answer = add_checkpoint(url, old, prove(old), note, timeout=timeout, http=http)
            return _believed(url, note, answer, keys)
        except Conflict as conflict:
            if conflict.size > size:
                shown = _shown(http, url, parse_checkpoint(parse_note(note).text), keys, timeout)
                raise Ahead(url, conflict.size, size, shown) from None
            if last or conflict.size == old:
                raise
            old = conflict.size
        except Unreachable:
            if last:
                raise
            time.sleep(pause)
            pause *= 2
    raise AssertionError("the last try returns or raises")


def _shown(
    http: httpx.Client, url: str, ours: Checkpoint, keys: Sequence[CosignatureKey], timeout: float
) -> bytes | None:
    """The larger checkpoint that the witness says it has, if it shows one, as far as it can be checked here.

    It is asked under its submission prefix; whoever monitors under another one finds nothing here.
    """
    try:
        path = f"{sha256(ours.origin.encode()).hexdigest()}/checkpoint"
        status, answer = _exchange(http, "GET", url, path, b"", timeout)
        note = parse_note(answer)
        checkpoint = parse_checkpoint(note.text)
    except (WitnessError, DamagedError):
        return None
    genuine = any(cosigned_at(note, key) for key in keys)
    larger = checkpoint.origin == ours.origin and checkpoint.size > ours.size
    return answer if status == 200 and genuine and larger else None


def _believed(url: str, note: bytes, answer: bytes, keys: Sequence[CosignatureKey]) -> dict[CosignatureKey, bytes]:
    text = parse_note(note).text
    try:
        lines = parse_note(text + b"\n" + answer).signatures
    except DamagedError as error:
        raise WitnessError(f"the witness {url} answers with no signature lines: {error}") from None
    found: dict[CosignatureKey, bytes] = {}
    for key in keys:
        for line in filter(key.claims, lines):
            at = key.timestamp(text, line.signature)
            if not at:
                raise WitnessError(f"the witness {url} answers with a bad cosignature by {key.name}")
            if at > time.time() + AHEAD:
                raise WitnessError(f"the clock of the witness {url} is ahead of ours; compare both with the time")
            found[key] = signature_line(*line)
    if not found:
        raise WitnessError(f"the witness {url} answers without the cosignature that the policy wants")
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """How asking one witness ended; `error` is None when it has cosigned."""

    name: str
    error: WitnessError | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """A checkpoint with all the cosignatures that could be had. Whether they suffice is the policy's to say."""

    note: bytes
    asked: tuple[Asked, ...]
    sizes: dict[str, int] = field(default_factory=dict)
    """What each witness holds now, as far as it is known; for the next time."""


def collect(
    policy: Policy,
    note: bytes,
    prove: Prover,
    *,
    sizes: dict[str, int] | None = None,
    timeout: float = 10.0,
) -> Collected:
    """Ask every witness of the policy that has a URL, all at once, to cosign a checkpoint.

    `sizes`: by witness name, what it held the last time; only spares a round trip. Returns within about four times
    `timeout` whatever the witnesses do. Raises DamagedError when `note` is no checkpoint, and what `prove` raises.
    """
    parsed = parse_note(note)
    size = parse_checkpoint(parsed.text).size
    witnesses = [witness for witness in policy.witnesses if witness.url]
    plain = _without(parsed, [witness.key for witness in policy.witnesses])
    known = dict(sizes or {})
    # One machine may answer for several keys: it is asked once.
    places = {url: [one for one in witnesses if one.url == url] for url in dict.fromkeys(one.url for one in witnesses)}
    lines: dict[CosignatureKey, bytes] = {}
    asked: list[Asked] = []

    def ask(url: str) -> dict[CosignatureKey, bytes] | WitnessError:
        here = places[url]
        old = max(known.get(one.name, 0) for one in here)
        try:
            return submit(url, plain, [one.key for one in here], old, prove, timeout=timeout, http=http)
        except WitnessError as error:
            return error

    # One client for all: making one costs more than most answers.
    with httpx.Client() as http, ThreadPoolExecutor(min(16, len(places) or 1), thread_name_prefix="witness") as pool:
        for url, answer in zip(places, pool.map(ask, places), strict=True):
            for one in places[url]:
                asked.append(_asked(url, one, answer))
                if isinstance(answer, dict) and one.key in answer:
                    lines[one.key] = answer[one.key]
                    known[one.name] = size
    kept = _without(parsed, list(lines))
    return Collected(kept + b"".join(lines.values()), tuple(asked), known)


def _asked(url: str, witness: Witness, answer: dict[CosignatureKey, bytes] | WitnessError) -> Asked:
    if isinstance(answer, WitnessError):
        return Asked(witness.name, answer)
    if witness.key not in answer:
        return Asked(witness.name, WitnessError(f"the witness {url} has not signed with the key of {witness.name!r}"))
    return Asked(witness.name)


def _without(note: Note, keys: Sequence[CosignatureKey]) -> bytes:
    lines = (one for one in note.signatures if not any(key.claims(one) for key in keys))
    return note.text + b"\n" + b"".join(signature_line(*one) for one in lines)
