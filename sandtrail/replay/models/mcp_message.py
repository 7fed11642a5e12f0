"""One message of the Model Context Protocol: JSON-RPC 2.0, a request or notification, or the answer to one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.mcp_words import content_words, error_words, name_of

__all__ = ["McpAnswer", "McpCall", "ident_of", "read_message"]

MAX_IDENT = 200


@dataclass(slots=True)
class McpCall:
    """A request or a notification, and its answer as far as it was seen."""

    method: str
    id: str = ""
    """The JSON-RPC id as JSON, so that 1 and "1" are two; empty for a notification, which nobody answers."""
    params: dict[str, Any] = field(default_factory=dict)
    from_server: bool = False
    """The server asks: for the words of a model (sampling), of the user (elicitation), for folders (roots)."""
    answered: bool = False
    result: Any = None
    error: str | None = None
    error_code: int | None = None
    wants: dict[str, McpCall] = field(default_factory=dict)
    """Instead of a result: what the server has to be told before, by its own names (2026-07-28)."""
    progress: int = 0
    """How many notifications of progress came while it ran."""

    @property
    def name(self) -> str:
        """The tool, the prompt, or the resource's URI."""
        return name_of(self.method, self.params)

    @property
    def arguments(self) -> Any:
        """What the tool or prompt is called with."""
        return self.params.get("arguments")

    @property
    def is_error(self) -> bool | None:
        """Whether the tool says that it failed; None while it says nothing."""
        told = self.result.get("isError") if isinstance(self.result, dict) else None
        return told if isinstance(told, bool) else None

    @property
    def structured(self) -> Any:
        """The result as data, where the tool gives one."""
        return self.result.get("structuredContent") if isinstance(self.result, dict) else None

    @property
    def text(self) -> str:
        """The result in words; parts that are none are named in brackets."""
        return content_words(self.result)

    def answer(self, told: McpAnswer) -> None:
        """Take the answer; of several the first stands."""
        if self.answered:
            return
        self.answered, self.result = True, told.result
        if told.error is not None:
            self.error, self.error_code = error_words(told.error)
        wanted = told.result.get("inputRequests") if isinstance(told.result, dict) else None
        for key, raw in list(wanted.items())[:50] if isinstance(wanted, dict) else []:
            if isinstance(raw, dict) and isinstance(raw.get("method"), str):
                params = raw.get("params")
                asked = McpCall(scrub(raw["method"]), params=params if isinstance(params, dict) else {})
                asked.from_server = True
                self.wants[scrub(key)] = asked


@dataclass(slots=True)
class McpAnswer:
    """A response whose request was made in another exchange, or has not been found yet."""

    id: str
    result: Any = None
    error: Any = None


def read_message(message: dict[str, Any], *, from_server: bool) -> McpCall | McpAnswer | None:
    """One JSON-RPC message; None where it is none."""
    ident = ident_of(message.get("id"))
    method, params = message.get("method"), message.get("params")
    if isinstance(method, str):
        return McpCall(scrub(method)[:200], ident, params if isinstance(params, dict) else {}, from_server)
    if "result" in message or "error" in message:
        return McpAnswer(ident, message.get("result"), message.get("error"))
    return None


def ident_of(value: Any) -> str:
    """An id or a token as JSON, a long one by its digest; empty where there is none."""
    if value is None:
        return ""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):  # nested, or an integer of more digits than Python writes
        return "?"
    return text if len(text) <= MAX_IDENT else sha256(text.encode()).hexdigest()
