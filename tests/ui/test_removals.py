"""What the page says where evidence was erased: over a real store, the real API, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sandtrail.replay.follow import catch_up
from sandtrail.store.acts import order
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.ui.conftest import Reader, page_server
from tests.ui.stories import HOSTILE
from tests.ui.test_browser import api_server

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session that was erased, for a hostile reason, and one that is held."""
    home = tmp_path_factory.mktemp("home")
    for name in ("secret-name", "kept"):
        spool = SpoolWriter(home, "test")
        stream = spool.open({"source": "lifecycle", "session": name, "sandbox": f"{name}-pod", "command": ["sh", name]})
        stream.close("ended")
        spool.close()
    Sealer(home).stop()
    catch_up(home).close()
    keys = DataKeys(home)
    erased, kept = ([key.id for key in keys.of_session(name)] for name in ("secret-name", "kept"))
    order(home, {"act": "erase", "keys": erased, "reason": HOSTILE[0], "by": HOSTILE[2]})
    order(home, {"act": "hold", "keys": kept, "on": True, "case": "4711", "by": "operator"})
    catch_up(home).close()
    return home


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with api_server(home) as api, page_server(api) as page:
        yield page


def test_the_list_says_that_a_session_was_erased_and_not_which(reader: Reader, url: str) -> None:
    reader.tab.goto(url)
    panel = reader.tab.locator(".removals")
    expect(panel).to_contain_text("A session was erased on 20")
    expect(panel).to_contain_text(HOSTILE[0])
    expect(panel).to_contain_text("2 frames in 1 segments")
    expect(reader.tab.locator(".sessions a")).to_have_count(1)
    assert "secret-name" not in reader.tab.content()
    assert reader.tab.title() != "owned"


def test_erased_evidence_tells_what_still_holds(reader: Reader, url: str, home: Path) -> None:
    (act,) = [entry.map for entry in open_log(home).entries() if entry.kind == "erase"]
    segments = [e.map for e in open_log(home).entries() if e.kind == "segment" and e.map["key"] in act["keys"]]
    reader.tab.goto(f"{url}?evidence={segments[0]['segment']}.0")
    expect(reader.tab.locator(".trouble h3")).to_have_text("Erased")
    expect(reader.tab.locator("table.facts")).to_contain_text(segments[0]["blob"].hex())
    expect(reader.tab.locator("table.facts")).to_contain_text("still there, and as signed")


def test_a_hold_is_seen_on_the_session(reader: Reader, url: str) -> None:
    reader.tab.goto(f"{url}?session=kept")
    expect(reader.tab.locator("header.session")).to_contain_text("held for 4711")
