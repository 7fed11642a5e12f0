"""A credential in a claim is nowhere on disk, and what stands for it leaves the export readable."""

from __future__ import annotations

import asyncio
import gzip
import json

import grpc  # type: ignore[import-untyped]  # it has no type hints
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sandtrail.collector.claims.redact import Rules, clean
from sandtrail.collector.claims.wire import texts
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor
from tests.collector.claims.harness import Claims, GrpcSpans, HttpSpans, body, export_with, request_of
from tests.collector.gateway.secrets_of_all_kinds import TOKENS, in_context

BY_PLACE = "Correct4Horse5Battery"
PLACES = ("http.request.header.authorization", "api_key", "db.password", "acme-token", "http.request.header.cookie")


def attributes() -> dict[str, str]:
    """A credential of every form, each in the middle of a text; and one that only its place tells."""
    told = {f"text.{n}": f"I used {in_context(kind).decode()}" for n, kind in enumerate(TOKENS)}
    return told | {name: f"{BY_PLACE}{n}" for n, name in enumerate(PLACES)}


def nowhere(claims: Claims) -> None:
    written = claims.written()
    for secret in [*TOKENS.values(), BY_PLACE.encode()]:
        assert secret not in written, secret


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("over", ["grpc", "http/protobuf", "http/json"])
def test_credentials_are_replaced_before_anything_is_written(
    claims: Claims, session: str, over: str, zipped: bool
) -> None:
    url = claims.listen(session)
    told = attributes()
    if over == "http/json":
        data = json.dumps(MessageToDict(request_of("a", **told))).encode()
        coded = {"content-encoding": "gzip"} if zipped else {}
        headers = {"content-type": "application/json", "x-api-key": BY_PLACE, **coded}
        answer = httpx.post(f"{url}/v1/traces", content=gzip.compress(data) if zipped else data, headers=headers)
        assert answer.status_code == 200
    elif over == "grpc":
        squeezed = grpc.Compression.Gzip if zipped else None
        headers = {"authorization": f"Bearer {BY_PLACE}"}
        export_with(GrpcSpans(url, insecure=True, compression=squeezed, headers=headers), "a", **told)
    else:
        compression = Compression.Gzip if zipped else Compression.NoCompression
        export_with(HttpSpans(f"{url}/v1/traces?key={BY_PLACE}", compression=compression), "a", **told)
    (frame,) = claims.exports(session)
    nowhere(claims)
    assert frame["redacted"] >= len(told)
    assert frame.get("decoded", False) == zipped
    if over == "http/json":
        kept = json.loads(body(frame))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
        found = {pair["key"]: pair["value"]["stringValue"] for pair in kept}
        assert all("{{credential:" in text for text in found.values())
    else:
        (resource,) = ExportTraceServiceRequest.FromString(body(frame)).resource_spans
        found = {pair.key: pair.value.string_value for pair in resource.scope_spans[0].spans[0].attributes}
        assert [len(text) for text in found.values()] == [len(text) for text in told.values()]
        assert all(mark.startswith("{{credential:") for mark in frame["marks"])
    assert set(found) == set(told)
    assert all(text.startswith("I used ") for name, text in found.items() if name.startswith("text."))


