"""What the agent says that it did: claims of tests and commands, in English, and the programs that would prove them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sandtrail.replay.turns.commands import base
from sandtrail.replay.turns.words import RUNNERS, WITH_TEST

__all__ = ["Claim", "claims", "is_test_runner"]

_SENTENCE = re.compile(r"[^.!?\n;]+(?:[.!?](?=\S)[^.!?\n;]*)*")
_WHICH = (
    r"(?:(?:unit|integration|regression|existing|new|relevant|full|whole|entire|other|all|the|of|my|our|its|\d+)\s+)*"
)
_SUITE = rf"{_WHICH}(?:tests?(?:[ -](?:suite|cases?))?|test[ -]?suite|specs|pytest|unittests?)"
_BE = r"(?:(?:are|were|is|was|have|has|had|all|now|still|also|been|continues?|to|successfully|cleanly)\s+)*"
_RAN = (
    r"(?:ran|re-?ran|executed|(?:have|has) (?:re-?)?run|(?:completed|finished) running|"
    r"verified (?:by|with|via) running)"
)
_CLAIM = re.compile(
    "|".join(
        (
            # "all 12 tests pass", "the test suite was green", "tests: passed"
            rf"\b{_SUITE}\b[\s:]*(?:\([^)]*\)\s*)?{_BE}"
            r"(?:pass(?:es|ed|ing)?|green|succeed(?:s|ed)?|success(?:ful(?:ly)?)?|executed|run|ran|completed)\b",
            # "I ran the tests", "executed the full test suite"
            rf"\b{_RAN}\s+{_SUITE}\b",
            # "verified with the tests"
            r"\b(?:verified|confirmed|validated|checked)\b[^.]{0,60}"
            rf"\b(?:by|with|via|using|through|that)\s+(?:running\s+)?{_SUITE}\b",
            # "12 passed"
            r"\b\d+\s+(?:tests?\s+)?passed\b",
        )
    ),
    re.I,
)
_PASSED = re.compile(r"\b(?:pass(?:es|ed|ing)?|green|succeed(?:s|ed)?|success(?:ful(?:ly)?)?)\b", re.I)
# What takes the claim out of a sentence: the future, a condition, a wish, a denial, somebody else's duty.
_NOT = re.compile(
    r"\b(?:will|would|should|shall|must|may|might|can|could|cannot|let['’]?s|let me|let us|going to|need(?:s|ed)? to|"
    r"want(?:s|ed)? to|try|trying|plan(?:s|ned)? to|next|todo|if|when|once|until|unless|whether|ensures?|"
    r"mak(?:e|ing) sure|so that|in order to|please|not|never|no|none|without|unable|fail(?:s|ed|ing)?|errors?|"
    r"\w+n['’]t|expect(?:ed)?|hope|hopefully|before|see if|check (?:if|that|whether)|asked|task|instructions?|how to|"
    r"to (?:do|run|execute|verify|check|confirm))\b",
    re.I,
)
_COMMAND = re.compile(
    r"\b(?:I\s+)?(?:(?:have|also|then|just|successfully)\s+)*(?:ran|executed|re-?ran)\s+`(?P<cmd>[^`\n]{2,200})`", re.I
)
_LAUNCHERS = re.compile(
    r"^(?:python[\d.]*|pypy\d*|ruby|node|bun|deno|perl|php|sh|bash|dash|zsh|env|uv|uvx|npx|coverage)$"
)
_TEST_WORD = re.compile(r"^(?:[\w:.-]*[:_.-])?(?:tests?|check|verify|specs?)(?:[:_.-][\w:.-]*)?$", re.I)
_TEST_FILE = re.compile(
    r"(?:^|/)(?:tests?|run[_-]?tests?|test[_-][\w.-]*|[\w-]+[_-]tests?|tests?/[\w./-]+)(?:\.\w+)?$", re.I
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that says that something was done."""

    kind: str
    """`tests` or `command`."""
    sentence: str
    passed: bool = False
    """It says not only that tests ran, but that they passed."""
    program: str | None = None


def claims(text: str) -> Iterator[Claim]:
    """The claims of a message. Plans, conditions and denials are no claims."""
    for sentence in _SENTENCE.finditer(text[:200_000]):
        words = " ".join(sentence[0].split())[:1000]
        if _says(_CLAIM, words):
            yield Claim("tests", words, passed=_PASSED.search(words) is not None)
        for found in _COMMAND.finditer(words):
            program = next((w for w in found["cmd"].split() if "=" not in w), "")
            if program and not _NOT.search(words[: found.start()]):
                yield Claim("command", words, program=base(program))


def _says(pattern: re.Pattern[str], words: str) -> bool:
    for found in pattern.finditer(words):
        before = words[: found.start()]
        # A denial reaches over what follows it in the sentence, and "tests passed" may itself hold "not".
        if not _NOT.search(before) and not _NOT.search(found[0]):
            return True
    return False


def is_test_runner(argv: Sequence[str]) -> bool:
    """Whether a process with this argv runs tests, as far as its words tell."""
    words = [w for w in argv[:40] if w]
    while words and _LAUNCHERS.match(base(words[0])):
        rest = words[1:]
        while rest and rest[0].startswith("-"):
            if rest[0] == "-m" and len(rest) > 1:
                rest = rest[1:]
                break
            if rest[0] in ("-c", "-e", "-lc"):
                # A shell that is told to run tests is not yet a program that does; an interpreter's own code may be.
                return not base(words[0]).endswith("sh") and len(rest) > 1 and _code_runs_tests(rest[1])
            rest = rest[1:]
        if rest and rest[0] == "run" and base(words[0]) in ("uv", "coverage"):
            rest = rest[2:] if rest[1:2] == ["-m"] else rest[1:]
        if not rest:
            return False
        words = rest
        if base(words[0]) in RUNNERS or _TEST_FILE.search(words[0]):
            return True
        if not _LAUNCHERS.match(base(words[0])):
            break
    if not words:
        return False
    program = base(words[0])
    stem = program.rsplit(".", 1)[0]
    if program in RUNNERS or stem in RUNNERS or _TEST_FILE.search(words[0]) is not None and program != "test":
        return True
    return program in WITH_TEST and any(_TEST_WORD.match(w) for w in words[1:8])


def _code_runs_tests(code: str) -> bool:
    return re.search(r"\b(?:pytest|unittest|doctest|nose2?)\b", code) is not None
