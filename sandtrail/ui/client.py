"""One small client of replay's HTTP API."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote

import httpx

from sandtrail.errors import ErasedError, NotFoundError, RecorderError, UsageError
from sandtrail.ui.shapes import Evidence, Health, Log, Output, Removal, Session, SessionPage, Timeline

__all__ = ["Api", "Gone"]

_TURNS_A_PAGE = 500
_ROWS_A_PAGE = 10_000
_MOST_ROWS = 50_000
"""Rows of long turns that one timeline holds; the API gives the first 500 of a turn unasked."""


class Gone(ErasedError):
    """The frame that was asked for was erased or removed; `problem` is what the API says of it."""

    def __init__(self, words: str, problem: dict[str, Any]) -> None:
        super().__init__(words)
        self.problem = problem


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

    def body(self, ref: str) -> bytes:
        """Returns the body that a frame carries, whole."""
        return self._answer(f"/v1/evidence/{_segment(ref)}/body").content

    def removals(self) -> list[Removal]:
        """Returns what was erased or removed, newest first; nothing where the server is too old to say."""
        try:
            return cast(list[Removal], self._get("/v1/removals")["removals"])
        except NotFoundError:
            return []

    def health(self) -> Health:
        """Returns how far the index is behind the log."""
        return cast(Health, self._get("/v1/health"))

    def log(self) -> Log:
        """Returns the log's signed head and the key that checks it."""
        return cast(Log, self._get("/v1/log"))

    def _get(self, path: str, **query: str | int | None) -> Any:
        return self._answer(path, **query).json()

    def _answer(self, path: str, **query: str | int | None) -> httpx.Response:
        try:
            answer = self._http.get(path, params={k: v for k, v in query.items() if v is not None})
        except httpx.ReadTimeout as error:
            raise RecorderError(
                f"The API at {self.url} has not answered yet: a long session takes a while to be read for the first "
                "time. Reload this page; what was read stays read."
            ) from error
        except httpx.HTTPError as error:
            raise RecorderError(
                f"The API at {self.url} does not answer ({type(error).__name__}). Start it with `sandtrail serve`, "
                "or set SANDTRAIL_API_URL to where it runs."
            ) from error
        if answer.is_success:
            return answer
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