def test_one_secret_has_one_fingerprint_in_claims_and_in_traffic(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    export_with(HttpSpans(f"{url}/v1/traces"), "a", api_key=BY_PLACE)
    (frame,) = claims.exports(session)
    mark = Fingerprinter.load(claims.home).mark("api-key", BY_PLACE.encode())
    assert frame["marks"] == [mark]


def test_what_stands_once_in_a_telling_place_is_replaced_wherever_it_comes_again(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    export_with(HttpSpans(f"{url}/v1/traces"), "a", api_key=BY_PLACE)
    export_with(HttpSpans(f"{url}/v1/traces"), "b", said=f"the key is {BY_PLACE}, or so I think")
    nowhere(claims)
    assert len(claims.exports(session)) == 2


@pytest.mark.parametrize("over", ["protobuf", "json"])
def test_names_of_the_operators_own_count_too(claims: Claims, session: str, over: str) -> None:
    url = claims.listen(session, redact={"fields": ["recovery_code"], "headers": ["x-tenant"]})
    told = {"acme.recovery_code": "four words of it", "http.request.header.x-tenant": "blue", "x": "blue"}
    request = request_of("a", **told)
    if over == "json":
        httpx.post(f"{url}/v1/traces", json=MessageToDict(request)).raise_for_status()
    else:
        export_with(HttpSpans(f"{url}/v1/traces"), "a", **told)
    (frame,) = claims.exports(session)
    kept = body(frame)
    assert frame["redacted"] == 2
    assert b"four words" not in kept
    assert kept.count(b"blue") == 1


def test_ordinary_words_stay(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    told = {"gen_ai.usage.output_tokens": "12", "gen_ai.token.type": "input", "message": "The token ends the key."}
    export_with(HttpSpans(f"{url}/v1/traces"), "a", **told)
    (frame,) = claims.exports(session)
    assert "redacted" not in frame


def cleaned(data: bytes, *, as_json: bool = False) -> bytes:
    return asyncio.run(clean(Rules(Redactor(Fingerprinter(b"k" * 32))), data, "", as_json=as_json)).body


@given(
    values=st.dictionaries(
        st.sampled_from([*PLACES, "message", "gen_ai.prompt", "x"]),
        st.text(max_size=40) | st.sampled_from([in_context(kind).decode() for kind in TOKENS]),
    )
)
def test_a_message_stays_a_message_whatever_is_replaced_in_it(values: dict[str, str]) -> None:
    sent = request_of("a", **values).SerializeToString()
    kept = cleaned(sent)
    assert len(kept) == len(sent)
    (resource,) = ExportTraceServiceRequest.FromString(kept).resource_spans
    assert [pair.key for pair in resource.scope_spans[0].spans[0].attributes] == list(values)


@given(data=st.binary(max_size=400), as_json=st.booleans())
def test_any_bytes_are_redacted_without_a_word(data: bytes, as_json: bool) -> None:
    cleaned(data, as_json=as_json)


@given(data=st.binary(max_size=400))
def test_texts_lie_one_after_the_other(data: bytes) -> None:
    at = 0
    for begin, end in texts(data):
        assert at <= begin <= end <= len(data)
        at = end


@given(text=st.text(min_size=1, max_size=200), cut=st.integers(0, 20))
def test_a_text_is_found_whole_also_in_a_message_that_is_cut_off_behind_it(text: str, cut: int) -> None:
    sent = request_of("a", first=text, second="y" * 30).SerializeToString()
    data = sent[: len(sent) - cut]
    raw = text.encode()
    place = sent.index(raw + b"J") if raw + b"J" in sent else sent.index(raw)
    covered = [(begin, end) for begin, end in texts(data) if begin <= place and place + len(raw) <= end]
    inside = [span for span in texts(data) if place <= span[0] and span[1] <= place + len(raw)]
    assert covered or inside


def test_a_text_that_could_be_a_message_of_numbers_is_a_text() -> None:
    sent = request_of("a", first="0\x1f").SerializeToString()
    place = sent.index(b"0\x1f")
    assert (place, place + 2) in list(texts(sent))


def _deep(size: int) -> bytes:
    """A message in a message in a message, none of which has a byte that no text has before the innermost."""
    parts, length = [b"\x01"], 1
    while length < size:
        head, rest = b"\x0a", length
        while rest > 127:
            head, rest = head + bytes((rest & 127 | 128,)), rest >> 7
        parts.append(head + bytes((rest,)))
        length += len(parts[-1])
    return b"".join(reversed(parts))


@pytest.mark.parametrize(
    "message",
    [
        _deep(1 << 18),
        b"\x08\x01" * 500_000,
        b"\x08\x01" * 500_000 + b"\x07",
        b"\x0a\x02\x01\x01" * 200_000,
        b"token\x12" * 100_000,
    ],
    ids=["deep", "numbers", "no message", "many", "names"],
)
def test_a_message_made_to_be_slow_takes_a_time_by_its_size_and_gives_way(message: bytes) -> None:
    async def run() -> float:
        loop, longest = asyncio.get_running_loop(), 0.0

        async def others() -> None:
            nonlocal longest
            while True:
                began = loop.time()
                await asyncio.sleep(0)
                longest = max(longest, loop.time() - began)

        watching = asyncio.create_task(others())
        await clean(Rules(Redactor(Fingerprinter(b"k" * 32))), message, "", as_json=False)
        watching.cancel()
        return longest

    assert asyncio.run(asyncio.wait_for(run(), 60)) < 1, "a deep one of 2 MB took ten minutes without a break"
