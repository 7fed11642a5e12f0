"""The packages anthropic, google-genai and boto3 through a real gateway: what they made of answers is what we read."""

from __future__ import annotations

import pytest

from tests.boundary.reading import model_calls
from tests.boundary.scripted import story
from tests.boundary.scripted.server import scripted
from tests.boundary.vendor_stories import RESULT, STORIES
from tests.collector.gateway.harness import Gateway


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_conversation_with_a_tool_is_read_as_the_client_read_it(gateway: Gateway, session: str, name: str) -> None:
    reply, api, lead = STORIES[name]
    with scripted(reply) as server:
        proxy = gateway.listen(session, upstream={"model.test": server.url})
        seen = lead(proxy)
    calls = model_calls(gateway.ended(session).frames)
    assert len(calls) == len(seen) == len(server.passed) == 2
    for call, answer in zip(calls, seen, strict=True):
        assert (call.api, call.problems, call.cut, call.input_cut, call.error) == (api, [], False, False, None)
        assert (call.text, call.reasoning, call.finish_reason) == (answer.text, answer.reasoning, answer.reason)
        assert [(t.name, t.parsed, t.server) for t in call.tool_calls] == [(n, a, False) for _, n, a in answer.tools]
        assert [t.id for t in call.tool_calls] == [ident or name for ident, name, _ in answer.tools]
        assert (call.response_id, call.response_model) == (answer.id, answer.model)
        assert call.usage == answer.usage
        assert call.streamed == answer.streamed
        assert call.tools == [story.TOOL]
    first, second = calls
    assert [(m.role, m.text) for m in first.messages] == [("system", story.SYSTEM), ("user", story.QUESTION)]
    said, result = second.messages[2:]
    assert (said.role, said.text) == ("assistant", first.text)
    assert [(t.id, t.name, t.parsed) for t in said.tool_calls] == [(t.id, t.name, t.parsed) for t in first.tool_calls]
    assert (result.role, result.text, result.tool_call_id) == ("tool", RESULT, first.tool_calls[0].id)
