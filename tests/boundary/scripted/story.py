"""What the scripted models say, whatever API they say it through: they ask for one command, then tell what it said."""

from __future__ import annotations

import json

THOUGHT = ["They want to know ", "what is there."]
FIRST = ["I list ", "the files — ", "one moment."]
TOOL = "bash"
CALL_ID = "call_1"
ARGUMENTS = {"command": "echo a.txt b.txt"}
LAST = ["There are ", "two files: ", "a.txt and b.txt."]
QUESTION = "Which files are there?"
SYSTEM = "You run commands."


def pieces(text: str, size: int = 7) -> list[str]:
    """A text as a stream brings it."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def arguments() -> list[str]:
    """The arguments of the call, piece by piece."""
    return pieces(json.dumps(ARGUMENTS))
