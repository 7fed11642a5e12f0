"""The process: what it answers when it can't record, how it ends, and that neither its death nor its clock is noticed
by anybody else."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandtrail.collector.claims import link as links
from sandtrail.collector.claims.allowance import Turns
from sandtrail.collector.claims.answers import Answer, http_body
from sandtrail.collector.claims.link import Link
from sandtrail.collector.claims.session import Session
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.store.spool import SpoolWriter
from tests.collector.claims.harness import Claims, GrpcSpans, HttpSpans, body, export_with, request_of
from tests.collector.recorder import Recorder, recorded
from tests.store.recording import sealed

PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[], Claims]]:
    """Starts receivers on this test's home; all of them are gone when it ends."""
    started: list[Claims] = []

    def one() -> Claims:
        started.append(Claims(home))
        return started[-1]

    yield one
    for running in started:
        running.control.close()
        running.process.kill()
        running.process.wait()


def test_nothing_is_acknowledged_that_is_not_recorded_and_the_gap_is(start: Callable[[], Claims]) -> None:
    claims = start()
    url = claims.listen("s")
    data = request_of("first").SerializeToString()
    full = sum(path.stat().st_size for path in (claims.home / "spool").glob("claims.*"))
    resource.prlimit(claims.process.pid, resource.RLIMIT_FSIZE, (full + 100, resource.RLIM_INFINITY))
    answers = [httpx.post(f"{url}/v1/traces", content=data, headers=PROTOBUF) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert answers[0].headers["retry-after"] == "5"
    assert answers[0].content == http_body(Answer.UNRECORDED, as_json=False)[1]
    resource.prlimit(claims.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert httpx.post(f"{url}/v1/traces", content=data, headers=PROTOBUF).status_code == 200
    recorded = claims.ended("s")
    assert body(recorded.one("export")) == data
    gaps = [note for note in recorded.notes if note["note"] == "gap"]
    # Ends of connections, too, could not be recorded.
    assert sum(gap["count"] for gap in gaps) == recorded.closed["unrecorded"] >= 3
    assert gaps[0]["cause"] == "exports were turned away: the spool could not be written"


def test_an_exporter_tries_again_until_its_spans_are_recorded(
    start: Callable[[], Claims], caplog: pytest.LogCaptureFixture
) -> None:
    claims = start()
    url = claims.listen("s")
    full = sum(path.stat().st_size for path in (claims.home / "spool").glob("claims.*"))
    resource.prlimit(claims.process.pid, resource.RLIMIT_FSIZE, (full + 100, resource.RLIM_INFINITY))
    loop = asyncio.new_event_loop()

    async def meanwhile() -> None:
        sending = loop.run_in_executor(None, export_with, GrpcSpans(url, insecure=True, timeout=60), "at last")
        async with asyncio.timeout(60):
            while "UNAVAILABLE" not in caplog.text:  # the exporter's own word for having been turned away
                await asyncio.sleep(0.01)
        assert claims.exports("s") == []
        resource.prlimit(claims.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await sending

    loop.run_until_complete(meanwhile())
    loop.close()
    (frame,) = claims.exports("s")
    assert b"at last" in body(frame)


def test_stop_ends_every_stream_and_the_process(start: Callable[[], Claims]) -> None:
    claims = start()
    urls = [claims.listen(f"s{n}") for n in range(3)]
    for url in urls:
        export_with(HttpSpans(f"{url}/v1/traces"))
    assert claims.ask({"op": "stop"}) == {"ok": True, "op": "stop"}
    assert claims.process.wait(15) == 0
    for n in range(3):
        recorded = claims.recorded(f"s{n}")
        assert recorded.closed["reason"] == "recorder stopped"
        assert recorded.closed["exports"] == 1
        assert recorded.closed["frames"] == 1 + len(recorded.frames)


def test_a_session_that_ends_takes_its_listeners_with_it(start: Callable[[], Claims]) -> None:
    claims = start()
    url = claims.listen("s")
    with httpx.Client() as idle:
        idle.post(f"{url}/v1/traces", content=b"", headers=PROTOBUF)
        recorded = claims.ended("s")
    assert recorded.closed["reason"] == "session ended"
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{url}/v1/traces", content=b"", headers=PROTOBUF)
    assert not claims.ask({"op": "unlisten", "session": "s"})["ok"]


def test_a_receiver_that_dies_has_a_successor_on_the_same_listeners_and_the_gateway_lives_on(home: Path) -> None:
    with (
        Recorder(home) as recorder,
        socket.create_server(("127.0.0.1", 0)) as sock,
        socket.create_server(("127.0.0.1", 0)) as proxy,
    ):
        recorder.session()
        recorder.keeper.listen("s1", [proxy.fileno()], {"source": "gateway"})
        recorder.keeper.listen("s1", [sock.fileno()], {"source": "claims"}, "claims")
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        export_with(HttpSpans(f"{url}/v1/traces"), "before")
        gateway = recorder.processes()["gateway"]
        os.kill(recorder.processes()["claims"]["pid"], signal.SIGKILL)
        # The listening socket is the keeper's, too: who connects meanwhile waits.
        export_with(HttpSpans(f"{url}/v1/traces", timeout=60), "after")
        assert recorder.processes()["gateway"] == gateway
        streams = recorder.end()
        assert [stream["source"] for stream in streams].count("claims") == 1
    payloads = [frame.payload for frame in sealed(home) if b'"t":"export"' in frame.payload]
    assert len(payloads) == 2
    second = recorded(home, "claims")[-1]
    assert [gap["cause"] for gap in second.notes("gap")] == ["the receiver of claims was started again"]


@pytest.mark.parametrize(
    ("said", "why", "kept"),
    [
        (b"", "nothing was sent for too long", []),
        (b"POST /v1/tra", "an export took too long", []),
        (b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc", "an export took too long", [b"abc"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "nothing was sent for too long", []),
    ],
    ids=["idle", "half a head", "half a body", "only a preface"],
)
def test_whoever_is_slow_is_hung_up_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, why: str, kept: list[bytes]
) -> None:
    for limit in ("IDLE_S", "STALL_S", "EXPORT_S"):
        monkeypatch.setattr(links, limit, 0.3)

    async def talk(session: Session) -> bytes:
        server = await asyncio.start_server(lambda r, w: Link(session, r, w).serve(), host="127.0.0.1", port=0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(said)
        answer = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        server.close()
        return answer

    class Spied(Session):
        told: list[dict[str, object]]

        def _write(self, frame: object) -> bool:
            assert isinstance(frame, dict)
            self.told.append(frame)
            return super()._write(frame)

    async def run() -> list[dict[str, object]]:
        Spied.told = []
        session = Spied("s", {}, SpoolWriter(home, "claims"), Fingerprinter(b"k" * 32), Turns(2))
        await talk(session)
        return session.told

    frames = asyncio.run(run())
    assert [frame["reason"] for frame in frames if frame["t"] == "refused"] == [why]
    assert [frame["body"] for frame in frames if frame["t"] == "export"] == kept
    assert [frame["t"] for frame in frames][-1] == "close"
