"""What the page knows, asked for once and shared by all readers of this process. Raises as `client.Api` does."""

from __future__ import annotations

import os

import streamlit as st

from sandtrail.errors import SandtrailError
from sandtrail.ui.choose import same_act
from sandtrail.ui.client import Api
from sandtrail.ui.shapes import Health, Session, Timeline

__all__ = ["api", "beside_of", "detail_of", "health_now", "session_or_none", "stamp", "timeline_now"]

DEFAULT_API = "http://127.0.0.1:8700"


@st.cache_resource(show_spinner=False)
def api() -> Api:
    """Returns the one client of this process."""
    return Api(os.environ.get("SANDTRAIL_API_URL") or DEFAULT_API)


@st.cache_resource(show_spinner=False, max_entries=8, ttl=10)
def timeline_of(session: str, as_of: tuple[object, ...]) -> Timeline:
    """Returns a timeline, asked for again when the session's counts have changed; shared, so never written to."""
    return api().timeline(session)


@st.cache_resource(show_spinner=False, max_entries=1000, ttl=3600)
def detail_of(session: str, as_of: tuple[object, ...]) -> Session:
    """Returns a session as it is known by itself, asked for again when it has changed."""
    return api().session(session)


def timeline_now(session: Session) -> Timeline:
    """Returns the timeline that fits these counts."""
    return timeline_of(session["id"], stamp(session))


def stamp(session: Session) -> tuple[object, ...]:
    """Returns what changes when a session does."""
    return tuple(session[key] for key in ("state", "events", "turns", "findings", "gaps"))


def health_now() -> Health:
    """Returns how far the index is; where the server does not say, nothing is taken for missing."""
    try:
        return api().health()
    except SandtrailError:
        return {"status": "", "log_entries": 0, "indexed_entries": 0}


def beside_of(session: Session | None, ref: str) -> list[str]:
    """Returns the frames of the same act; none where the session cannot be explained."""
    try:
        return same_act(timeline_now(session), ref) if session else []
    except SandtrailError:
        return []


def session_or_none(name: str) -> Session | None:
    """Returns the session, or None: evidence must be readable also when its session cannot be explained."""
    try:
        return api().session(name) if name else None
    except SandtrailError:
        return None
