"""The web of the demonstration: one page with an instruction injected into it, and nothing else."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from deploy.demo import story


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "scripted-web"
    sys_version = ""

    def do_GET(self) -> None:
        """The contributing guide; 404 for the rest, such as the price list that the agent's library asks for."""
        found = self.path == "/contributing"
        data = (story.GUIDE if found else "not part of the demonstration\n").encode()
        self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
        self.send_header("content-type", "text/markdown; charset=utf-8")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the recording is the log."""


class ScriptedWeb(ThreadingHTTPServer):
    """The server, on a loopback port of the system's choice."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"
