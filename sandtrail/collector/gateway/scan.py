"""Replaces credentials in a text that arrives in pieces: the pieces' borders never make a difference.

What comes out, put together, is what a scan of the whole text at once would give. Bytes that could yet turn out to
belong to a credential are held back until more has come; that is the record's business only, the traffic goes on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

from sandtrail.collector.gateway.patterns import REACH, Rule
from sandtrail.collector.gateway.words import Words

__all__ = ["Beginnings", "Literals", "Patterns", "Scan"]

Mark = Callable[[str, bytes], bytes]
_HEAD = 4
# The first bytes of a secret tell nothing; from here on they are replaced where a text breaks off in one.
_TELLING = 6


class Beginnings:
    """Where a text ends in what may be the beginning of a word."""

    def __init__(self, words: Iterable[bytes]) -> None:
        self._words = sorted(words)
        self._longest = max(map(len, self._words), default=1) - 1
        self._heads = Words((word[:_HEAD], False) for word in self._words)

    def find(self, text: bytes, start: int) -> int:
        """The first place from `start` on at which a word may have begun; len(text) where there is none."""
        start = max(start, len(text) - self._longest)
        for place, _ in self._heads.find(text[start:]):
            if self._begins(text[start + place :]):
                return start + place
        for at in range(max(start, len(text) - _HEAD + 1), len(text)):
            if self._begins(text[at:]):
                return at
        return len(text)

    def _begins(self, tail: bytes) -> bool:
        place = bisect_left(self._words, tail)
        return place < len(self._words) and self._words[place].startswith(tail)


class Patterns:
    """A set of rules, prepared for scanning."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.anchors = Words((anchor, rule.any_case) for rule in rules for anchor in rule.anchors)
        # At a place where a long anchor stands, the rules of every shorter one that it begins with apply too. Whether
        # upper and lower case are as they should be is for the rules' own patterns to see.
        self.rules = {
            anchor: tuple(
                rule for rule in rules if any(anchor.lower().startswith(short.lower()) for short in rule.anchors)
            )
            for anchor in {anchor for rule in rules for anchor in rule.anchors}
        }
        """Those to try where an anchor stands."""


class Literals:
    """Secrets that are known word for word, because they stood where only a credential stands; of 12 bytes or more."""

    LEAST = 12

    def __init__(self) -> None:
        self.names: dict[bytes, str] = {}
        self._by_head: dict[bytes, list[bytes]] = {}
        self._heads: Words | None = None
        self._beginnings: Beginnings | None = None

    def add(self, secret: bytes, name: str) -> None:
        """From now on `secret` is replaced wherever it stands."""
        if secret in self.names or len(secret) < self.LEAST:
            return
        self.names[secret] = name
        alike = self._by_head.setdefault(secret[: self.LEAST], [])
        alike.append(secret)
        alike.sort(key=len, reverse=True)
        self._heads = self._beginnings = None

    @property
    def beginnings(self) -> Beginnings:
        """Where a text ends in what may be the beginning of one."""
        if self._beginnings is None:
            self._beginnings = Beginnings(self.names)
        return self._beginnings

    def find(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        """Each place at which a secret stands, from left to right, with the longest one that stands there."""
        if self.names and self._heads is None:
            self._heads = Words((head, False) for head in self._by_head)
        for place, head in self._heads.find(text) if self._heads is not None else ():
            for secret in self._by_head[head]:
                if text.startswith(secret, place):
                    yield place, secret
                    break


class Scan:
    """One text. `count` is how many credentials were replaced so far, `tried` at how many places one may have begun:
    that is what a scan costs."""

    def __init__(self, patterns: Patterns, literals: Literals, mark: Mark) -> None:
        self._patterns = patterns
        self._literals = literals
        self._mark = mark
        self._held_literal = b""
        self._held = b""
        self._context = b""
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.count = 0
        self.tried = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; returns what of the text is settled, credentials replaced."""
        self._waiting.append(data)
        self._waiting_size += len(data)
        # Many small pieces behind a long undecided one would be scanned again and again.
        if self._waiting_size * 8 < len(self._held) + len(self._held_literal):
            return b""
        return self._scan(self._take(), last=False, cut=False)

    def finish(self, data: bytes = b"", *, cut: bool = False) -> bytes:
        """The end of the text, or all of it; with `cut` it breaks off, and what may have begun as a credential is
        replaced."""
        self._waiting.append(data)
        return self._scan(self._take(), last=True, cut=cut)

    def _take(self) -> bytes:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        return data

    def _scan(self, data: bytes, *, last: bool, cut: bool) -> bytes:
        text = self._replace_literals(self._held_literal + data, last=last, cut=cut)
        return self._replace_patterns(text, last=last, cut=cut)

    def _replace_literals(self, text: bytes, *, last: bool, cut: bool) -> bytes:
        literals, out, at = self._literals, [], 0
        if not (text and literals.names):
            return text
        for place, secret in literals.find(text):
            if place >= at:
                out += [text[at:place], self._marked(literals.names[secret], secret)]
                at = place + len(secret)
        begun = len(text) if last and not cut else literals.beginnings.find(text, at)
        out.append(text[at:begun])
        if not last:
            self._held_literal = text[begun:]
        elif cut and len(text) - begun >= _TELLING:
            out.append(self._marked("cut-off", text[begun:]))
        else:
            out.append(text[begun:])
        return b"".join(out)

    def _replace_patterns(self, data: bytes, *, last: bool, cut: bool) -> bytes:
        if not (data or self._held):
            return b""
        # One byte of what went before stays in sight: rules look at what stands before an anchor.
        text = self._context + self._held + data
        patterns, out = self._patterns, []
        done = at = taken = len(self._context)
        stop = len(text)
        for place, anchor in patterns.anchors.find(text):
            self.tried += 1
            if place < at:
                continue
            rules = patterns.rules[anchor]
            if not last and stop - place <= REACH and any(rule.undecided.fullmatch(text, place) for rule in rules):
                stop = place
                break
            for rule in rules:
                if match := rule.pattern.match(text, place):
                    start, taken = match.span(match.lastindex or 0)
                    if rule.name:
                        out += [text[done:start], self._marked(rule.name, text[start:taken])]
                        done = taken
                    at = taken
                    break
            else:
                begun = cut and any(rule.name and rule.undecided.fullmatch(text, place) for rule in rules)
                if begun and len(text) - place > len(anchor):
                    out += [text[done:place], self._marked("cut-off", text[place:])]
                    done = at = len(text)
                    break
                at = place + 1
        else:
            if not last:
                stop = patterns.anchors.begun(text, taken)
        out.append(text[done:stop])
        self._context = text[:stop][-1:]
        self._held = text[stop:]
        return b"".join(out)

    def _marked(self, name: str, secret: bytes) -> bytes:
        self.count += 1
        return self._mark(name, secret)
