"""What the demonstration hands to the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.demo import run, story
from sandtrail.errors import UsageError
from tests.demo.plugin import install_agent

pytestmark = pytest.mark.needs("git")


@pytest.fixture(autouse=True)
def agent_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    install_agent()
    for name in ("SANDTRAIL_DEMO_MODEL", "SANDTRAIL_DEMO_KEY", "SANDTRAIL_DEMO_MODEL_NAME"):
        monkeypatch.delenv(name, raising=False)


def values(arguments: list[str], option: str) -> dict[str, str]:
    pairs = [argument.partition("=")[2] for argument in arguments if argument.startswith(f"--{option}=")]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def test_everything_that_the_script_needs_is_answered_on_this_machine() -> None:
    with run.stage() as (arguments, _):
        upstreams = values(arguments, "upstream")
    assert upstreams.keys() == {story.MODEL_HOST, story.DOCS_HOST, story.PRICES_HOST}
    assert all(url.startswith("http://127.0.0.1:") for url in upstreams.values())


def test_only_the_scene_is_writable() -> None:
    with run.stage() as (arguments, _):
        mounts = [argument.removeprefix("--mount=").split(":") for argument in arguments if "--mount=" in argument]
        assert {place for _, place, mode in mounts if mode == "rw"} == {story.WORKSPACE, story.HOME}
        folders = [Path(source) for source, _, _ in mounts]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder, (_, _, mode) in zip(folders, mounts, strict=True) if mode == "rw")


def test_a_real_model_is_asked_itself_and_its_key_is_on_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDTRAIL_DEMO_MODEL", "https://model.example.test/v1")
    monkeypatch.setenv("SANDTRAIL_DEMO_KEY", "sk-very-secret")
    monkeypatch.setenv("SANDTRAIL_DEMO_MODEL_NAME", "some-model")
    with run.stage() as (arguments, environment):
        assert environment == {"OPENAI_BASE_URL": "https://model.example.test/v1", "OPENAI_API_KEY": "sk-very-secret"}
        assert values(arguments, "upstream").keys() == {story.DOCS_HOST}
        assert {"--env=OPENAI_BASE_URL", "--model=openai/some-model"} <= set(arguments)
        assert "--secret=OPENAI_API_KEY@model.example.test" in arguments
        assert "sk-very-secret" not in " ".join(arguments)


@pytest.mark.parametrize(("model", "key"), [("https://model.example.test/v1", ""), ("model.example.test", "sk")])
def test_a_real_model_needs_an_address_and_a_key(monkeypatch: pytest.MonkeyPatch, model: str, key: str) -> None:
    monkeypatch.setenv("SANDTRAIL_DEMO_MODEL", model)
    monkeypatch.setenv("SANDTRAIL_DEMO_KEY", key)
    with pytest.raises(UsageError, match="SANDTRAIL_DEMO_KEY"), run.stage():
        pass
