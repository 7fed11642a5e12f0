"""The endpoints. Each is a thin way to `Timelines`, the index and the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from sandtrail import __version__
from sandtrail.errors import DamagedError, ErasedError, NotFoundError, UsageError
from sandtrail.replay.api import problems, shapes
from sandtrail.replay.api.body import body_of
from sandtrail.replay.api.evidence import describe
from sandtrail.replay.api.gone import gone, words
from sandtrail.replay.api.problems import RESPONSES
from sandtrail.replay.api.query import find_events
from sandtrail.replay.api.state import State
from sandtrail.replay.timeline import public
from sandtrail.store.frames import Kind
from sandtrail.store.log import read_checkpoint

__all__ = ["router"]

router = APIRouter(prefix="/v1", responses=RESPONSES)

SessionId = Annotated[str, Path(max_length=128, description="The session's id")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="At most so many")]
Offset = Annotated[int, Query(ge=0, le=1 << 40, description="Leave out so many first")]


def state_of(request: Request) -> State:
    """What the app keeps between requests."""
    found = request.app.state.sandtrail
    assert isinstance(found, State)
    return found


@router.get("/sessions", summary="Sessions, the newest first")
def sessions(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500, description="At most so many")] = 100,
    cursor: Annotated[str | None, Query(max_length=24, description="`next` of an earlier answer")] = None,
) -> shapes.Sessions:
    """The recorded sessions, whether they go on or have ended."""
    timelines = state_of(request).timelines
    rows = timelines.index.sessions(limit + 1, _number(cursor))
    told = timelines.summaries(rows[:limit])
    found = [shapes.Session.model_validate(public(row) | _counts(summary)) for row, summary in told]
    return shapes.Sessions(sessions=found, next=str(rows[limit - 1]["started_ns"]) if len(rows) > limit else None)


def _counts(summary: dict[str, Any]) -> dict[str, int]:
    return {name: summary[name] for name in ("turns", "findings", "grave")}


def _number(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor) >= 1 << 63:
        raise UsageError("`cursor` is not one; pass the `next` of an earlier answer as it is")
    return int(cursor)


@router.get("/sessions/{session}", summary="One session and how it was recorded")
def session(request: Request, session: SessionId) -> shapes.SessionDetail:
    """A session with its sources, what each of them sees and is blind to, and whether the record is complete."""
    return shapes.SessionDetail.model_validate(state_of(request).timelines.session(_named(session)))


def _named(session: str) -> str:
    if not session:
        raise NotFoundError("a session has an id")
    return session


@router.get("/sessions/{session}/timeline", summary="A session, turn by turn", response_model=shapes.Timeline)
def timeline(request: Request, session: SessionId, offset: Offset = 0, limit: Limit = 500) -> Any:
    """Input, decision and output of each turn, what nothing explains, findings, gaps. `offset` and `limit` page through
    the turns; of a turn with more than 500 rows the rest is at `/v1/sessions/{session}/turns/{turn}/outputs`."""
    found = state_of(request).timelines.timeline(_named(session), offset, limit)
    return state_of(request).encode(shapes.Timeline, found)


@router.get("/sessions/{session}/turns/{turn}/outputs", summary="All rows of a turn", response_model=shapes.Outputs)
def outputs(
    request: Request,
    session: SessionId,
    turn: Annotated[str, Path(max_length=20, description="The turn's index, or `unexplained`")],
    offset: Offset = 0,
    limit: Limit = 500,
) -> Any:
    """Rows `offset` to `offset + limit` of what happened in one turn."""
    rows, total = state_of(request).timelines.outputs(_named(session), _turn(turn), offset, limit)
    return state_of(request).encode(shapes.Outputs, {"outputs": rows, "total": total})


def _turn(turn: str) -> int | None:
    if turn in ("unexplained", "none"):
        return None
    if not (turn.isascii() and turn.isdigit()):
        raise UsageError(f"{turn[:20]!r} is not a turn; write its index, or unexplained")
    return int(turn)


@router.get("/events", summary="Decoded events in order of time", response_model=shapes.Events)
def events(
    request: Request,
    session: Annotated[str | None, Query(max_length=128, description="Of this session; default: of all")] = None,
    kind: Annotated[
        str | None, Query(max_length=400, description="Kinds, or beginnings like `file.`, separated by commas")
    ] = None,
    turn: Annotated[str | None, Query(max_length=20, description="Under this turn, or `unexplained`")] = None,
    q: Annotated[str | None, Query(max_length=400, description="Holding this text, whatever the case")] = None,
    pid: Annotated[int | None, Query(ge=0, lt=1 << 63, description="Of this process")] = None,
    sha256: Annotated[
        str | None, Query(max_length=64, description="That name this digest: of a body, a part of one, a program")
    ] = None,
    after: Annotated[str | None, Query(max_length=100, description="`next` of an earlier answer")] = None,
    limit: Limit = 500,
) -> Any:
    """The events themselves, one row each, narrowed and paged."""
    state = state_of(request)
    members = None
    if session:
        state.timelines.index.session(session)
    if turn:
        if not session:
            raise UsageError("`turn` is a turn of a session: say which `session`")
        members = state.timelines.members(session, _turn(turn))
    found, cursor = find_events(
        state.timelines.index,
        session or None,
        kinds=kind,
        pid=pid,
        q=q,
        sha256=sha256,
        members=members,
        after=after,
        limit=limit,
    )
    return state.encode(shapes.Events, {"events": found, "next": cursor})


@router.get(
    "/evidence/{ref}",
    summary="One frame and its proof",
    response_model=shapes.Evidence,
    responses=problems.GONE,
)
def evidence(request: Request, ref: Annotated[str, Path(max_length=40, description="SEGMENT.INDEX")]) -> Any:
    """Raw bytes, decoded form, place in the log, and the proof of it, which is made and checked for this answer. Of a
    frame that was erased or removed: its place, and the digests that still hold, with status 410."""
    state = state_of(request)
    with state.reading() as reader:
        try:
            found = describe(reader, ref)
        except ErasedError as error:
            if (left := gone(reader, state.timelines.index, ref)) is None:
                raise DamagedError(f"{error}; no signed entry says that it was erased") from error
            return _gone(request, left)
        if found["frame"] is None and (left := gone(reader, state.timelines.index, ref)) is not None:
            return _gone(request, left)
    rows, _ = state.timelines.index.events(_session_of(state, found), refs=[found["ref"]], limit=1000)
    return state.encode(shapes.Evidence, {**found, "decoded": rows})


@router.get(
    "/evidence/{ref}/body",
    summary="The body that a frame carries, whole",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **problems.GONE},
)
def evidence_body(request: Request, ref: Annotated[str, Path(max_length=40, description="SEGMENT.INDEX")]) -> Any:
    """The bytes of a request's or answer's body as they were recorded, their content coding undone, up to 32 MiB. They
    are a sandbox's: a file to be kept, never a page to be shown."""
    state = state_of(request)
    with state.reading() as reader:
        try:
            frame = reader.frame(ref)
        except (DamagedError, ErasedError, NotFoundError) as error:
            if (left := gone(reader, state.timelines.index, ref)) is not None:
                return _gone(request, left)
            if isinstance(error, ErasedError):
                raise DamagedError(f"{error}; no signed entry says that it was erased") from error
            raise
    found = body_of(frame.payload) if frame.kind == Kind.DATA else None
    if found is None:
        raise NotFoundError(f"frame {ref} carries no body; /v1/evidence/{ref} has what it holds")
    heads = {"Content-Disposition": f'attachment; filename="{frame.ref}.body"'}
    return Response(found.data, media_type="application/octet-stream", headers=heads)


