"""The HTTP API under `/v1`: reads, explains and proves; writes nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sandtrail import __version__
from sandtrail.errors import UsageError
from sandtrail.replay.api import problems
from sandtrail.replay.api.docs import docs_page
from sandtrail.replay.api.follower import FollowerProcess
from sandtrail.replay.api.guard import Guard
from sandtrail.replay.api.routes import router
from sandtrail.replay.api.shapes import Gone, Problem
from sandtrail.replay.api.state import State

__all__ = ["create_app", "serve"]


def create_app(home: Path, follower: bool = True, names: frozenset[str] = frozenset()) -> FastAPI:
    """The API over the evidence under `home`.

    `follower`: index what is recorded while the app runs, in a process beside it. `names`: hosts under which it may be
    asked, beside IP addresses and localhost. Raises StoreError when the catalog cannot be used.
    """
    state = State(home)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        with FollowerProcess(home) if follower else nullcontext() as process:
            state.follower = process
            if follower:
                state.start()
            yield
        state.close()

    app = FastAPI(
        title="Sandtrail",
        version=__version__,
        description="What AI agents did in their sandboxes, with the evidence and the proof of it.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.sandtrail = state
    app.include_router(router)
    app.add_route("/docs", docs_page(app), include_in_schema=False)
    problems.install(app)
    app.add_middleware(Guard, names=names)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # as FastAPI's manual has it
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problem documents that every path may answer with."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for kind in (Problem, Gone):
            shape = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            made["components"]["schemas"] |= {**shape.pop("$defs", {}), kind.__name__: shape}
        app.openapi_schema = made
    return app.openapi_schema


def serve(home: Path, host: str = "127.0.0.1", port: int = 8700) -> None:
    """Follow the log and serve the API until a signal. Raises UsageError for an address that nobody can listen on."""
    names = frozenset() if _address(host) else frozenset({host.lower()})
    app = create_app(home, names=names)
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
    )
    try:
        server.run()
    except SystemExit as error:  # uvicorn leaves like this when the address is taken; it has said why
        raise UsageError(f"the API cannot listen on {host}:{port}; choose another with --host and --port") from error


def _address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
