from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sandtrail.errors import NotFoundError, RecorderError
from sandtrail.ui.client import Api
from tests.ui import stories
from tests.ui.canned import Story, serving


@pytest.fixture
def story() -> Story:
    story = Story()
    story.add(stories.incident())
    return story


@pytest.fixture
def api(story: Story) -> Iterator[Api]:
    with serving(story) as url:
        api = Api(url)
        yield api
        api.close()


def test_a_long_timeline_is_read_page_by_page(story: Story, api: Api) -> None:
    story.add(stories.large(lines=4_000, turns=1_200))
    turns = api.timeline("large")["turns"]
    assert [turn["index"] for turn in turns] == list(range(1_200))


@pytest.mark.parametrize("name", ["..", ".", "../log", "a/b", "a?b", "x#y", "%2e%2e"])
def test_a_name_from_the_address_bar_stays_one_part_of_the_path(story: Story, api: Api, name: str) -> None:
    with pytest.raises(NotFoundError):
        api.session(name)
    assert story.asked[-1].startswith("/v1/sessions/")
    assert story.asked[-1].count("/") == 3
    assert "?" not in story.asked[-1]


def test_a_problem_document_is_told_in_its_own_words(api: Api) -> None:
    with pytest.raises(NotFoundError, match="Not found: nothing at /v1/sessions/nobody"):
        api.session("nobody")


def test_a_server_that_is_not_there_is_told_with_what_starts_it() -> None:
    api = Api("http://127.0.0.1:9")
    with pytest.raises(RecorderError, match="sandtrail serve"):
        api.sessions()
    api.close()


def test_a_server_that_takes_long_is_not_said_to_be_absent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
        with pytest.raises(RecorderError, match="has not answered yet"):
            api.sessions()
        api.close()


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, story: Story) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with serving(story) as url:
        api = Api(url)
        assert api.sessions()["sessions"]
        api.close()
