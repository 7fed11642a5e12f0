"""Which requests may leave: globs of host, method and path.

    api.openai.com                      every request to this host
    GET,HEAD *.example.org/docs/*       these methods, below that path, on any host of the domain

A rule is `[METHOD[,METHOD…] ]HOST[/PATH]`; `*` stands for any run of characters, slashes too, `?` for one. Deny wins
over allow, whatever their order; where there are allow rules, what none of them matches is denied. Among several that
match, the first is the one that is named.

A path has many spellings, and servers differ in which they take for the same. Compared is therefore every reading of
it: percent escapes undone up to three times, `\\` as `/`, repeated slashes as one, dot segments removed, `;parameters`
removed. One reading that matches is enough to deny; to allow, all of them have to match (RFC 3986, 5.2.4 and 6.2).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from sandtrail.errors import UsageError

__all__ = ["Decision", "Rule", "Rules", "canonical", "readings"]

_MOST_RULES = 1000
_LONGEST_RULE = 2048
_DEEPEST = 3
_LONGEST_NAME = 255
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_HOSTLIKE = re.compile(r"[a-z0-9_.-]*|[0-9a-f:.]+")
"""A canonical name or address: a rule's `*` is not meant to take `good.test/x.bad.test` for a host of bad.test."""
_PORT = re.compile(r"[^:\[\]]*:[0-9*]+|\[.*\]:.*")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}")
# What RFC 3986 calls unreserved, and the other characters that a path may hold as they are.
_PLAIN = "%!$&'()*+,;=:@/-._~|\\"


def canonical(host: str) -> str:
    """A host name as it is compared: lower case, no final dot, internationalized labels encoded; of an address the one
    of its spellings that is usual."""
    return _canonical(host) if len(host) <= _LONGEST_NAME else _canonical.__wrapped__(host)


@lru_cache(4096)
def _canonical(host: str) -> str:
    name = host.strip().rstrip(".").lower()
    try:
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name
    return _address(name) or name


def _address(name: str) -> str:
    """An address, of all the spellings that a resolver takes for it (inet_aton(3), RFC 4291 2.2); empty for a name."""
    if _NUMBERS.fullmatch(name):
        try:
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError:
            return ""
    try:
        six = ipaddress.IPv6Address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return ""
    # The zone is this host's own business: the kernel passes over it where an address has none.
    return str(six.ipv4_mapped or ipaddress.IPv6Address(int(six)))


def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob.replace("[", "[[]")))


def readings(path: str) -> frozenset[str]:
    """Everything that a server may take a request's path (its query left out) for."""
    target = path.partition("?")[0].encode("utf-8", "surrogateescape")
    # No client should send a "#". To some servers the path ends there, to others it is a character like any other.
    return frozenset().union(*map(_readings, {target, target.partition(b"#")[0]}))


def _readings(raw: bytes) -> frozenset[str]:
    # The raw form with its escapes in one spelling: what a server sees that takes %2F for something else than a slash.
    levels = [quote(_normal(raw), safe=_PLAIN)]
    for _ in range(_DEEPEST):
        undone = unquote_to_bytes(raw)
        levels.append(undone.decode("utf-8", "surrogateescape"))
        if undone == raw:
            break
        raw = undone
    found = {_cleaned(level) for level in levels}
    return frozenset(found | {_cleaned(re.sub(r";[^/]*", "", level)) for level in levels if ";" in level})


def _normal(raw: bytes) -> bytes:
    """Percent escapes of unreserved characters undone, the others in upper case."""

    def one(match: re.Match[bytes]) -> bytes:
        byte = bytes.fromhex(match[1].decode())
        return byte if byte.isalnum() or byte in b"-._~" else match[0].upper()

    return re.sub(rb"%([0-9A-Fa-f]{2})", one, raw)


