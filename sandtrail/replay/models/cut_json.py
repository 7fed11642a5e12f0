"""JSON that breaks off: what a body holds up to the place where the record of it ends."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["load_cut_json"]

_TOKEN = re.compile(
    r'(?P<string>"[^"\\]*(?:\\.[^"\\]*)*(?P<end>"?))|(?P<mark>[\[\]{},:])|(?P<plain>[^\s\[\]{},:"]+)', re.S
)
_HALF = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_CLOSING = {"[": "]", "{": "}"}
MAX_DEPTH = 500


def load_cut_json(data: bytes) -> Any:
    """The value up to where it breaks off: lists and maps are closed there, a string keeps its beginning, a number or a
    key that may go on is left out. None where that is no JSON either. Takes time in proportion to the bytes."""
    text = data.decode("utf-8-sig", "ignore")
    kept, depth, stack, key, tail = 0, 0, "", False, ""
    for token in _TOKEN.finditer(text):
        mark = token["mark"]
        if mark in _CLOSING and mark is not None:
            stack += mark
            key = mark == "{"
            if len(stack) > MAX_DEPTH:
                return None
        elif mark in ("]", "}"):
            stack = stack[:-1]
            key = False
        elif mark is not None:
            # What comes next is a key after a comma in a map, and a value after everything else.
            key = mark == "," and stack[-1:] == "{"
            continue
        elif key or (token.end() == len(text) and token["plain"]):
            continue
        elif token["string"] and not token["end"]:
            tail = '"'
        kept, depth = token.end(), len(stack)
    head = _HALF.sub("", text[:kept]) if tail else text[:kept]
    try:
        return json.loads(head + tail + "".join(_CLOSING[one] for one in reversed(stack[:depth])))
    except (ValueError, RecursionError):
        return None
