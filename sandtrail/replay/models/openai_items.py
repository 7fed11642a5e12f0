"""The items of OpenAI's Responses API, in a request's `input` and in an answer's `output`: messages and calls of tools.

Spec: the OpenAPI document of the OpenAI API, InputItem and OutputItem. A type that is not known is read by what its
kind of name means there (`…_call`, `…_output`), and the caller is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sandtrail.replay.models.answer import as_json, as_text, flowing
from sandtrail.replay.models.answer import tool_call as make_tool_call
from sandtrail.replay.models.call import Message, ToolCall, scrub
from sandtrail.replay.models.media import media_words
from sandtrail.replay.models.openai_chat import content_text

__all__ = [
    "is_known",
    "kind_of",
    "messages",
    "reasoning",
    "refusal",
    "results",
    "tool_call",
    "tool_names",
    "unknown_parts",
    "words",
]

Item = dict[str, Any]

_WRITTEN = {
    "function_call": "arguments",
    "custom_tool_call": "input",
    "local_shell_call": "action",
    "shell_call": "action",
    "apply_patch_call": "operation",
    "computer_call": "actions",
    "tool_search_call": "arguments",
    "mcp_call": "arguments",
    "mcp_approval_request": "arguments",
    "web_search_call": "action",
    "file_search_call": "queries",
    "code_interpreter_call": "code",
    "image_generation_call": "revised_prompt",
    "program": "code",
}
"""Calls of tools, and where they have what the model wrote."""
_JSON = frozenset({"function_call", "mcp_call", "mcp_approval_request"})
"""Of these what was written is to be JSON; of the others it may be a text of any form."""
_ANY_OF = ("arguments", "input", "action", "operation", "code", "query")
_AT_PROVIDER = frozenset(
    {"mcp_call", "mcp_approval_request", "web_search_call", "file_search_call", "code_interpreter_call"}
    | {"image_generation_call", "program"}
)
_OUTPUTS = frozenset(
    {"function_call_output", "custom_tool_call_output", "local_shell_call_output", "shell_call_output"}
    | {"apply_patch_call_output", "computer_call_output", "program_output", "tool_search_output"}
    | {"mcp_approval_response"}
)
_BY_ASSISTANT = frozenset({"reasoning", "compaction", "item_reference", "mcp_list_tools"})
_ELSE = frozenset({"message", "additional_tools", "configuration_update", "compaction_trigger"})
_ANSWERED = frozenset({"output_text", "text", "refusal", "reasoning_text", "summary_text", "output_audio"})
_KNOWN = _OUTPUTS | _BY_ASSISTANT | _ELSE | _WRITTEN.keys()


def kind_of(item: Item) -> str:
    """An item's type. What has a role and no type is a message."""
    return as_text(item.get("type")) or ("message" if "role" in item else "")


def is_known(item: Item) -> bool:
    """Whether this is a type of item that the API had when this was written."""
    return kind_of(item) in _KNOWN


def _parts(item: Item, *keys: str) -> list[Item]:
    lists = (item.get(key) for key in keys)
    return [part for found in lists if isinstance(found, list) for part in found if isinstance(part, dict)]


def unknown_parts(item: Item) -> list[str]:
    """The types of parts of a message in an answer that this does not know."""
    kinds = [as_text(part.get("type")) for part in _parts(item, "content")] if kind_of(item) == "message" else []
    return [kind for kind in kinds if kind not in _ANSWERED]


def words(item: Item) -> str:
    """The words of a message of the assistant's, as the API's own clients join them."""
    if not isinstance(item.get("content"), list):
        return content_text(item.get("content"))
    return flowing(as_text(part.get("text")) for part in _parts(item, "content"))


def refusal(item: Item) -> str:
    """What a message of the assistant's refuses with."""
    return flowing(as_text(part.get("refusal")) for part in _parts(item, "content"))


def reasoning(item: Item) -> str:
    """What a reasoning item shows: its summary and its content; an encrypted one shows nothing."""
    return scrub("\n".join(filter(None, (as_text(part.get("text")) for part in _parts(item, "summary", "content")))))


def tool_call(item: Item) -> ToolCall | None:
    """The call of a tool that an item is; None where it is none."""
    kind = kind_of(item)
    if not (kind in _WRITTEN or kind.endswith("_call")):
        return None
    keys = (_WRITTEN.get(kind, ""), *_ANY_OF)
    value = next((item[key] for key in keys if item.get(key) is not None), None)
    name = as_text(item.get("name")) or kind.removesuffix("_call")
    return make_tool_call(_ident(item), name, value, _at_provider(item, kind), kind not in _JSON)


def _ident(item: Item) -> str:
    return as_text(item.get("call_id") or item.get("id"))


def _at_provider(item: Item, kind: str) -> bool:
    if kind == "shell_call":
        environment = item.get("environment")
        return isinstance(environment, dict) and environment.get("type") not in (None, "local")
    if kind == "tool_search_call":
        return item.get("execution") != "client"
    # What the client is to answer has a call_id for its answer.
    return kind in _AT_PROVIDER or (kind not in _KNOWN and item.get("call_id") is None)


