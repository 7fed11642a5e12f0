"""What the HTTP API answers about one turn: input, decision, outputs, and what was claimed of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Ref, Shape

__all__ = [
    "ClaimShape",
    "Counts",
    "Decision",
    "EdgeShape",
    "Input",
    "Message",
    "Origin",
    "OtherWitness",
    "Output",
    "Outputs",
    "Rewritten",
    "StartedBy",
    "ToolCall",
    "Turn",
]


class Origin(Shape):
    """An answer that holds the same words."""

    ref: Ref
    object: str = Field(description="The request that it answered: METHOD url")


class Message(Shape):
    """A message that the model was shown."""

    role: str = Field(description="Who said it: system, user, assistant, tool …")
    text: str = Field(description="The words; of long ones the beginning and the end, with how much lies between")
    characters: int = Field(description="How long the words are in all")
    tool_call_id: str | None = Field(description="Which tool call this is the result of")
    tool: str | None = Field(description="The tool of that call, where the history names it")
    is_error: bool | None = Field(description="Whether it says that the tool failed; null where it does not say")
    origin: Origin | None = Field(description="Of a tool's result: an answer of a server that holds the same words")


class Rewritten(Shape):
    """A message of the turn before that the model is not shown any more as it was."""

    role: str = Field(description="Who said it")
    tool_call_id: str | None = Field(description="Which tool call it is the result of")
    tool: str | None = Field(description="The tool of that call")
    was: str | None = Field(description="The words before; null where the message was put in")
    now: str | None = Field(description="The words that stand there now; null where the message is gone")


class Input(Shape):
    """What the model was shown in a turn."""

    ref: Ref
    time_ns: Ns
    api: str = Field(description="The API that the call went through: openai.chat, anthropic.messages …")
    model: str = Field(description="The model that was asked for")
    messages_total: int = Field(description="How many messages the request carried in all")
    new_total: int = Field(description="How many of them are new since the turn before")
    new_messages: list[Message] = Field(description="Those; the last 200")
    changed: list[Rewritten] = Field(description="What was edited in the history before them; the first 20")
    cut: bool = Field(description="The request was not recorded whole: something of it is missing")


class ToolCall(Shape):
    """A tool that the model asked for."""

    id: str = Field(description="The call's id, by which its result is found")
    name: str = Field(description="The tool")
    arguments: str = Field(description="As the model wrote them")
    server: bool = Field(description="It ran at the provider's side, where nothing of it can be seen")
    result: str | None = Field(description="What it gave, where it ran at the provider's side and the answer says so")
    failed: bool | None = Field(description="Whether that says that it failed; null where it says nothing")


class Decision(Shape):
    """What the model answered."""

    ref: Ref
    time_ns: Ns
    text: str = Field(description="The model's words")
    reasoning: str = Field(description="What it thought before them, as far as the API shows it")
    refusal: str | None = Field(description="What it refused with")
    tool_calls: list[ToolCall] = Field(description="Tools that it asked for")
    commands: list[str] = Field(description="Commands that these ask to be run")
    finish_reason: str | None = Field(description="Why the answer ended; null where it did not")
    streamed: bool = Field(description="It came as a stream of events")
    cut: bool = Field(description="It did not arrive whole")
    error: str | None = Field(description="What the server said in place of an answer")
    problems: list[str] = Field(description="What could not be understood")


class EdgeShape(Shape):
    """Why an act stands under its turn."""

    reason: str = Field(description="In words")
    confidence: float = Field(ge=0, le=1, description="1 is certain")


class Output(Shape):
    """Something that happened, or several alike in one row."""

    ref: Ref
    kind: str = Field(description="The event's kind; `folded` for a row that stands for many")
    time_ns: Ns
    pid: int = Field(description="Process, as numbered inside of the sandbox; 0 where none is known")
    pid_start_ns: int = Field(description="When that process started; with the pid it names it for good")
    depth: int = Field(description="How deep in the tree of programs of the turn")
    process: str = Field(description="The program's name")
    object: str = Field(description="What it was done to: command line, path, address, name, METHOD url")
    summary: str = Field(description="What to say of it beside that")
    result: int | None = Field(description="Exit status, HTTP status, or what the call returned")
    errno: int | None = Field(description="Why a call failed; 0 where it did not")
    count: int = Field(description="How many events this row stands for")
    edge: EdgeShape | None = Field(description="Why it stands here; null where nothing explains it")
    flags: list[str] = Field(
        description="Neutral: decided, folded, gateway, local, transport. Telling: late, refused, credential, hidden, "
        "failed, mismatch (headers against body), asks (a server's own request), cut, upload, "
        "download"
    )
    refs: list[str] = Field(description="The first of its evidence")


class Counts(Shape):
    """How much of a kind a turn holds."""

    process: int = Field(description="Programs that ran")
    file: int = Field(description="Files changed")
    net: int = Field(description="Connections")


class StartedBy(Shape):
    """The tool call whose arguments the first message of a conversation quotes."""

    turn: int = Field(description="The turn that made it")
    thread: int = Field(description="Of which conversation")
    tool_call_id: str = Field(description="The call's id")
    name: str = Field(description="The tool")
    confidence: float = Field(ge=0, le=1, description="1 is certain")


class ClaimShape(Shape):
    """What the agent said of itself over OTLP: its own word, never a fact."""

    ref: Ref
    n: int = Field(description="Which event of the frame; with the ref it names the claim's event")
    kind: Literal["claim.span", "claim.log"] = Field(description="A span, or a log record")
    received_ns: Ns
    title: str = Field(description="The operation, and upon what")
    operation: str = Field(description="chat, execute_tool, invoke_agent …, as it calls it")
    told: dict[str, Any] = Field(description="What it says, in one shape for every convention; fitted")
    edge: EdgeShape | None = Field(description="Why it stands beside this turn; null where it stands beside none")
    note: str | None = Field(description="What is odd about a claim of no turn")


class OtherWitness(Shape):
    """Another gateway that tells of the same model call."""

    ref: str = Field(description="Its record")
    source: str = Field(description="Who tells of it")
    differs: list[str] = Field(description="In what it tells something else than the turn shows; empty where it agrees")


class Turn(Shape):
    """One round of the agent."""

    index: int = Field(description="Its number; 0 is the start")
    kind: Literal["start", "model"] = Field(description="start: what ran before the first model call")
    thread: int = Field(description="Which conversation it is of, where there are several")
    note: str | None = Field(description="What is unusual about its history: edited, sent again, branched")
    continues: int | None = Field(description="The turn whose conversation it continues; null where it begins one")
    started_by: StartedBy | None = Field(description="For the first turn of a sub-agent: what it was started by")
    via: str | None = Field(description="The other gateway that alone tells of this call; null where ours saw it")
    witnesses: list[OtherWitness] = Field(description="Other gateways that tell of this call as well")
    input: Input | None = Field(description="What the model was shown; null for the start")
    decision: Decision | None = Field(description="What it answered; null while it has not")
    outputs: list[Output] = Field(description="What then happened; the first 500 rows")
    outputs_total: int = Field(description="How many rows there are")
    counts: Counts = Field(description="How much of each kind")
    events_total: int = Field(description="Events under this turn")
    claims: list[ClaimShape] = Field(description="What the agent itself said of this turn; the first 100")
    claims_total: int = Field(description="How many such claims there are")


class Outputs(Shape):
    """Rows of one turn."""

    outputs: list[Output] = Field(description="The rows")
    total: int = Field(description="How many rows the turn has")
