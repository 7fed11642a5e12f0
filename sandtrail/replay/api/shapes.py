"""What the HTTP API answers about sessions: `shapes_evidence` has what it says of frames and of the log.

The OpenAPI document is made from these shapes, so each field says what it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Events",
    "Findings",
    "Health",
    "Outputs",
    "Problem",
    "Session",
    "SessionDetail",
    "Sessions",
    "Timeline",
]

Ref = Annotated[str, Field(description="A frame of the evidence, SEGMENT.INDEX", examples=["12.345"])]
Ns = Annotated[int, Field(description="Nanoseconds since 1970-01-01 UTC")]


class Shape(BaseModel):
    """Closed on purpose: what is not described is not sent."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as a problem document (RFC 9457)."""

    type: str = Field("about:blank", description="What kind of problem it is")
    title: str = Field(description="The kind of problem in words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What is wrong here and what to do about it")
    instance: str = Field("", description="The path that was asked for")
    errors: list[dict[str, Any]] = Field([], description="Parameters that are wrong, one by one")


class Source(Shape):
    """A place outside of the sandbox from which something was seen."""

    stream: str = Field(description="The stream's number, 16 hex digits")
    source: str = Field(description="gvisor, lifecycle, gateway, netfilter, conntrack or collector")
    ref: Ref
    sees: list[str] = Field(description="What it can see, in its own words")
    blind: list[str] = Field(description="What it cannot see, in its own words")
    descriptor: dict[str, Any] = Field(description="The stream's first frame, decoded")
    frames: int = Field(description="Frames received so far")
    dropped: int = Field(description="Messages known to be lost")
    closed: bool = Field(description="Whether its end was recorded")
    reason: str = Field(description="Why it ended")


class Completeness(Shape):
    """Whether the record begins with the sandbox's first instruction."""

    from_first_instruction: bool = Field(description="Proven to begin with the first instruction")
    reason: str = Field(description="How that is known, or why it is not")
    egress: bool | None = Field(description="Every byte that left the link is accounted for; null where nothing tells")
    egress_reason: str = Field(description="How that is known, or what is missing")


class Session(Shape):
    """One run of an agent."""

    id: str = Field(description="The session's id")
    sandbox: str = Field(description="The sandbox's id")
    command: list[str] = Field(description="What the operator ran")
    state: Literal["recording", "ended"] = Field(description="Whether it goes on")
    started_ns: Ns
    ended_ns: Ns | None = Field(description="Nanoseconds since 1970-01-01 UTC; null while it goes on")
    exit_status: int | None = Field(description="The command's exit status; null where it is not known")
    turns: int = Field(description="Turns so far, the start included")
    events: int = Field(description="Decoded events so far")
    gaps: int = Field(description="Recorded gaps so far")
    findings: int = Field(description="Findings so far")


class Loss(Shape):
    """A part of a session's evidence that was removed after its time."""

    log_index: int = Field(description="The log entry that says so, the latest")
    frames: int = Field(description="Frames that were removed, in all")


class SessionDetail(Session):
    """One session and how it was recorded."""

    removed: Loss | None = Field(description="What of its evidence was removed; null where all of it is there")
    held: list[str] = Field(description="Cases for which it must not be erased")

    sources: list[Source] = Field(description="Where it was seen from")
    completeness: Completeness = Field(description="Whether the record begins with the first instruction")


class Sessions(Shape):
    """Sessions, the newest first."""

    sessions: list[Session] = Field(description="The sessions")
    next: str | None = Field(description="Pass as `cursor` for older ones; null at the end")


class Message(Shape):
    """A message that the model was shown."""

    role: str = Field(description="Who said it: system, user, assistant, tool …")
    text: str = Field(description="The words; long ones are cut and say so")
    tool_call_id: str | None = Field(description="Which tool call this is the result of")
    is_error: bool | None = Field(description="Whether it says that the tool failed; null where it does not say")


class Input(Shape):
    """What the model was shown in a turn."""

    ref: Ref
    time_ns: Ns
    api: str = Field(description="The API that the call went through: openai.chat, anthropic.messages …")
    model: str = Field(description="The model that was asked for")
    messages_total: int = Field(description="How many messages the request carried in all")
    new_messages: list[Message] = Field(description="Those that are new since the turn before")
    cut: bool = Field(description="Something of it is missing here, or was never received")


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


