"""Errors as problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, UsageError
from sandtrail.replay.escape import visible

__all__ = ["GONE", "RESPONSES", "install", "problem"]

_log = structlog.get_logger()
_STATUS: tuple[tuple[type[SandtrailError], int, str], ...] = (
    (NotFoundError, 404, "urn:sandtrail:not-found"),
    (UsageError, 400, "urn:sandtrail:usage"),
    (DamagedError, 500, "urn:sandtrail:damaged"),
    (SandtrailError, 503, "urn:sandtrail:store"),
)
RESPONSES: dict[int | str, dict[str, object]] = {
    code: {"description": HTTPStatus(code).phrase, "content": {"application/problem+json": {"schema": {
        "$ref": "#/components/schemas/Problem"}}}}
    for code in (400, 404, 422, 500, 503)
}  # fmt: skip
GONE: dict[int | str, dict[str, object]] = {
    410: {"description": "Erased or removed", "content": {"application/problem+json": {"schema": {
        "$ref": "#/components/schemas/Gone"}}}}
}  # fmt: skip


def problem(
    request: Request | None,
    status: int,
    detail: str,
    kind: str = "about:blank",
    errors: list[object] | None = None,
    more: dict[str, Any] | None = None,
) -> JSONResponse:
    """A problem document as a response; `more` are members of its own kind."""
    body: dict[str, Any] = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": visible(detail)[:2000],
        "instance": visible(request.url.path)[:500] if request is not None else "",
    }
    if errors:
        body["errors"] = errors
    body |= more or {}
    return JSONResponse(body, status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Have the app answer every error with a problem document."""
    app.add_exception_handler(SandtrailError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    status, kind = next((code, name) for cls, code, name in _STATUS if isinstance(error, cls))
    return problem(request, status, str(error), kind)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = [{"where": ".".join(map(str, e["loc"]))[:200], "what": e["msg"][:500]} for e in error.errors()[:20]]
    return problem(request, 422, "a parameter is not what it should be", "urn:sandtrail:parameter", list(wrong))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(request, error.status_code, str(error.detail))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", path=visible(request.url.path)[:500], error=repr(error)[:500], exc_info=error)
    return problem(request, 500, "the server failed; its log says how")
