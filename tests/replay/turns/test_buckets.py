"""The events of a group are told apart as whoever looks for one names them."""

from __future__ import annotations

import pytest

from sandtrail.replay.events import Event
from sandtrail.replay.turns.buckets import Members
from sandtrail.replay.whereabouts import member_of


@pytest.mark.parametrize(("place", "n"), [(0, 0), (7, 256), (16_383, 4094), (20_000, 1 << 20)])
def test_an_event_is_looked_for_under_the_name_that_it_is_kept_by(place: int, n: int) -> None:
    members = Members()
    members.add(Event(ref=f"3.{place}", n=n))
    assert list(members) == [member_of({"ref": f"3.{place}", "n": n})]
