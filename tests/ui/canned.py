"""A stand-in for replay's HTTP API: serves the made-up answers of `stories`.

It stands in for the server only where the page itself is under test: its layout, hostile strings that no real runtime
would pass on, and a session of 10,000 lines. The way from a recording to "verified" is tested against the real one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.ui.stories import frame


@dataclass
class Story:
    """What the stand-in answers; a test may change it while it is served."""

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    verified: bool = True
    removals: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def add(self, whole: dict[str, Any]) -> None:
        self.sessions[whole["session"]["id"]] = whole


def page(rows: list[Any], query: dict[str, str]) -> list[Any]:
    first = int(query.get("offset", 0))
    return rows[first : first + int(query.get("limit", 100))]


def answer(story: Story, path: str, query: dict[str, str]) -> dict[str, Any] | None:
    match [unquote(part) for part in path.strip("/").split("/")]:
        case ["v1", "sessions"]:
            return {"sessions": [whole["session"] for whole in story.sessions.values()], "next": None}
        case ["v1", "sessions", name] if name in story.sessions:
            return dict(story.sessions[name]["session"])
        case ["v1", "sessions", name, "timeline"] if name in story.sessions:
            whole = story.sessions[name]
            turns = [
                {**told, "outputs": told["outputs"][:500], "outputs_total": len(told["outputs"])}
                for told in page(whole["turns"], query)
            ]
            return {**whole, "turns": turns, "turns_total": len(whole["turns"])}
        case ["v1", "sessions", name, "turns", index, "outputs"] if name in story.sessions:
            rows = story.sessions[name]["turns"][int(index)]["outputs"]
            return {"outputs": page(rows, query), "total": len(rows)}
        case ["v1", "events"] if query.get("session") in story.sessions:
            whole = story.sessions[query["session"]]
            rows = [
                row
                for told in whole["turns"]
                for row in told["outputs"]
                if query.get("q", "").lower() in row["object"].lower()
            ]
            return {"events": rows[:500], "next": None}
        case ["v1", "evidence", ref] if ref.replace(".", "").isdigit():
            held = [name for name, whole in story.sessions.items() if f'"{ref}"' in json.dumps(whole)]
            return frame(ref, next(iter(held), "01JNAGENTREVIEW0001"), story.verified)
        case ["v1", "removals"]:
            return {"removals": story.removals}
        case ["v1", "log"]:
            return {
                "origin": "node1.example",
                "size": 412,
                "root": hashlib.sha256(b"root").hexdigest(),
                "signed_at": "2026-03-01T12:03:40Z",
                "checkpoint": frame("1.1", "")["proof"]["checkpoint"],
                "vkey": "node1.example+6a1f0c11+AZ0bX…",
            }
    return None


@contextmanager
def serving(story: Story) -> Iterator[str]:
    """Serves the story on a free port of the loopback address and yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            story.asked.append(self.path)
            url = urlsplit(self.path)
            found = answer(story, url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
            problem = {"type": "about:blank", "title": "Not found", "status": 404, "detail": f"nothing at {url.path}"}
            body = json.dumps(found if found is not None else problem).encode()
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Type", "application/json" if found is not None else "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