class UnplacedClaims(Shape):
    """Claims that name no turn, and counts of all."""

    unplaced: list[ClaimShape] = Field(description="The first 100 that stand beside no turn")
    unplaced_total: int = Field(description="How many such there are")
    total: int = Field(description="Claims of operations in the session")
    others: int = Field(description="Spans, log records and metrics that tell of no operation; see the events")
    left_out: int = Field(description="Claims of operations beyond those that are matched with turns")


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


class Finding(Shape):
    """Something that a reviewer has to see."""

    id: str = Field(description="Stable as long as the evidence is")
    verdict: str = Field(
        description="EXFILTRATION_ATTEMPT, UNDECIDED_ACTION, BYPASS, PHANTOM, RESULT_MISMATCH, ARG_MISMATCH, "
        "HISTORY_MISMATCH or UNOBSERVABLE"
    )
    severity: Literal["high", "medium", "low"] = Field(description="How grave")
    title: str = Field(description="In one line")
    explanation: str = Field(description="Why it is one, and what would make it innocent")
    turn: int | None = Field(description="The turn that it belongs to")
    refs: list[str] = Field(description="The evidence that it rests on")


class SessionFinding(Finding):
    """A finding, and the session in which it is."""

    session: str = Field(description="The session's id")


class Findings(Shape):
    """Findings of many sessions, those of the newest first."""

    findings: list[SessionFinding] = Field(description="The findings")
    next: str | None = Field(description="Pass as `cursor` for those of older sessions; null at the end")


class Gap(Shape):
    """Evidence that is known to be missing."""

    ref: Ref
    cause: str = Field(description="Why it is missing")
    count: int | None = Field(description="How many messages; null where nobody knows")
    from_ns: Ns | None = Field(description="Not before; nanoseconds since 1970-01-01 UTC")
    to_ns: Ns | None = Field(description="Not after; null while it goes on or nobody knows")
    stream: str = Field(description="Where")
    what: str = Field(description="What is missing, in words")
    bytes: dict[str, dict[str, int]] | None = Field(
        description="Of egress: `packets` and `bytes`, `up` from the sandbox and `down` to it; negative where too much"
    )


class Timeline(Shape):
    """A session, turn by turn."""

    session: SessionDetail = Field(description="The session as a whole")
    turns: list[Turn] = Field(description="Those that were asked for, in order")
    turns_total: int = Field(description="How many turns there are")
    unexplained: list[Output] = Field(description="What no decision explains; the first 500 rows")
    unexplained_total: int = Field(description="How many such rows there are")
    findings: list[Finding] = Field(description="The gravest first")
    gaps: list[Gap] = Field(description="The first 500 gaps")
    gaps_total: int = Field(description="How many gaps there are")
    claims: UnplacedClaims = Field(description="What the agent said of itself beside no turn, and counts")


class Outputs(Shape):
    """Rows of one turn."""

    outputs: list[Output] = Field(description="The rows")
    total: int = Field(description="How many rows the turn has")


class EventRow(Shape):
    """One decoded event; see docs/architecture.md, "Events"."""

    ref: Ref
    session: str = Field(description="The session's id")
    sandbox: str = Field(description="The sandbox's id")
    source: str = Field(description="Where it was seen from")
    kind: str = Field(description="What happened")
    time_ns: Ns
    received_ns: Ns
    seq: int = Field(description="The frame's number in its stream")
    container: str = Field(description="The container's id")
    pid: int = Field(description="Process, as numbered inside of the sandbox")
    pid_start_ns: int = Field(description="When that process started")
    tid: int = Field(description="Thread")
    ppid: int = Field(description="The process that started it")
    process: str = Field(description="The process's name, which it gives itself")
    exe: str = Field(description="The program that it runs")
    cwd: str = Field(description="Its working folder")
    uid: int | None = Field(description="Effective user; null where the source does not say")
    gid: int | None = Field(description="Effective group; null where the source does not say")
    object: str = Field(description="What it was done to")
    result: int | None = Field(description="What the call returned")
    errno: int | None = Field(description="Why it failed; 0 where it did not")
    detail: str = Field(description="What else the message said, as JSON")
    n: int = Field(description="Which event of the frame")


class Events(Shape):
    """Events in order of time."""

    events: list[EventRow] = Field(description="The rows")
    next: str | None = Field(description="Pass as `after` for those that follow; null at the end")


class Health(Shape):
    """Whether this server can answer."""

    status: Literal["ok", "behind"] = Field(description="behind: the index has not caught up with the log")
    version: str = Field(description="Of Sandtrail")
    follower: str = Field(description="on: here; off: none was asked for; waiting: another process has its place")
    log_entries: int = Field(description="Entries under the latest checkpoint")
    indexed_entries: int = Field(description="Entries that are in the index")
