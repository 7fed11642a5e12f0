"""The shape of a model call, whatever API it went through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_PROBLEMS", "Choice", "Message", "ModelCall", "ToolCall", "scrub"]

MAX_PROBLEMS = 50


@dataclass(slots=True)
class ToolCall:
    """A tool that the model asked for."""

    id: str
    name: str
    arguments: str
    """As the model wrote them; often JSON, sometimes cut off, never to be trusted."""
    parsed: Any = None
    """The arguments as JSON; None where they are not JSON."""
    server: bool = False
    """It ran at the provider's side (web search, hosted MCP …): nothing of it is to be seen in the sandbox."""
    free: bool = False
    """Its arguments are a text of any form, as those of a custom tool."""


@dataclass(slots=True)
class Message:
    """One message of the conversation that the model was shown.

    A result of a tool is a message of its own, of the role `tool`, also where the API packs several into one message;
    what stands outside of the conversation (a system prompt, instructions) is its first, of the role `system`.
    """

    role: str
    text: str
    tool_call_id: str | None = None
    """The call that this is the result of; its name where the API gives calls no ids."""
    is_error: bool | None = None
    """Whether the result says that the tool failed; None where it says nothing."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    """The message as it was sent, unknown fields included."""


@dataclass(slots=True)
class Choice:
    """One of the answers of a call; most calls ask for one."""

    index: int
    text: str = ""
    reasoning: str = ""
    """What the model thought before it answered, as far as the API shows it."""
    refusal: str | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    """Results of tools that ran at the provider, where they came with the answer."""
    finish_reason: str | None = None
    message: dict[str, Any] = field(default_factory=dict)
    """The answer's message with every field that came, known or not."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields beside the message: logprobs, content filter results and the like."""


@dataclass(slots=True)
class ModelCall:
    """A request to a model and its answer, as far as both were seen."""

    api: str
    model: str = ""
    messages: list[Message] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    """Names of the tools that were offered."""
    choices: list[Choice] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    conversation: str = ""
    """The conversation's id, where the API has one."""
    previous: str = ""
    """The id of the response that this call continues, where the request carries it in place of the history."""
    response_id: str = ""
    response_model: str = ""
    streamed: bool = False
    cut: bool = False
    """The answer did not arrive whole: no end of stream, a body cut off, or none at all."""
    input_cut: bool = False
    """The request did not arrive whole."""
    error: str | None = None
    """What the server said in place of an answer."""
    extra: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problems_total: int = 0

    def problem(self, text: str) -> None:
        """Note something that could not be understood; the list is capped, the count is not."""
        self.problems_total += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(scrub(text)[:300])

    @property
    def finished(self) -> bool:
        """Whether each answer says why it ended."""
        return bool(self.choices) and all(choice.finish_reason for choice in self.choices)

    @property
    def text(self) -> str:
        """The first choice's words."""
        return self.choices[0].text if self.choices else ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The first choice's tool calls."""
        return self.choices[0].tool_calls if self.choices else []

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended; None while it is not known."""
        return self.choices[0].finish_reason if self.choices else None

    @property
    def reasoning(self) -> str:
        """What the model thought before its first choice."""
        return self.choices[0].reasoning if self.choices else ""

    @property
    def refusal(self) -> str | None:
        """What the model refused with, in the first choice."""
        return self.choices[0].refusal if self.choices else None


def scrub(text: str) -> str:
    """Text that UTF-8 can carry: halves of a surrogate pair that met are joined, lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
