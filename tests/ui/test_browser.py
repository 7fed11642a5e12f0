"""From the list of sessions to signed bytes, in a real browser, over a real recording and the real API."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from playwright.sync_api import expect

from sandtrail.store.layout import Layout
from sandtrail.ui.client import Api
from tests.ui.conftest import Reader, page_server

pytestmark = pytest.mark.needs("root", "runsc", "ip", "nft", "chromium")


class Recording(Protocol):
    """What the demonstration left behind."""

    home: Path
    session: str


@contextmanager
def api_server(home: Path) -> Iterator[str]:
    """Serves the API over a home on a free port, as a user would."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandtrail", "serve", "--home", str(home), "--port", str(port)]
    server = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None, f"the API ended with status {server.returncode}"
            try:
                httpx.get(f"{url}/v1/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the API does not answer"
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def api_url(demo_recording: Recording) -> Iterator[str]:
    with api_server(demo_recording.home) as url:
        yield url


@pytest.fixture(scope="module")
def url(api_url: str) -> Iterator[str]:
    with page_server(api_url) as page:
        yield page


def test_from_the_list_to_a_finding_to_its_verified_bytes(
    demo_recording: Recording, api_url: str, url: str, reader: Reader
) -> None:
    tab = reader.tab
    tab.goto(url)
    row = tab.locator(".sessions a", has_text=demo_recording.session)
    expect(row.locator(".pill.bad")).to_have_text(re.compile(r"[1-9]\d*"))
    tab.wait_for_function("window.sandtrailNavigates")
    row.click()
    expect(tab.locator("section.turn").first).to_be_visible()
    tab.locator(".finding").first.locator(".links a", has_text=re.compile(r"^\d+\.\d+$")).first.click()
    expect(tab.locator(".verdict.good h3")).to_have_text("verified")
    expect(tab.locator(".verdict li.ok")).to_have_count(5)
    ref = tab.locator("header.session h1 b").inner_text()
    with closing(Api(api_url)) as api:
        raw = bytes.fromhex(api.evidence(ref)["raw_hex"])
    shown = tab.locator("pre.hex").first.inner_text().split("\n")[0]
    assert bytes.fromhex(shown[10:58]) == raw[:16]
    tab.get_by_title("next frame").click()
    expect(tab.locator("header.session h1 b")).not_to_have_text(ref)
    expect(tab.locator(".verdict.good h3")).to_have_text("verified")
    tab.get_by_title("previous frame").click()
    expect(tab.locator("header.session h1 b")).to_have_text(ref)
    tab.get_by_text("back to the timeline").click()
    expect(tab.locator("section.turn").first).to_be_visible()
    assert reader.loads == 1


def test_every_kind_of_line_leads_to_evidence_that_holds(demo_recording: Recording, url: str, reader: Reader) -> None:
    tab = reader.tab
    home = f"{url}?session={demo_recording.session}"
    tab.goto(home)
    expect(tab.locator("section.turn .row").first).to_be_visible()
    acts = sorted({act.inner_text() for act in tab.locator("section.turn .row .act").all()})
    assert {"exec", "write"} & set(acts)
    places = [
        ".part.input .ref",
        ".part.decision .ref",
        *(f"section.turn .row .line:has(.act:text-is('{act}'))" for act in acts),
    ]
    for place in places:
        tab.goto(home)
        tab.locator(place).first.click()
        expect(tab.locator(".verdict h3")).to_have_text("verified")
        expect(tab.locator(".verdict li.fails")).to_have_count(0)


def test_a_changed_byte_is_told_on_the_page(
    demo_recording: Recording, api_url: str, tmp_path: Path, reader: Reader
) -> None:
    with closing(Api(api_url)) as api:
        turns = api.timeline(demo_recording.session)["turns"]
    ref = next(turn["decision"]["ref"] for turn in turns if turn["decision"])
    home = tmp_path / "home"
    shutil.copytree(demo_recording.home, home, ignore=lambda _, names: [n for n in names if n == "run"])
    segment = int(ref.split(".")[0])
    blob = Layout(home).segment(segment)
    damaged = bytearray(blob.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    blob.write_bytes(damaged)
    with api_server(home) as api_of_copy, page_server(api_of_copy) as url:
        reader.tab.goto(f"{url}?evidence={ref}")
        expect(reader.tab.locator(".verdict.bad h3, .trouble h3").first).to_be_visible()
        assert reader.tab.locator(".verdict.good").count() == 0
