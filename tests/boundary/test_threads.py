"""Conversations of real clients, told apart and held together without an id."""

from __future__ import annotations

import pytest

from sandtrail.replay.models import decode_exchange
from sandtrail.replay.turns.conversation import Threads
from tests.fixtures.record_models import HERE, read


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("*.json")))
def test_what_real_clients_send_back_is_what_was_answered(name: str) -> None:
    """Of each vendor's package, whole and streamed: one thread, nothing changed, nothing but the result new."""
    threads = Threads()
    calls = [decode_exchange(exchange) for exchange in read(name)]
    assert len(calls) > 1
    for number, call in enumerate(calls):
        assert call is not None
        place = threads.add(call)
        threads.answered(number, call)
        assert (place.thread, place.parent, place.note) == (0, number - 1 if number else None, None)
        assert [message.role for message in call.messages[place.new_from :]] in (
            [["tool"]] if number else [["system", "user"], ["user"]]
        )
