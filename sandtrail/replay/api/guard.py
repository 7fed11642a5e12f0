"""Who may ask: programs on this machine, and pages of nobody.

The API has no login while it listens on loopback. A page in the operator's browser could still reach it by a name of
its own that resolves to 127.0.0.1 (DNS rebinding): such a request carries that name as its Host. No CORS header is
ever sent, and only reading methods are answered.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandtrail.replay.api.problems import problem

__all__ = ["Guard"]

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:/@\s]+))(?::\d{1,5})?", re.A)
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """ASGI middleware: refuses hosts that are neither addresses nor names of this machine, and methods that write.

    `names` are hosts allowed beside IP addresses and `localhost`.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] = frozenset()) -> None:
        self.app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        host = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1")
        if not self._known(host):
            refusal = problem(None, 421, "this server answers under localhost and IP addresses only")
            await refusal(scope, receive, guarded)
        elif scope["method"] not in ("GET", "HEAD"):
            await problem(None, 405, "this API only reads")(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _known(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["six"] or found["name"]).lower().rstrip(".")
        if name == "localhost" or name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
