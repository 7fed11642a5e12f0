"""The page's own view of replay's HTTP API: shapes and one small client.

The shapes repeat "Timeline (HTTP API, JSON)" of the architecture document and nothing else of Sandtrail. Fields that an
older or younger server may leave out are ``NotRequired``; every string in them may come from a sandbox and is hostile
until :mod:`sandtrail.ui.markup` has escaped it.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict, cast
from urllib.parse import quote

import httpx

from sandtrail.errors import ErasedError, NotFoundError, RecorderError, UsageError

__all__ = [
    "Api",
    "Check",
    "Completeness",
    "Decision",
    "Evidence",
    "Finding",
    "Gap",
    "Gone",
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

_TURNS_A_PAGE = 500
_ROWS_A_PAGE = 10_000
_MOST_ROWS = 50_000
"""Rows of long turns that one timeline holds; the API gives the first 500 of a turn unasked."""


class Completeness(TypedDict):
    """Whether the record starts with the first instruction and holds all that left, and why that is known."""

    from_first_instruction: bool
    reason: str
    egress: NotRequired[bool | None]
    egress_reason: NotRequired[str]


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
    tool_call_id: NotRequired[str | None]
    is_error: NotRequired[bool | None]


class ToolCall(TypedDict):
    """One call that the model asked for; `arguments` as the model wrote them, `server` where the provider ran it."""

    id: str
    name: str
    arguments: Any
    server: NotRequired[bool]


class Input(TypedDict):
    """What the model was shown: only the messages that are new since the turn before."""

    ref: str
    time_ns: int
    api: NotRequired[str]
    model: str
    messages_total: int
    new_messages: list[Message]
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
    thread: NotRequired[int | str | None]
    note: NotRequired[str | None]


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


class Check(TypedDict):
    """One step of a proof's verification."""

    step: str
    ok: bool
    detail: str


class Evidence(TypedDict):
    """One frame: its bytes, what they mean, where they lie in the log, and the proof, checked by the server now."""

    ref: str
    frame: dict[str, Any] | None
    source: dict[str, Any]
    raw_hex: str
    raw_truncated: bool
    decoded: list[dict[str, Any]]
    fields: Any
    position: dict[str, Any]
    proof: dict[str, Any]
    verified: bool
    checks: list[Check]
    previous: NotRequired[str | None]
    next: NotRequired[str | None]


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


class Gone(ErasedError):
    """The frame that was asked for was erased or removed; `problem` is what the API says of it."""

    def __init__(self, words: str, problem: dict[str, Any]) -> None:
        super().__init__(words)
        self.problem = problem


class Log(TypedDict, total=False):
    """The head of the log as signed last."""

    origin: str
    size: int
    root: str
    signed_at: str
    checkpoint: str
    vkey: str


class Api:
    """Reads replay's API at `url`; safe to share between threads.

    Raises NotFoundError for a 404, Gone for a 410, UsageError for another refusal, RecorderError when the server fails
    or is not there.
    """

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        # The API is on this machine or named by the operator: a proxy from the environment is never the way to it.
        self._http = httpx.Client(base_url=self.url, timeout=httpx.Timeout(timeout, connect=3.0), trust_env=False)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def sessions(self, cursor: str | None = None) -> SessionPage:
        """Returns one page of the sessions, newest first."""
        return cast(SessionPage, self._get("/v1/sessions", cursor=cursor))

    def session(self, session: str) -> Session:
        """Returns one session with its sources and its completeness."""
        return cast(Session, self._get(f"/v1/sessions/{_segment(session)}"))

    def timeline(self, session: str) -> Timeline:
        """Returns every turn of the session, page by page from the server, long ones with all that is reasonable."""
        whole = cast(Timeline, self._timeline(session, 0))
        page = whole
        while page["turns"] and len(whole["turns"]) < whole.get("turns_total", 0):
            page = cast(Timeline, self._timeline(session, len(whole["turns"])))
            whole["turns"] += page["turns"]
        left = _MOST_ROWS
        for turn in whole["turns"]:
            left -= self._complete(session, str(turn["index"]), turn["outputs"], turn.get("outputs_total", 0), left)
        self._complete(session, "unexplained", whole["unexplained"], whole.get("unexplained_total", 0), left)
        return whole

    def _complete(self, session: str, turn: str, rows: list[Output], total: int, left: int) -> int:
        """Adds the rows of a turn that its timeline left out; returns how many were added."""
        held = len(rows)
        wanted = min(total, held + left)
        while len(rows) < wanted:
            path = f"/v1/sessions/{_segment(session)}/turns/{turn}/outputs"
            more = self._get(path, offset=len(rows), limit=min(_ROWS_A_PAGE, wanted - len(rows)))["outputs"]
            if not more:
                break
            rows += more
        return len(rows) - held

    def _timeline(self, session: str, offset: int) -> Any:
        return self._get(f"/v1/sessions/{_segment(session)}/timeline", offset=offset, limit=_TURNS_A_PAGE)

    def events(self, session: str, **narrow: str | int | None) -> dict[str, Any]:
        """Returns decoded events, oldest first: `{"events": [row…], "next": cursor or None}`."""
        return cast(dict[str, Any], self._get("/v1/events", session=session, **narrow))

    def evidence(self, ref: str) -> Evidence:
        """Returns one frame with its proof, which the server checks as it answers."""
        return cast(Evidence, self._get(f"/v1/evidence/{_segment(ref)}"))

    def removals(self) -> list[Removal]:
        """Returns what was erased or removed, newest first; nothing where the server is too old to say."""
        try:
            return cast(list[Removal], self._get("/v1/removals")["removals"])
        except NotFoundError:
            return []

    def log(self) -> Log:
        """Returns the log's signed head and the key that checks it."""
        return cast(Log, self._get("/v1/log"))

    def _get(self, path: str, **query: str | int | None) -> Any:
        try:
            answer = self._http.get(path, params={k: v for k, v in query.items() if v is not None})
        except httpx.HTTPError as error:
            raise RecorderError(
                f"The API at {self.url} does not answer ({type(error).__name__}). Start it with `sandtrail serve`, "
                "or set SANDTRAIL_API_URL to where it runs."
            ) from error
        if answer.is_success:
            return answer.json()
        if answer.status_code == 410:
            raise Gone(_problem(answer), answer.json())
        kind = NotFoundError if answer.status_code == 404 else UsageError if answer.is_client_error else RecorderError
        raise kind(_problem(answer))


def _segment(text: str) -> str:
    """One path segment; what comes from the address bar must not become another path."""
    return quote(text, safe="") if text not in {".", ".."} else "%2E" * len(text)


def _problem(answer: httpx.Response) -> str:
    """The human words of an RFC 9457 problem document."""
    try:
        problem = answer.json()
    except ValueError:
        return f"The API answered {answer.status_code} without saying why."
    words = [str(problem[k]) for k in ("title", "detail") if problem.get(k)] if isinstance(problem, dict) else []
    return ": ".join(words) or f"The API answered {answer.status_code} without saying why."
