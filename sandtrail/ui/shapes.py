"""What replay's HTTP API answers, as the page sees it.

The shapes repeat "Timeline (HTTP API, JSON)" of the architecture document and nothing else of Sandtrail. Fields that an
older or younger server may leave out are ``NotRequired``; every string in them may come from a sandbox and is hostile
until :mod:`sandtrail.ui.markup` has escaped it.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "Check",
    "Claim",
    "Claims",
    "Completeness",
    "Decision",
    "Evidence",
    "Finding",
    "Gap",
    "Input",
    "Log",
    "Message",
    "Output",
    "Removal",
    "Session",
    "SessionPage",
    "Timeline",
    "ToolCall",
    "Turn",
]


class Completeness(TypedDict):
    """Whether the record starts with the first instruction and holds all that left, and why that is known."""

    from_first_instruction: bool
    reason: str
    egress: NotRequired[bool | None]
    egress_reason: NotRequired[str]
    claims: NotRequired[bool | None]
    claims_reason: NotRequired[str]


class Session(TypedDict):
    """One run of an agent; counts are totals so far, times are nanoseconds since the epoch."""

    id: str
    sandbox: str
    command: list[str]
    state: Literal["recording", "ended"]
    started_ns: int | None
    ended_ns: int | None
    exit_status: int | None
    turns: int
    events: int
    gaps: int
    findings: int
    grave: NotRequired[int]
    sources: NotRequired[list[dict[str, Any]]]
    completeness: NotRequired[Completeness | None]
    removed: NotRequired[dict[str, int] | None]
    held: NotRequired[list[str]]


class SessionPage(TypedDict):
    """Some sessions, newest first, and the cursor of the next page."""

    sessions: list[Session]
    next: str | None


class Message(TypedDict):
    """One message that the model was shown."""

    role: str
    text: str
    characters: NotRequired[int]
    tool: NotRequired[str | None]
    origin: NotRequired[Origin | None]
    tool_call_id: NotRequired[str | None]
    is_error: NotRequired[bool | None]


class ToolCall(TypedDict):
    """One call that the model asked for; `arguments` as the model wrote them, `server` where the provider ran it."""

    id: str
    name: str
    arguments: Any
    server: NotRequired[bool]
    result: NotRequired[str | None]
    failed: NotRequired[bool | None]


class Origin(TypedDict):
    """An answer of a server that holds a result word for word."""

    ref: str
    object: str


class Rewritten(TypedDict):
    """A message of the turn before that the model is not shown any more as it was; None where nothing stands."""

    role: str
    tool_call_id: str | None
    tool: str | None
    was: str | None
    now: str | None


class StartedBy(TypedDict):
    """The tool call that a sub-agent was started by."""

    turn: int
    thread: int
    tool_call_id: str
    name: str
    confidence: float


class Input(TypedDict):
    """What the model was shown: only the messages that are new since the turn before."""

    ref: str
    time_ns: int
    api: NotRequired[str]
    model: str
    messages_total: int
    new_total: NotRequired[int]
    new_messages: list[Message]
    changed: NotRequired[list[Rewritten]]
    cut: bool


class Decision(TypedDict):
    """What the model answered."""

    ref: str
    time_ns: int
    text: str
    reasoning: NotRequired[str]
    tool_calls: list[ToolCall]
    commands: list[str]
    finish_reason: str | None
    streamed: bool
    cut: bool
    refusal: NotRequired[str | None]
    error: NotRequired[str | None]
    problems: NotRequired[list[str]]


class Edge(TypedDict):
    """Why an output stands under its turn; confidence is 0 to 1."""

    reason: str
    confidence: float


class Output(TypedDict):
    """One thing that happened, or a folded group of `count` alike with the `refs` of the first of them."""

    ref: str
    kind: str
    time_ns: int
    pid: int | None
    pid_start_ns: NotRequired[int | None]
    depth: int
    process: str
    object: str
    summary: str
    result: int | None
    errno: int | None
    count: int
    edge: Edge | None
    flags: list[str]
    refs: list[str]


class Claim(TypedDict):
    """What the agent said of itself: `told` is its own word, `edge` why it stands beside a turn."""

    ref: str
    n: int
    kind: str
    received_ns: int
    title: str
    operation: str
    told: dict[str, Any]
    edge: Edge | None
    note: str | None


class Claims(TypedDict):
    """Claims beside no turn, and counts of all."""

    unplaced: list[Claim]
    unplaced_total: int
    total: int
    others: int
    left_out: int


class OtherWitness(TypedDict):
    """Another gateway that tells of a turn's model call, and in what it tells something else."""

    ref: str
    source: str
    differs: list[str]


class Turn(TypedDict):
    """Input, decision, and what then happened. The turn of kind "start" is what ran before the first model call."""

    index: int
    kind: str
    input: Input | None
    decision: Decision | None
    outputs: list[Output]
    counts: dict[str, int]
    events_total: int
    outputs_total: NotRequired[int]
    claims: NotRequired[list[Claim]]
    claims_total: NotRequired[int]
    thread: NotRequired[int | None]
    note: NotRequired[str | None]
    continues: NotRequired[int | None]
    started_by: NotRequired[StartedBy | None]
    via: NotRequired[str | None]
    witnesses: NotRequired[list[OtherWitness]]


class Finding(TypedDict):
    """A judgement that needs a person's eyes, with the evidence that it rests on."""

    id: str
    verdict: str
    severity: str
    title: str
    explanation: str
    turn: int | None
    refs: list[str]
    session: NotRequired[str]


class Gap(TypedDict):
    """Evidence that is known to be missing."""

    ref: str
    cause: str
    count: int | None
    from_ns: int | None
    to_ns: int | None
    stream: str | None
    what: NotRequired[str]


class Timeline(TypedDict):
    """A whole session, turn by turn."""

    session: Session
    turns: list[Turn]
    unexplained: list[Output]
    findings: list[Finding]
    gaps: list[Gap]
    turns_total: NotRequired[int]
    unexplained_total: NotRequired[int]
    gaps_total: NotRequired[int]
    claims: NotRequired[Claims]


class Check(TypedDict):
    """One step of a proof's verification."""

    step: str
    ok: bool
    detail: str


class Body(TypedDict):
    """What a frame carries over HTTP, its content coding undone; `text` is None where it is no text."""

    bytes: int
    recorded: int
    media: str
    problems: list[str]
    text: str | None
    truncated: bool


class Evidence(TypedDict):
    """One frame: its bytes, what they mean, where they lie in the log, and the proof, checked by the server now."""

    ref: str
    frame: dict[str, Any] | None
    source: dict[str, Any]
    raw_hex: str
    raw_truncated: bool
    decoded: list[dict[str, Any]]
    fields: Any
    body: NotRequired[Body | None]
    position: dict[str, Any]
    proof: dict[str, Any]
    verified: bool
    checks: list[Check]
    previous: NotRequired[str | None]
    next: NotRequired[str | None]


class Health(TypedDict):
    """How far the index is behind the log."""

    status: str
    log_entries: int
    indexed_entries: int


class Removal(TypedDict):
    """An act by which evidence was erased or removed; it names nobody."""

    log_index: int
    kind: Literal["erase", "retain"]
    at_ns: int
    segments: int
    frames: int
    from_ns: int | None
    to_ns: int | None
    reason: str
    by: str


class Log(TypedDict, total=False):
    """The head of the log as signed last."""

    origin: str
    size: int
    root: str
    signed_at: str
    checkpoint: str
    vkey: str
