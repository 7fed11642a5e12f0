"""A disk that does not say what is there: whoever asks ends, and nobody goes on as if there were nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.errors import StoreError
from sandtrail.store.acts import Orders, order
from sandtrail.store.custody import plan_retention
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.layout import Layout, publish
from sandtrail.store.position import spools
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import stored_segments
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.verify import verify
from tests.store.faults_os import NOT_STORED, Op, Trace, unreadable
from tests.store.recording import killed, payloads


@pytest.fixture
def home(store: Path) -> Path:
    """A store with a session of one segment."""
    writer = SpoolWriter(store, "source")
    writer.open({"source": "test", "session": "one", "sandbox": "box"}).write(b"evidence")
    writer.close()
    Sealer(store).stop()
    return store


def refused() -> pytest.RaisesExc[OSError]:
    return pytest.raises(OSError, match="Input/output error")


def named(*ends: str) -> Callable[[Path], bool]:
    return lambda path: str(path).endswith(ends)


def ends(act: Callable[[], object], which: Callable[[Path], bool]) -> None:
    """What is done in a process of its own ends with what the disk said."""

    def run() -> None:
        with unreadable(which), refused():
            act()

    killed(run)


def erasing(home: Path) -> dict[str, object]:
    keys = [key.id for key in DataKeys(home).of_session("one")]
    return {"act": "erase", "keys": keys, "reason": "asked to", "by": "tester"}


def test_an_order_whose_answer_cannot_be_looked_for_is_no_order_that_waits(home: Path) -> None:
    with unreadable(named(".done")), refused():
        order(home, erasing(home))
    assert DataKeys(home).of_session("one")
    Sealer(home).stop()
    assert not DataKeys(home).of_session("one")


def test_orders_that_cannot_be_listed_are_not_taken_for_none(home: Path) -> None:
    with unreadable(named("/acts")), refused():
        list(Orders(home).waiting())
    ends(lambda: Sealer(home), named("/acts"))


def test_a_second_name_of_a_spool_file_is_not_left_because_it_cannot_be_looked_at(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({"source": "test"}).write(b"evidence")
    writer.close()
    (path,) = spools(store)
    other = path.with_name(f".{path.name}.new")
    other.hardlink_to(path)
    ends(lambda: Sealer(store).stop(), named(".new"))
    assert path.exists()
    Sealer(store).stop()
    assert list(Layout(store).spool.iterdir()) == []
    assert payloads(store) == [b"evidence"]


def test_a_blob_that_cannot_be_looked_at_is_not_taken_for_one_that_is_removed(home: Path) -> None:
    now = time.time_ns()
    with unreadable(named(".seg")), refused():
        plan_retention(home, open_log(home), now)

    def fault(op: Op) -> str | None:
        return NOT_STORED if op.name == "unlink" and op.path.endswith(".seg") else None

    def run() -> None:
        with Trace(home, fault).watching(), refused():
            order(home, {"act": "retain", "before": now})

    killed(run)
    assert list(stored_segments(home)) == [0]
    Sealer(home).stop()
    assert list(stored_segments(home)) == []
    assert verify(home).ok


def test_a_log_that_cannot_be_looked_at_is_not_begun_anew(home: Path) -> None:
    Layout(home).checkpoint.rename(home / "kept")
    ends(lambda: Sealer(home), lambda path: path.is_relative_to(home / "log/tile") or path.suffix == ".seg")
    ends(lambda: Sealer(home), lambda path: path.is_relative_to(home / "segments"))
    assert not Layout(home).checkpoint.exists()
    (home / "kept").rename(Layout(home).checkpoint)
    Sealer(home).stop()
    assert verify(home).ok


def test_what_was_not_signed_for_is_not_left_because_it_cannot_be_listed(home: Path) -> None:
    for place in ("/tile", "/tile/0", "/tile/entries/000.p"):
        ends(lambda: Sealer(home), named(place))
    Sealer(home).stop()
    assert verify(home).ok


def test_verify_does_not_take_a_key_that_it_cannot_look_for_to_be_gone(home: Path) -> None:
    (key,) = DataKeys(home).of_session("one")
    order(home, erasing(home))
    path = Layout(home).data_keys / f"{key.name}.key"
    assert verify(home, jobs=1).ok
    publish(path, key.file)
    assert "erasure-undone" in {finding.type for finding in verify(home, jobs=1).findings}
    with unreadable(named(path.name)), pytest.raises(StoreError, match="cannot check"):
        verify(home, jobs=1)


def test_verify_does_not_take_a_log_that_it_cannot_look_at_to_be_none(home: Path) -> None:
    for place in ("/log", "log.vkey", "/log/tile/0"):
        with unreadable(named(place)), pytest.raises(StoreError, match="cannot check"):
            verify(home, jobs=1)
