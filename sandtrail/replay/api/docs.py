"""`/docs`: the OpenAPI document as a plain page. No script, and nothing from anybody else's server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

__all__ = ["docs_page"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1c2024; }
code, h2 { font-family: ui-monospace, monospace; } h2 { font-size: 16px; margin: 2em 0 .2em; }
table { border-collapse: collapse; width: 100%; } td { border-top: 1px solid #ddd; padding: .3em .6em .3em 0;
vertical-align: top; } td:first-child { white-space: nowrap; }
@media (prefers-color-scheme: dark) { body { background: #16181b; color: #dfe3e6; } td { border-color: #333; } }
"""


def docs_page(app: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that shows an app's own OpenAPI document."""

    async def page(_request: Request) -> Response:
        return HTMLResponse(_html(app.openapi()))

    return page


def _html(document: dict[str, Any]) -> str:
    parts = [f"<p>{_say(document['info'], 'description')} <a href='/openapi.json'>OpenAPI document</a></p>"]
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{_say(told, 'description')}</p>")
            parts.append(_table((p["name"], _say(p, "description")) for p in told.get("parameters", [])))
    parts.append("<h1>Shapes</h1>")
    for name, shape in sorted(document["components"]["schemas"].items()):
        parts.append(f"<h2>{escape(name)}</h2><p>{_say(shape, 'description')}</p>")
        parts.append(_table((key, _type(field)) for key, field in shape.get("properties", {}).items()))
    title = escape(str(document["info"]["title"]))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title} {escape(str(document['info']['version']))}</h1>{''.join(parts)}</html>"
    )


def _say(told: dict[str, Any], key: str) -> str:
    return escape(str(told.get(key, "")))


def _type(field: dict[str, Any]) -> str:
    kinds = [field, *field.get("anyOf", [])]
    names = [str(k.get("$ref", "")).rpartition("/")[2] or k.get("type") for k in kinds]
    inner = str(field.get("items", {}).get("$ref", "")).rpartition("/")[2]
    kind = " or ".join(escape(str(n)) for n in names if n) + (f" of {escape(inner)}" if inner else "")
    return f"<code>{kind}</code> {_say(field, 'description')}"


def _table(rows: Any) -> str:
    cells = "".join(f"<tr><td><code>{escape(str(name))}</code></td><td>{said}</td></tr>" for name, said in rows)
    return f"<table>{cells}</table>" if cells else ""
