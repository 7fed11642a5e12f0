"""Real HTTP in the test's own process, for whoever is asked in a test: witnesses, clusters, time authorities, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from sandtrail.witness.protocol import Reply

Answer = Callable[[str, str, bytes], Reply | None]
"""(method, path, body) -> reply; None: nothing, until the client leaves. Called in threads, several at once."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address at which `answer` is asked as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = answer(self.command, self.path, self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            if reply is None:
                self.rfile.read(1)
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Not into the tests' output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def files_of(folder: Path) -> Answer:
    """The files of a folder."""

    def answer(_method: str, path: str, _body: bytes) -> Reply:
        try:
            return Reply(200, (folder / path.lstrip("/")).read_bytes(), "application/octet-stream")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return Reply(404)

    return answer
