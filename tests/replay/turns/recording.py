"""A recording in the making, for tests: what a sandbox does, told as the sources would tell it.

Only the decoders are left out; the events have the shape that sandtrail.replay.events describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandtrail.errors import NotFoundError
from sandtrail.replay.events import Event
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.timeline import View

GATEWAY = ("10.219.0.1", 3128)
SANDBOX = "10.219.0.2"
MS = 1_000_000


@dataclass
class Recording:
    """Time passes by a millisecond with each act, and by `wait`."""

    now: int = 1_700_000_000_000_000_000
    events: list[Event] = field(default_factory=list)
    payloads: dict[str, bytes] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    _pid: int = 1
    _port: int = 40000
    _starts: dict[int, int] = field(default_factory=dict)

    # frames, as a reader of the store gives them

    def frame(self, ref: str) -> bytes:
        if ref not in self.payloads:
            raise NotFoundError(f"there is no frame {ref}")
        return self.payloads[ref]

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        begin, end = int(first.split(".")[1]), int(last.split(".")[1])
        return ((ref, data) for ref, data in self.payloads.items() if begin <= int(ref.split(".")[1]) <= end)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)

    def add(self, kind: str, pid: int = 0, *, source: str = "gvisor", detail: Any = None, **fields: Any) -> str:
        self.now += MS
        ref = f"1.{len(self.events)}"
        fields.setdefault("time_ns", self.now)
        text = json.dumps(detail) if detail is not None else ""
        event = Event(
            ref=ref,
            session="s",
            sandbox="c",
            source=source,
            kind=kind,
            received_ns=self.now,
            container="c" if pid else "",
            pid=pid,
            pid_start_ns=self._starts.get(pid, 0),
            detail=text,
            **fields,
        )
        self.events.append(event)
        return ref

    # processes

    def begin(self, *argv: str, cwd: str = "/workspace") -> int:
        self._starts[1] = self.now
        self.exec(1, *argv, cwd=cwd)
        return 1

    def fork(self, parent: int) -> int:
        self._pid += 1
        pid, self._starts[self._pid] = self._pid, self.now + MS
        detail = {"child_pid": pid, "child_tid": pid, "child_start_ns": self._starts[pid], "thread": False}
        self.add("process.clone", parent, detail=detail, result=pid)
        return pid

    def exec(
        self, pid: int, *argv: str, exe: str = "", cwd: str = "/workspace", via: str = "sentry", **more: Any
    ) -> str:
        exe = exe or (argv[0] if argv and argv[0].startswith("/") else f"/usr/bin/{argv[0] if argv else 'x'}")
        detail = {"argv": list(argv), "via": via, **more}
        return self.add("process.exec", pid, exe=exe, object=exe, cwd=cwd, result=0, detail=detail)

    def spawn(self, parent: int, *argv: str, **how: Any) -> int:
        pid = self.fork(parent)
        self.exec(pid, *argv, **how)
        return pid

    def exit(self, pid: int, status: int = 0) -> None:
        self.add("process.exit", pid, result=status, detail={"via": "notify_parent", "status": status << 8})

    def run(self, parent: int, *argv: str, status: int = 0, **how: Any) -> int:
        pid = self.spawn(parent, *argv, **how)
        self.exit(pid, status)
        return pid

    def shell(self, parent: int, command: str) -> int:
        return self.spawn(parent, "/bin/sh", "-c", command, exe="/usr/bin/dash")

    # files and network

    def read(self, pid: int, path: str, *, ok: bool = True) -> str:
        result: dict[str, Any] = {"result": 3} if ok else {"result": -1, "errno": 2}
        return self.add("file.open", pid, object=path, detail={"write": False}, **result)

    def write(self, pid: int, path: str, kind: str = "file.create") -> str:
        return self.add(kind, pid, object=path, result=3, detail={"write": True})

    def connect(
        self, pid: int, ip: str, port: int, *, udp: bool = False, packets: bool = True, prefix: str = ""
    ) -> int:
        """A connect and its packets, logged with this word of the packet filter's; the source port."""
        self._port += 1
        fd, proto = self._port - 39990, "udp" if udp else "tcp"
        self.add("net.socket", pid, result=fd, detail={"domain": 2, "type": 2 if udp else 1, "fd": fd})
        allowed = (ip, port) == GATEWAY
        if packets:
            verdict = "redirect" if prefix == "flow:redirect" else "allow" if allowed else "reject"
            self.flow(ip, port, proto, verdict, prefix=prefix)
            allowed = allowed or verdict == "redirect"
        result: dict[str, Any] = {"result": 0} if allowed or udp else {"result": -1, "errno": 111}
        self.add("net.connect", pid, object=f"{ip}:{port}", detail={"fd": fd, "ip": ip, "port": port}, **result)
        return self._port

    def flow(self, ip: str, port: int, proto: str, verdict: str, sport: int = 0, prefix: str = "") -> str:
        detail = {"via": "nflog", "verdict": verdict, "proto": proto, "src": SANDBOX, "sport": sport or self._port}
        detail |= {"prefix": prefix} if prefix else {}
        return self.add(
            "net.flow", source="netfilter", object=f"{ip}:{port}", detail={**detail, "dst": ip, "dport": port}
        )

    def lookup(self, pid: int, name: str, server: str = "10.219.0.1", verdict: str = "query") -> int:
        """A name that is looked up; the source port."""
        port = self.connect(pid, server, 53, udp=True, packets=False)
        detail = {"via": "nflog", "verdict": verdict, "proto": "udp", "src": SANDBOX, "sport": port, "dst": server}
        self.add("net.dns", source="netfilter", object=name, detail={**detail, "dport": 53, "answer": False})
        return port

    def request(self, pid: int, method: str, url: str, body: Any = None, answer: Any = None, status: int = 200) -> str:
        """A request through the gateway over a connection of its own."""
        import base64

        port = self.connect(pid, *GATEWAY)
        flow = f"f{len(self.events)}"
        client = [SANDBOX, port]
        self.add("http.connect", source="gateway", object="h:443", detail={"flow": flow, "client": client})
        start = self.now
        sent = base64.b64encode(json.dumps(body).encode()).decode() if body is not None else ""
        got = base64.b64encode(json.dumps(answer).encode()).decode() if answer is not None else ""
        self.now += 5 * MS
        number = len(self.payloads) + 100_000
        asked, answered = f"1.{number}", f"1.{number + 1}"
        frame = {"flow": flow, "id": "1"}
        self.payloads[asked] = json.dumps(
            {"t": "request", **frame, "method": method, "url": url, "headers": [], "body": sent, "start_ns": start}
        ).encode()
        first = self.now
        self.payloads[answered] = json.dumps(
            {
                "t": "response",
                **frame,
                "status": status,
                "headers": [],
                "body": got,
                "start_ns": first,
                "end_ns": self.now,
            }
        ).encode()
        self.add(
            "http.request",
            source="gateway",
            object=f"{method} {url}",
            time_ns=start,
            detail={**frame, "client": client, "refs": [asked], "request": {"ref": asked}, "start_ns": start},
        )
        detail = {
            **frame,
            "method": method,
            "url": url,
            "client": client,
            "refs": [asked, answered],
            "request": {"ref": asked},
            "response": {"ref": answered},
            "start_ns": start,
            "first_ns": first,
            "end_ns": self.now,
        }
        return self.add(
            "http.exchange", source="gateway", object=f"{method} {url}", result=status, detail=detail, time_ns=start
        )

    # the model

    def ask(self, pid: int, text: str = "", *commands: str, results: list[str] | None = None) -> str:
        """A model call: what was said before and the results since, answered with text and a tool call a command."""
        if not self.messages:
            self.messages += [{"role": "system", "content": "be good"}, {"role": "user", "content": "fix it"}]
        calls = self.messages[-1].get("tool_calls") or []
        for place, call in enumerate(calls):
            content = (results or [])[place : place + 1] or [json.dumps({"returncode": 0, "output": ""})]
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": content[0]})
        asked = {"model": "m", "messages": list(self.messages)}
        tool_calls = [
            {
                "id": f"call_{len(self.messages)}_{n}",
                "type": "function",
                "function": {"name": "bash", "arguments": json.dumps({"command": command})},
            }
            for n, command in enumerate(commands)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if tool_calls:
            message["tool_calls"] = tool_calls
        self.messages.append(message)
        answer = {
            "id": "x",
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        return self.request(pid, "POST", "https://model.test/v1/chat/completions", asked, answer)

    # what it is all for

    def fold(self, **how: Any) -> Fold:
        fold = Fold(self, **how)
        fold.feed(self.events)
        return fold

    def timeline(self, complete: bool = True) -> dict[str, Any]:
        return View(self.fold()).as_dict({}, complete, "the test says so", 0, 1000)
