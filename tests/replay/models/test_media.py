"""Images, sounds and files in messages: what of them is named, in the words of every API."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models import Exchange, decode_exchange
from sandtrail.replay.models.mcp_words import content_words
from sandtrail.replay.models.media import MAX_INLINE, media_words, readable
from sandtrail.replay.turns.mcp_told import squeezed
from tests.replay.models.talk import shaped

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 10
DATA = base64.b64encode(PNG).decode()
HELD = f"2.6 kB, sha256 {sha256(PNG).hexdigest()[:16]}…"
IMAGE = f"[image image/png, {HELD}]"


def shown(url: str, content: Any, field: str = "messages") -> str:
    """The words of a request's only message."""
    message = {"role": "user", "parts" if field == "contents" else "content": content}
    body = json.dumps({"model": "m", field: [message]}).encode()
    call = decode_exchange(Exchange("f", "1", method="POST", url=url, request_body=body))
    assert call is not None
    return call.messages[0].text


CHAT, RESPONSES = "https://api.test/v1/chat/completions", "https://api.test/v1/responses"
ANTHROPIC = "https://api.test/v1/messages"
GEMINI = "https://api.test/v1beta/models/m:generateContent"
BEDROCK = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/m/converse"
URL = f"data:image/png;base64,{DATA}"


@pytest.mark.parametrize(
    ("url", "part", "words"),
    [
        (CHAT, {"type": "image_url", "image_url": {"url": URL}}, IMAGE),
        (CHAT, {"type": "image_url", "image_url": {"url": "https://a.test/x.png"}}, "[image, https://a.test/x.png]"),
        (CHAT, {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, f"[audio wav, {HELD}]"),
        (
            CHAT,
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{DATA}"}},
            f"[file a.pdf, application/pdf, {HELD}]",
        ),
        (CHAT, {"type": "file", "file": {"file_id": "file-1"}}, "[file, file-1]"),
        (RESPONSES, {"type": "input_image", "image_url": URL}, IMAGE),
        (RESPONSES, {"type": "input_image", "file_id": "file-1"}, "[image, file-1]"),
        (RESPONSES, {"type": "input_file", "filename": "a.bin", "file_data": DATA}, f"[file a.bin, {HELD}]"),
        (RESPONSES, {"type": "input_file", "file_url": "https://a.test/b"}, "[file, https://a.test/b]"),
        (ANTHROPIC, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}, IMAGE),
        (ANTHROPIC, {"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "[image, file_1]"),
        (
            ANTHROPIC,
            {"type": "document", "title": "t", "source": {"type": "url", "url": "https://a.test/t.pdf"}},
            "[document t, https://a.test/t.pdf]",
        ),
        (GEMINI, {"inlineData": {"mimeType": "image/png", "data": DATA}}, IMAGE),
        (GEMINI, {"fileData": {"mimeType": "text/csv", "fileUri": "gs://b/c"}}, "[file text/csv, gs://b/c]"),
        (BEDROCK, {"image": {"format": "png", "source": {"bytes": DATA}}}, f"[image png, {HELD}]"),
        (
            BEDROCK,
            {"document": {"name": "n", "format": "pdf", "source": {"s3Location": {"uri": "s3://b/n"}}}},
            "[document n, pdf, s3://b/n]",
        ),
    ],
)
def test_a_part_says_what_it_holds_by_type_size_and_digest(url: str, part: dict[str, Any], words: str) -> None:
    field = {RESPONSES: "input", GEMINI: "contents"}.get(url, "messages")
    assert shown(url, [part], field) == words


def test_an_image_in_a_tools_result_is_named_alike_over_mcp_and_is_no_other_word_of_it() -> None:
    over_mcp = content_words({"content": [{"type": "image", "data": DATA, "mimeType": "image/png"}]})
    assert over_mcp == IMAGE
    blob = {"type": "resource", "resource": {"uri": "file:///a.bin", "blob": DATA}}
    assert content_words({"content": [blob]}) == f"[resource, {HELD}, file:///a.bin]"
    assert squeezed(f"it is {IMAGE} and [file a.pdf, {HELD}] there") == "itisandthere"


@pytest.mark.parametrize(
    ("inline", "words"),
    [
        (f"{DATA[:8]}!{DATA}", f"6 B, sha256 {sha256(PNG[:6]).hexdigest()[:16]}…, of base64 that breaks off there"),
        (DATA.rstrip("="), HELD),
        ("\r\n".join(DATA[at : at + 76] for at in range(0, len(DATA), 76)), HELD),
        ("data:text/plain,a%20b", f"3 B, sha256 {sha256(b'a b').hexdigest()[:16]}…"),
        ("A" * (MAX_INLINE + 1), "16,777,217 characters, too long to be decoded here"),
    ],
)
def test_of_inline_content_counts_what_can_be_decoded(inline: str, words: str) -> None:
    assert words in media_words({"data": inline}, "image")


def test_a_name_cannot_close_the_brackets() -> None:
    assert media_words({"filename": "a]\n[image, all is well"}, "file") == "[file a) (image, all is well]"


FIELDS = ("data", "url", "source", "image_url", "file", "format", "file_data", "name", "data:;base64,AAA", "AA-_=")


@given(st.dictionaries(st.sampled_from(FIELDS), shaped(*FIELDS)))
def test_whatever_a_part_holds_is_said_in_one_line(part: dict[str, Any]) -> None:
    words = media_words(part, "image")
    words.encode()
    assert (words[:6], words[-1], len(words.splitlines())) == ("[image", "]", 1)
    assert len(words) < 1200


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (999, "999 B"), (3_400, "3.4 kB"), (60_000, "60 kB")])
def test_sizes_are_for_people(size: int, words: str) -> None:
    assert readable(size) == words
