"""A real Chromium, and the page's real server in front of any API."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sandtrail import ui
from tests.demo.plugin import demo_recording, demo_recordings

__all__ = ["Reader", "browser", "demo_recording", "demo_recordings", "page_server", "reader"]


@contextmanager
def page_server(api_url: str) -> Iterator[str]:
    """Serves the page in front of `api_url` on a free port and yields its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ui.start(api_url, port=port)
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None, f"the page's server ended with status {server.returncode}"
            try:
                httpx.get(f"{url}_stcore/health", trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < deadline, "the page's server does not answer"
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that Playwright knows of."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield started
        started.close()


# A machine that also records sandboxes is slow at times; nothing here waits longer than it must.
expect.set_options(timeout=30_000)


class Reader:
    """A tab that remembers which hosts it asked and what went wrong in it."""

    def __init__(self, tab: Page) -> None:
        self.tab = tab
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.loads = 0
        tab.set_default_timeout(30_000)
        tab.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or request.url[:40]))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        tab.on("load", lambda _: setattr(self, "loads", self.loads + 1))


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """A fresh tab, 1440 by 900."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    found = Reader(context.new_page())
    yield found
    context.close()
    assert found.hosts <= {"127.0.0.1"}, f"the page asked others than its own server: {found.hosts}"
    assert not found.errors
