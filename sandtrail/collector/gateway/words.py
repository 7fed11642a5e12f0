"""Where any of many words stands in a text: found in one reading of it, at several GB/s.

The reading is Vectorscan's, the portable Hyperscan (Wang et al., "Hyperscan: A Fast Multi-pattern Regex Matcher for
Modern CPUs", NSDI 2019). What it costs depends on the text's length, and on how often a word stands there; not on how
many words there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import hyperscan

__all__ = ["Words"]

_WINDOW = 128 << 10
"""So much is read at once: what is found in it is held in memory, and in a hostile text it is something everywhere."""


class Words:
    """Words to look for, each with whether upper and lower case are the same."""

    def __init__(self, words: Iterable[tuple[bytes, bool]]) -> None:
        self._words = sorted(set(words), key=lambda word: len(word[0]))
        self._overlap = max((len(word) for word, _ in self._words), default=1) - 1
        self._begun = {word[:size].lower() for word, _ in self._words for size in range(1, len(word) + 1)}
        self._sizes: dict[bytes, list[int]] = {}
        """By the last byte of a beginning: how long those are that end in it, from the longest on."""
        for last, size in sorted({(begun[-1:], len(begun)) for begun in self._begun}, reverse=True):
            self._sizes.setdefault(last, []).append(size)
        self._database = _compile([(_literal(word), any_case) for word, any_case in self._words])

    def find(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        """Each place at which one stands, from left to right, with the longest one that stands there."""
        for start in range(0, len(text), _WINDOW):
            whole = not start and len(text) <= _WINDOW + self._overlap
            part = text if whole else text[start : start + _WINDOW + self._overlap]
            # By place; of several at one the longest comes last, since they are told of by where they end.
            found = {start + end - len(self._words[index][0]): index for index, end in _hits(self._database, part)}
            for place in sorted(found):
                if place < start + _WINDOW:
                    yield place, self._words[found[place]][0]

    def begun(self, text: bytes, start: int) -> int:
        """The first place from `start` on at which one has begun that the text may not hold whole, in whatever case;
        len(text) where there is none."""
        for size in self._sizes.get(text[-1:].lower(), ()):
            if len(text) - size >= start and text[-size:].lower() in self._begun:
                return len(text) - size
        return len(text)


def _literal(word: bytes) -> bytes:
    """As an expression in which no byte means anything else."""
    return b"".join(b"\\x%02x" % byte for byte in word)


def _compile(expressions: Sequence[tuple[bytes, bool]]) -> hyperscan.Database | None:
    if not expressions:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[expression for expression, _ in expressions],
        ids=list(range(len(expressions))),
        elements=len(expressions),
        flags=[hyperscan.HS_FLAG_CASELESS if any_case else 0 for _, any_case in expressions],
    )
    return database


def _hits(database: hyperscan.Database | None, text: bytes) -> list[tuple[int, int]]:
    """Which expressions match, and where they end, in the order of the ends."""
    hits: list[tuple[int, int]] = []
    if database is not None:
        database.scan(text, match_event_handler=lambda index, start, end, flags, context: hits.append((index, end)))
    return hits
