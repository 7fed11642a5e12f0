"""What a decision asked to be run: commands out of tool calls and fenced blocks, and how an exec matches them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from sandtrail.replay.models.call import ModelCall, ToolCall, scrub
from sandtrail.replay.turns.words import SHELLS

__all__ = ["Command", "Match", "base", "commands_of", "match", "part_of", "script_of", "tokens"]

_KEYS = ("command", "cmd", "commands", "cmds", "script", "shell_command", "bash_command", "keystrokes", "code", "input")
_RUNS = re.compile(r"bash|shell|sh$|exec|terminal|command|run|python|code|interpreter", re.I)
_FENCE = re.compile(
    r"^[ \t]*(?P<mark>```+|~~~+)[ \t]*(?:bash|sh|shell|zsh|console|mswea_bash_command)[ \t]*\n"
    r"(?P<body>.*?)(?:^[ \t]*(?P=mark)|\Z)",
    re.M | re.S,
)
_TOKEN = re.compile(r"[A-Za-z0-9_.~/+@%-]+")
MAX_COMMANDS = 200
CUT_AT = 4096
"""A word of an argv that is as long as this may have been cut by the decoder."""
MAX_TEXT = 1_000_000


@dataclass(frozen=True)
class Command:
    """One command that a decision asked for."""

    text: str
    argv: tuple[str, ...] | None = None
    """The words, where the decision gave words rather than a line for a shell."""
    tool_call_id: str | None = None

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words that a shell would see in a plain line; empty where it is no plain line."""
        if self.argv is not None:
            return self.argv
        return _split(self.text)

    @cached_property
    def tokens(self) -> frozenset[str]:
        """Every name in the text, and the last part of each that is a path."""
        return tokens(self.text)

    @cached_property
    def parts(self) -> frozenset[tuple[str, ...]]:
        """The simple commands of a compound line, as words."""
        return frozenset(w for piece in re.split(r"&&|\|\||[;|&\n]", self.text) if (w := _program(_split(piece))))


def _split(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:  # an open quote
        return ()


def _program(words: Sequence[str]) -> tuple[str, ...]:
    """A simple command as the words that the program gets: without redirections and variables set before it."""
    out: list[str] = []
    rest = iter(words)
    for word in rest:
        redirection = re.match(r"\d*(?:<<<?|>>|[<>])(.*)", word)
        if redirection:
            if not redirection[1]:
                next(rest, None)
        elif out or not re.match(r"\w+=", word):
            out.append(word)
    return tuple(out)


def tokens(text: str) -> frozenset[str]:
    """Names in a text, with the last part of each that is a path."""
    found = set(_TOKEN.findall(text[:MAX_TEXT]))
    return frozenset(found | {t.rsplit("/", 1)[-1] for t in found if "/" in t} - {""})


def base(path: str) -> str:
    """The last part of a program's path, without the dash of a login shell."""
    return PurePosixPath(path).name.lstrip("-")


def script_of(argv: Sequence[str]) -> str | None:
    """The line that a shell is to run by `-c`; None where argv is no such call."""
    if not argv or base(argv[0]) not in SHELLS:
        return None
    for place, word in enumerate(argv[1:6], start=1):
        if not word.startswith(("-", "+")):
            return None
        if not word.startswith("--") and word.startswith("-") and "c" in word and place + 1 < len(argv):
            return argv[place + 1]
    return None


def commands_of(call: ModelCall) -> list[Command]:
    """The commands that an answer asks to be run; fenced blocks count only where there are no tool calls."""
    found: list[Command] = []
    for tool in call.tool_calls:
        if not tool.server:
            found += _of_tool(tool)
    if not call.tool_calls:
        found += [Command(m["body"].strip("\n")) for m in _FENCE.finditer(call.text[:MAX_TEXT])]
    return [command for command in found if command.text.strip()][:MAX_COMMANDS]


def _of_tool(tool: ToolCall) -> list[Command]:
    if isinstance(tool.parsed, dict):
        # "code" and "input" also name things that are not run; they count for tools that run something.
        keys = [k for k in _KEYS if k in tool.parsed and (k not in ("code", "input") or _RUNS.search(tool.name))]
        return [c for key in keys for c in _of_value(tool.parsed[key], tool.id, lines=key in ("commands", "cmds"))]
    if isinstance(tool.parsed, list | str):
        return list(_of_value(tool.parsed, tool.id)) if _RUNS.search(tool.name) else []
    if (
        tool.arguments
        and tool.parsed is None
        and _RUNS.search(tool.name)
        and not tool.arguments.lstrip().startswith("{")
    ):
        return [Command(tool.arguments, tool_call_id=tool.id)]
    return []


def _of_value(value: Any, ident: str, *, lines: bool = False) -> Iterable[Command]:
    if isinstance(value, str):
        yield Command(scrub(value), tool_call_id=ident)
    elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        value = [scrub(v) for v in value]
        if (line := script_of(value)) is not None:
            yield Command(line, tool_call_id=ident)
        elif lines or " " in value[0].strip():  # a list of lines, not of words
            yield from (Command(v, tool_call_id=ident) for v in value)
        else:
            yield Command(shlex.join(value), tuple(value), tool_call_id=ident)
    elif isinstance(value, list):
        for entry in value[:MAX_COMMANDS]:
            if isinstance(entry, dict):
                yield from (c for key in _KEYS if key in entry for c in _of_value(entry[key], ident))
            elif isinstance(entry, str):
                yield Command(scrub(entry), tool_call_id=ident)


@dataclass(frozen=True, slots=True)
class Match:
    """How well an exec fits a decided command."""

    confidence: float
    reason: str


def match(argv: Sequence[str], command: Command) -> Match | None:
    """Whether this argv is the decided command; None where it is not."""
    text = command.text.strip()
    if not argv or not text:
        return None
    if any(arg.strip() == text for arg in argv[1:]) or (len(argv) == 1 and argv[0] == text):
        return Match(1.0, "argv equals the decided command")
    if any(len(arg) >= CUT_AT and text.startswith(arg) for arg in argv[1:]):
        return Match(0.97, "argv begins as the decided command, as far as it was kept")
    words = command.words
    if words and _same_words(argv, words):
        return Match(1.0, "argv equals the decided command")
    if len(text) >= 6 and any(text in arg for arg in argv[1:]):
        return Match(0.9, "argv carries the decided command")
    if len(words) > 1 and len(argv) > len(words) and _same_words(argv[-len(words) :], words):
        return Match(0.9, "argv ends with the decided command")
    return None


def part_of(argv: Sequence[str], command: Command) -> Match | None:
    """Whether this argv is one of the simple commands of a decided line, as a shell that reads lines runs them."""
    if argv and any(_same_words(argv, words) for words in command.parts):
        return Match(0.8, "argv equals a part of the decided command")
    return None


def _same_words(argv: Sequence[str], words: Sequence[str]) -> bool:
    return len(argv) == len(words) and tuple(argv[1:]) == tuple(words[1:]) and base(argv[0]) == base(words[0])