def _gone(request: Request, left: dict[str, Any]) -> Any:
    kind = "urn:sandtrail:erased" if left["removal"]["kind"] == "erase" else "urn:sandtrail:removed"
    return problems.problem(request, 410, words(left), kind, more=left)


@router.get("/removals", summary="What was erased or removed")
def removals(
    request: Request, limit: Annotated[int, Query(ge=1, le=500, description="At most so many")] = 100
) -> shapes.Removals:
    """Signed acts by which evidence was erased or removed, the newest first. Nothing in them says of whom."""
    rows = state_of(request).timelines.index.removals(limit)
    return shapes.Removals(removals=[shapes.Removal.model_validate(row) for row in rows])


def _session_of(state: State, found: dict[str, Any]) -> str | None:
    stream = state.timelines.index.stream(found["frame"]["stream"]) if found["frame"] else None
    return str(stream["session"]) if stream else None


@router.get("/findings", summary="Findings of all sessions")
def findings(
    request: Request,
    session: Annotated[str | None, Query(max_length=128, description="Of this session; default: of all")] = None,
    verdict: Annotated[str | None, Query(max_length=40, description="With this verdict")] = None,
    severity: Annotated[Literal["high", "medium", "low"] | None, Query(description="Of this severity")] = None,
    cursor: Annotated[str | None, Query(max_length=24, description="`next` of an earlier answer")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Of at most so many sessions")] = 50,
) -> shapes.Findings:
    """What a reviewer has to see, session by session."""
    timelines = state_of(request).timelines
    if session:
        rows = [timelines.index.session(session)]
    else:
        rows = timelines.index.sessions(limit + 1, _number(cursor))
    found = [
        shapes.SessionFinding(session=row["id"], **finding)
        for row, summary in timelines.summaries(rows[:limit])
        for finding in summary["found"]
        if verdict in (None, finding["verdict"]) and severity in (None, finding["severity"])
    ]
    return shapes.Findings(findings=found, next=str(rows[limit - 1]["started_ns"]) if len(rows) > limit else None)


@router.get("/log", summary="The head of the log")
def log(request: Request) -> shapes.Log:
    """Name, size, root and signature of the log, and the key that checks it."""
    state = state_of(request)
    with state.reading() as reader:
        head = reader.checkpoint()
        note = read_checkpoint(state.home / "log") or b""
    try:
        stamp = (state.home / "log" / "checkpoint").stat().st_mtime
        signed = datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds")
    except OSError:
        signed = None
    return shapes.Log(
        origin=head.origin,
        size=head.size,
        root=head.root.hex(),
        signed_at=signed,
        checkpoint=note.decode("utf-8", "replace"),
        vkey=reader.verifier.vkey,
    )


@router.get("/health", summary="Whether this server can answer")
def health(request: Request) -> shapes.Health:
    """State of the server, and how far the index is behind the log."""
    state = state_of(request)
    try:
        with state.reading() as reader:
            size = reader.size()
    except NotFoundError:
        size = 0
    indexed = state.timelines.index.log_index()
    return shapes.Health(
        status="ok" if indexed >= size else "behind",
        version=__version__,
        follower=state.follower.state if state.follower is not None else "off",
        log_entries=size,
        indexed_entries=indexed,
    )
