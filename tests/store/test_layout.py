"""What is asked of the disk is answered by the disk: an error is no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.store.layout import Layout, is_folder, listed, present, sweep
from sandtrail.store.position import spools
from tests.store.faults_os import unreadable


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    for name in ("b.seg", "a.seg", ".a.seg.1.tmp", "other"):
        (tmp_path / name).touch()
    assert present(tmp_path / "other")
    assert not present(tmp_path / "nothing")
    assert is_folder(tmp_path)
    assert not any(is_folder(tmp_path / name) for name in ("other", "nothing", "other/below"))
    assert listed(tmp_path, ".seg") == [tmp_path / "a.seg", tmp_path / "b.seg"]
    assert listed(tmp_path, ".tmp") == []
    assert listed(tmp_path, ".tmp", hidden=True) == [tmp_path / ".a.seg.1.tmp"]
    assert listed(tmp_path / "nothing") == listed(tmp_path / "other") == []


def test_a_disk_that_does_not_say_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    home = Layout(tmp_path / "home").make().home
    asks = (
        lambda: is_folder(home),
        lambda: present(home),
        lambda: listed(home),
        lambda: spools(home),
        lambda: sweep(home),
    )
    with unreadable(lambda _path: True):
        for ask in (*asks, Layout(home).settle, Layout(home).make):
            with pytest.raises(OSError, match="Input/output error"):
                ask()