def _cleaned(path: str) -> str:
    segments: list[str] = []
    parts = path.replace("\\", "/").split("/")
    for part in parts:
        if part == "..":
            del segments[-1:]
        elif part not in ("", "."):
            segments.append(part)
    slash = "/" if segments and parts[-1] in ("", ".", "..") else ""
    return "/" + "/".join(segments) + slash


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the rules. `text` is how it is recorded."""

    text: str
    host: re.Pattern[str]
    methods: frozenset[str]
    path: re.Pattern[str] | None

    @classmethod
    def parse(cls, text: object) -> Rule:
        """Read a rule. Raises UsageError."""
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_RULE:
            raise UsageError(f"a rule is a text such as '*.example.org' or 'GET example.org/docs/*', not {text!r:.100}")
        words = text.split()
        methods = words[0].split(",") if len(words) == 2 else []
        host, slash, path = words[-1].partition("/") if words else ("", "", "")
        if len(words) not in (1, 2) or not host or not all(map(_METHOD.fullmatch, methods)):
            raise UsageError(
                f"rule {text!r:.200}: write [METHOD[,METHOD] ]HOST[/PATH], such as 'GET *.example.org/docs/*'"
            )
        if _PORT.fullmatch(host) or "?" in path or "#" in path:
            raise UsageError(f"rule {text!r:.200}: a rule is about host, method and path; it has no port and no query")
        host = canonical(host)
        shown = " ".join([*([",".join(sorted({m.upper() for m in methods}))] if methods else []), host + slash + path])
        pattern = _pattern("/" + path) if slash else None
        return cls(shown, _pattern(host), frozenset(m.upper() for m in methods), pattern)

    @property
    def whole(self) -> bool:
        """Whether it is about the host alone."""
        return not self.methods and self.path is None

    def speaks_of(self, host: str) -> bool:
        """Whether it is about this host, in canonical form."""
        return self.host.fullmatch(host) is not None

    def denies(self, host: str, methods: Collection[str], paths: Collection[str]) -> bool:
        """Whether any reading of the request is meant by it."""
        return bool(
            self.speaks_of(host)
            and (not self.methods or any(method in self.methods for method in methods))
            and (self.path is None or any(self.path.fullmatch(path) for path in paths))
        )

    def allows(self, host: str, methods: Collection[str], paths: Collection[str]) -> bool:
        """Whether every reading of the request is meant by it."""
        return bool(
            self.speaks_of(host)
            and (not self.methods or all(method in self.methods for method in methods))
            and (self.path is None or all(self.path.fullmatch(path) for path in paths))
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may leave: `denial` says why not, and is empty where it may; `rule` is the rule that says so,
    None where no rule speaks of it."""

    rule: str | None = None
    denial: str = ""


def _parsed(rules: Mapping[str, Any], key: str) -> tuple[Rule, ...] | None:
    given = rules.get(key)
    if given is None:
        return None
    if not isinstance(given, list | tuple) or len(given) > _MOST_RULES:
        raise UsageError(f'rules: {key!r} is a list of at most {_MOST_RULES} rules such as "*.example.org"')
    return tuple(map(Rule.parse, given))


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules of one sandbox."""

    allow: tuple[Rule, ...] | None = None
    deny: tuple[Rule, ...] = ()
    digest: str = field(init=False)
    """SHA-256 of the rules as canonical JSON: which rules a decision was made by."""

    def __post_init__(self) -> None:
        text = json.dumps(self.described(), sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def parse(cls, rules: Any) -> Rules:
        """Read the descriptor's part. Raises UsageError."""
        if rules is None:
            return cls()
        if not isinstance(rules, Mapping) or not set(rules) <= {"allow", "deny"}:
            raise UsageError('rules are {"allow": [rules], "deny": [rules]}')
        return cls(_parsed(rules, "allow"), _parsed(rules, "deny") or ())

    def described(self) -> dict[str, Any]:
        """As they are recorded."""
        allow = None if self.allow is None else [rule.text for rule in self.allow]
        return {"allow": allow, "deny": [rule.text for rule in self.deny]}

    def __bool__(self) -> bool:
        return bool(self.deny) or self.allow is not None

    def judge(self, names: Iterable[str], methods: Iterable[str], *paths: str) -> Decision:
        """A request, by every name that it goes by, and every method and path that it may be taken for."""
        decision = Decision()
        if not self:
            return decision
        asked = frozenset(method.upper() for method in methods)
        read = frozenset().union(*map(readings, paths))
        for name in dict.fromkeys(canonical(name) for name in names if name):
            decision = self._decide(
                name,
                partial(Rule.denies, host=name, methods=asked, paths=read),
                partial(Rule.allows, host=name, methods=asked, paths=read),
            )
            if decision.denial:
                break
        return decision

    def judge_host(self, host: str) -> Decision:
        """A connection over which requests come: denied where none of them could be allowed."""
        name = canonical(host)
        return self._decide(name, lambda rule: rule.whole and rule.speaks_of(name), lambda rule: rule.speaks_of(name))

    def judge_tunnel(self, host: str) -> Decision:
        """Bytes that are no HTTP: they could be any request that a rule is about."""
        name = canonical(host)
        return self._decide(name, lambda rule: rule.speaks_of(name), lambda rule: rule.whole and rule.speaks_of(name))

    def _decide(self, name: str, denies: Callable[[Rule], bool], allows: Callable[[Rule], bool]) -> Decision:
        if self and not _HOSTLIKE.fullmatch(name):
            return Decision(None, f"{name} is no name of a host")
        denying = next((rule for rule in self.deny if denies(rule)), None)
        if denying is not None:
            return Decision(denying.text, f"{name} is denied by the rule {denying.text}")
        if self.allow is None:
            return Decision()
        allowing = next((rule for rule in self.allow if allows(rule)), None)
        if allowing is not None:
            return Decision(allowing.text)
        if any(rule.speaks_of(name) for rule in self.allow):
            return Decision(None, f"of {name} the rules allow other requests than this one")
        return Decision(None, f"{name} is not among the names that the rules allow")
