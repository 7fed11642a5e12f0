"""What comes in place of an answer, whatever the API: a page, plain words, a body that is cut."""

from __future__ import annotations

from typing import Any

import pytest

from tests.replay.models.talk import read

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
GEMINI = {"contents": [{"parts": [{"text": "hello"}]}]}
APIS: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": "hello"},
    "/v1/messages": CHAT,
    "/v1beta/models/g:generateContent": GEMINI,
    "/v1beta/models/g:streamGenerateContent": GEMINI,
    "/model/x/converse": CHAT,
    "/model/x/converse-stream": CHAT,
    "/model/x/invoke": CHAT,
}
PAGE = b"<html><body>Please log in</body></html>"


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    ("body", "media"),
    [
        (PAGE, "text/html"),
        (PAGE, "application/json"),
        (PAGE, "text/event-stream"),
        (b"upstream timed out", "text/plain"),
    ],
)
def test_what_came_whole_and_is_no_answer_is_told_in_its_own_words(path: str, body: bytes, media: str) -> None:
    call = read(body, APIS[path], f"http://m{path}", media)
    assert (call.error, call.choices, call.cut, call.streamed) == (body.decode(), [], False, False)


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_an_answer_of_which_only_the_beginning_came_is_cut(path: str, mark: bytes) -> None:
    call = read(mark + b'{"id": "x", "choi', APIS[path], f"http://m{path}")
    assert (call.choices, call.cut, call.error) == ([], True, None)
    assert call.problems


def test_a_stream_is_told_by_what_it_looks_like_after_a_byte_order_mark_as_well() -> None:
    body = b'\xef\xbb\xbfdata: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    call = read(body, CHAT, "http://m/v1/chat/completions", "text/plain")
    assert (call.text, call.streamed, call.cut) == ("hi", True, False)
    assert call.problems == ["a stream of events, sent as text/plain"]