def results(items: Iterable[Item]) -> list[Message]:
    """What tools at the provider gave, as items of their own or within the item of the call."""
    items = list(items)
    found = [_result(item) for item in items if kind_of(item).endswith("_output")]
    return found + [own for item in items if (own := _own_result(item)) is not None]


def _own_result(item: Item) -> Message | None:
    kind, failed = kind_of(item), item.get("error") is not None
    key = {"mcp_call": "output", "code_interpreter_call": "outputs", "file_search_call": "results"}.get(kind)
    value = item.get("error") if failed else item.get(key) if key else None
    if kind not in _AT_PROVIDER or value is None:
        return None
    return Message("tool", as_json(value), _ident(item), failed or None, raw=item)


def messages(items: Iterable[Item], unknown: Callable[[str], None]) -> list[Message]:
    """Items of a request as messages. All that the model said at one go (thoughts, words, calls) is one message.

    What the provider's tools gave meanwhile comes after it. `unknown` is told of each type that is not known.
    """
    out: list[Message] = []
    run = _Run()
    for item in items:
        if not is_known(item):
            unknown(kind_of(item))
        message = _message(item)
        if message.role == "assistant":
            run.said.append(message)
            run.at_provider |= {call.id for call in message.tool_calls if call.server}
            run.given += [own] if (own := _own_result(item)) is not None else []
        elif message.role == "tool" and message.tool_call_id in run.at_provider:
            run.given.append(message)
        else:
            out += [*run.end(), message]
            run = _Run()
    return out + run.end()


class _Run:
    """What the model said at one go, so far."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.given: list[Message] = []
        """What the provider's tools gave meanwhile."""
        self.at_provider: set[str] = set()
        """The calls that are the provider's to answer."""

    def end(self) -> list[Message]:
        """The one message, and those of tools; the items are kept one by one."""
        if len(self.said) < 2:
            return self.said + self.given
        text = "\n".join(message.text for message in self.said if message.text)
        calls = [call for message in self.said for call in message.tool_calls]
        raw = {"role": "assistant", "items": [message.raw for message in self.said]}
        return [Message("assistant", text, tool_calls=calls, raw=raw), *self.given]


def _message(item: Item) -> Message:
    kind = kind_of(item)
    role = as_text(item.get("role"))
    if kind == "message":
        said = words(item) + refusal(item) if role == "assistant" else content_text(item.get("content"))
        return Message(role or "user", said, raw=item)
    if kind in _OUTPUTS or kind.endswith("_output"):
        return _result(item)
    call = tool_call(item)
    if call is not None or kind == "reasoning":
        return Message("assistant", "", tool_calls=[call] if call else [], raw=item)
    if kind == "additional_tools":
        return Message(role or "developer", f"[tools: {', '.join(tool_names(item.get('tools')))}]", raw=item)
    named = " ".join(filter(None, (kind or "item", as_text(item.get("id")))))
    return Message("assistant" if kind in _BY_ASSISTANT else role or "user", f"[{named}]", raw=item)


def _result(item: Item) -> Message:
    kind = kind_of(item)
    answered = item.get("call_id") or item.get("approval_request_id") or item.get("id")
    value = item.get("output", item.get("result"))
    if kind == "shell_call_output":
        text = _shell_text(value)
    elif kind == "mcp_approval_response":
        text = "approved" if item.get("approve") is True else "refused"
    elif kind == "tool_search_output":
        text = f"[tools: {', '.join(tool_names(item.get('tools')))}]"
    else:
        text = _object_words(value) if isinstance(value, dict) else content_text(value)
    told = item.get("status") if kind == "apply_patch_call_output" else None
    failed = told == "failed" if told in ("completed", "failed") else None
    return Message("tool", text, as_text(answered) if answered is not None else None, failed, raw=item)


def _object_words(value: Item) -> str:
    return media_words(value, as_text(value.get("type")) or "output")


def _shell_text(outputs: Any) -> str:
    """What a shell's commands gave: how each ended, then its words."""
    if not isinstance(outputs, list):
        return content_text(outputs)
    out = []
    for number, one in enumerate(outputs[:1000], start=1):
        one = one if isinstance(one, dict) else {}
        outcome = one.get("outcome")
        outcome = outcome if isinstance(outcome, dict) else {}
        ended = (
            f"exit code: {as_text(outcome['exit_code'])}" if "exit_code" in outcome else as_text(outcome.get("type"))
        )
        # Of several commands none is the one exit code of the call.
        out.append(f"command {number}: {ended}" if len(outputs) > 1 else ended)
        out += [as_text(one.get("stdout")), as_text(one.get("stderr"))]
    if len(outputs) > 1000:
        out.append(f"[{len(outputs) - 1000} commands left out]")
    return "\n".join(filter(None, out))


def tool_names(tools: Any, limit: int = 1000) -> list[str]:
    """The names of the tools that are offered: those of a namespace after it, a nameless tool by its type."""
    out: list[str] = []
    for tool in tools[:limit] if isinstance(tools, list) else []:
        if isinstance(tool, dict):
            out.append(as_text(tool.get("name") or tool.get("server_label") or tool.get("type")))
            out += [as_text(inner.get("name")) for inner in _parts(tool, "tools")]
    return out[:limit]
