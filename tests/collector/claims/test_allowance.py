"""How much a sandbox may say: what is beyond it is refused, counted and told; others have their turn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import socket
import struct
import time
import zlib
from typing import Any

import httpx
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # it has no type hints
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # it has no type hints
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExportResult

from sandtrail.collector.claims.allowance import BURST_S, FRAME, Allowance, Turns
from sandtrail.collector.claims.answers import AGAIN, RETRY_S, Answer, status
from sandtrail.collector.claims.http2 import PREFACE
from sandtrail.collector.claims.limits import FIELDS
from sandtrail.collector.gateway.policy import Limits
from tests.collector.claims.harness import Claims, GrpcSpans, HttpSpans, export_with, request_of

PROTOBUF = {"content-type": "application/x-protobuf"}


def post(url: str, data: bytes) -> httpx.Response:
    return httpx.post(f"{url}/v1/traces", content=data, headers=PROTOBUF)


def gaps(claims: Claims, session: str) -> list[dict[str, Any]]:
    return [note for note in claims.recorded(session).notes if note["note"] == "gap"]


def test_beyond_the_sessions_total_nothing_is_kept_and_a_gap_says_so(claims: Claims, session: str) -> None:
    data = request_of(*["x" * 1000] * 10).SerializeToString()
    url = claims.listen(session, limits={"claims": 20_000})
    answers = [post(url, data) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 413, 413, 413]
    assert Status.FromString(answers[-1].content) == Status(code=8, message=Answer.FULL.words)
    assert "retry-after" not in answers[-1].headers
    (first,) = gaps(claims, session)
    assert (first["cause"], first["count"]) == ("telemetry beyond what is kept of a session was turned away", 1)
    recorded = claims.ended(session)
    assert sum(note["count"] for note in recorded.notes) == recorded.closed["over_total"] == 3
    assert recorded.closed["over_bytes"] == 3 * len(data)
    assert len(recorded.of("export")) == 2
    assert recorded.closed["connections"] == 5 == len(recorded.of("close")) + recorded.closed["untold"]
    assert recorded.opened["limits"]["claims"] == 20_000


def test_a_sandbox_that_does_nothing_but_connect_does_not_fill_the_disk_either(claims: Claims, session: str) -> None:
    url = claims.listen(session, limits={"claims": 3 * FRAME})
    for _ in range(20):
        httpx.get(url)
    recorded = claims.ended(session)
    assert len(recorded.frames) < 5
    assert recorded.closed["connections"] == 20


def test_what_comes_too_fast_is_told_when_to_come_again(claims: Claims, session: str) -> None:
    data = request_of(*["x" * 1000] * 20).SerializeToString()
    url = claims.listen(session, limits={"claims_rate": 10})
    assert post(url, data).status_code == 200
    answer = post(url, data)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, str(RETRY_S))
    told = Status.FromString(answer.content)
    retry = RetryInfo()
    assert told.details[0].Unpack(retry)
    assert (told.code, retry.retry_delay.seconds) == (14, RETRY_S)
    recorded = claims.ended(session)
    assert recorded.closed["over_rate"] == 1
    assert [gap["cause"] for gap in recorded.notes] == [
        "telemetry came faster than it is taken, and was told to come again"
    ]


def test_real_exporters_give_up_what_is_over_the_total_and_come_again_with_what_is_too_fast(
    claims: Claims, session: str
) -> None:
    full = claims.listen(session, limits={"claims": 1})
    post(full, b"")
    for exporter in (HttpSpans(f"{full}/v1/traces", timeout=30), GrpcSpans(full, insecure=True, timeout=1)):
        assert exporter.export([]) is SpanExportResult.FAILURE
    assert claims.ended(session).closed["over_total"] >= 2  # Python's over gRPC tries again although it should not
    paced = claims.listen(f"{session}-paced", limits={"claims_rate": 1000})
    while post(paced, b"\x0a\x00" * 4000).status_code == 200:
        pass
    export_with(GrpcSpans(paced, insecure=True, timeout=60), "late")
    recorded = claims.ended(f"{session}-paced")
    assert recorded.of("export")[-1]["protocol"] == "grpc"
    assert recorded.closed["over_rate"] >= 1


def test_the_details_of_a_status_are_those_that_google_rpc_reads() -> None:
    for answer in set(Answer) - {Answer.RECORDED}:
        told = Status.FromString(status(answer))
        assert (told.code, told.message) == (answer.grpc, answer.words)
        assert [detail.Is(RetryInfo.DESCRIPTOR) for detail in told.details] == [True] * (answer in AGAIN)


def test_an_allowance_that_was_spent_comes_back_with_time() -> None:
    now = 100.0
    allowance = Allowance(Limits(claims_rate=1000), clock=lambda: now)
    allowance.worked(1000 * BURST_S + 2000 - FRAME, 0.0)
    assert allowance.judge() is Answer.PACED
    now += 1.9
    assert allowance.judge() is Answer.PACED
    now += 0.2
    assert allowance.judge() is None
    allowance.worked(10, 3.0)  # few bytes that took long
    assert allowance.judge() is Answer.PACED
    now += 1000
    assert allowance.judge() is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), max_size=60), st.integers(1, 3))
def test_whoever_used_least_goes_on_and_every_turn_comes(work: list[tuple[int, int]], places: int) -> None:
    async def run() -> list[int]:
        turns, shares = Turns(places), [Allowance(Limits()) for _ in range(4)]
        done: list[int] = []

        async def one(share: int, size: int) -> None:
            async with turns.of(shares[share]):
                await asyncio.sleep(0)
                shares[share].worked(size, 0.0)
                done.append(share)

        tasks = [asyncio.create_task(one(*item)) for item in work]
        for task in tasks[::7][:3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert turns.free == places
        return done

    cancelled = len(work[::7][:3])
    assert len(asyncio.run(run())) == len(work) - cancelled


def test_a_quiet_sandbox_goes_before_those_that_have_had_much() -> None:
    async def run() -> list[str]:
        turns, order = Turns(1), []
        busy = [Allowance(Limits()) for _ in range(5)]
        quiet = Allowance(Limits())

        async def work(name: str, share: Allowance) -> None:
            async with locks.setdefault(id(share), asyncio.Lock()), turns.of(share):
                order.append(name)
                share.worked(1 << 20, 0.0)
                await asyncio.sleep(0)

        locks: dict[int, asyncio.Lock] = {}  # of a sandbox it is one export at a time
        tasks = [asyncio.create_task(work(f"busy {n}", share)) for _ in range(4) for n, share in enumerate(busy)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(work("quiet", quiet)))
        await asyncio.gather(*tasks)
        return order

    order = asyncio.run(run())
    assert order.index("quiet") <= 6, "it waits for nobody who has had a turn already"


def test_floods_of_several_sandboxes_do_not_starve_another(claims: Claims, session: str) -> None:
    hostile = b"eyJ" * 100_000  # what costs the receiver most, byte for byte
    urls = [claims.listen(f"{session}-{n}") for n in range(4)]

    async def flood() -> float:
        async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=None)) as client:
            sent = [
                asyncio.create_task(client.post(f"{url}/v1/traces", content=hostile, headers=PROTOBUF))
                for _ in range(8)
                for url in urls
            ]
            await asyncio.sleep(0.3)
            loop = asyncio.get_running_loop()
            began = loop.time()
            quiet = await client.post(f"{other}/v1/traces", content=b"", headers=PROTOBUF)
            took = loop.time() - began
            assert quiet.status_code == 200
            waiting = sum(not task.done() for task in sent)
            assert waiting > 8, "the flood is still there"
            for task in sent:
                task.cancel()
            await asyncio.gather(*sent, return_exceptions=True)
        return took

    other = claims.listen(f"{session}-other")
    assert asyncio.run(flood()) < 10, "an exporter gives up after ten seconds"


@pytest.mark.parametrize("limits", [{"claims": 0}, {"claims_rate": "fast"}, {"claim": 1}])
def test_limits_that_make_no_sense_are_refused(claims: Claims, session: str, limits: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        claims.listen(session, limits=limits)


def _frames(kind: int, payload: bytes, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, 0)) + struct.pack(">I", stream) + payload


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        (PREFACE + _frames(4, b""), _frames(6, b"pingping") * 10_000),
        (PREFACE + _frames(4, b""), _frames(8, b"\0\0\0\1") * 10_000),
    ],
    ids=["chunks of a byte", "pings", "window updates"],
)
def test_a_flood_of_small_things_on_many_connections_holds_up_its_own_sandbox(
    claims: Claims, session: str, first: bytes, more: bytes
) -> None:
    url, other = claims.listen(session), claims.listen(f"{session}-other")
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    held = []
    for _ in range(50):
        raw = socket.create_connection(address, 15)
        raw.sendall(first)
        raw.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            raw.send(more)  # as much as there is room for
        held.append(raw)
    began = time.monotonic()
    assert post(other, b"").status_code == 200
    assert time.monotonic() - began < 5, "read one after the other, it would be some 10 s"
    for raw in held:
        raw.close()


def test_a_head_of_very_many_fields_is_refused(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    answer = httpx.post(f"{url}/v1/traces", headers=[(f"x{n}", "y") for n in range(1000)])
    assert answer.status_code == 400
    (frame,) = claims.exports(session)
    assert len(frame["headers"]) == FIELDS


def test_bodies_that_nobody_can_search_are_not_kept(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    secret = b"sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"
    cases = [("snappy", 415), ("gzip, gzip, gzip, gzip", 415), ("gzip", 400), ("zstd", 400)]
    for coding, expected in cases:
        body = zlib.compress(secret * 9)  # none of these
        headers = {**PROTOBUF, "content-encoding": coding}
        assert httpx.post(f"{url}/v1/traces", content=body, headers=headers).status_code == expected
    for frame in claims.exports(session):
        assert (frame["body"], frame["withheld"], frame["body_bytes"]) == ("", len(body), len(body))
        assert frame["body_sha256"] == hashlib.sha256(body).hexdigest()
    mixed = gzip.compress(b"clean") + body
    httpx.post(f"{url}/v1/traces", content=mixed, headers={**PROTOBUF, "content-encoding": "gzip"})
    last = claims.exports(session)[-1]
    assert (base64.b64decode(last["body"]), last["withheld"]) == (b"clean", len(body))


def test_two_codings_told_in_two_headers_are_both_undone(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    body = gzip.compress(b"api_key=sk-ant-api03-0123456789abcdefghijABCDEFGHIJ")
    headers = [
        ("content-type", PROTOBUF["content-type"]),
        ("content-encoding", "identity"),
        ("content-encoding", "gzip"),
    ]
    httpx.post(f"{url}/v1/traces", content=body, headers=headers)
    (frame,) = claims.exports(session)
    assert (frame["decoded"], frame["redacted"]) == (True, 1)
