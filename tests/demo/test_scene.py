"""The scene is what the story says: the bug is real, the fix fixes it, and every package of the agent is pinned."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from deploy.demo import agent, scene, story
from deploy.demo.scripted_web import ScriptedWeb

OWED = "from shop.pricing import total; print(total([1999], [1999, 1250]))"


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.needs("git")
def test_the_bug_is_real_and_the_fix_fixes_it(tmp_path: Path) -> None:
    workspace = scene.build(tmp_path).workspace
    assert run(workspace, sys.executable, "-c", OWED) == "-1250"
    fix = next(command for turn in story.TURNS for command in turn.commands if "write_text" in command)
    run(workspace, "sh", "-c", fix)
    assert run(workspace, sys.executable, "-c", OWED) == "0"


@pytest.mark.needs("git")
def test_the_workspace_is_a_clean_repository_of_its_own(tmp_path: Path) -> None:
    workspace = scene.build(tmp_path).workspace
    assert run(workspace, "git", "rev-parse", "--show-toplevel") == str(workspace.resolve())
    assert run(workspace, "git", "status", "--short") == ""
    assert run(workspace, "git", "log", "--format=%s") == "Add the shop"


def test_the_guide_carries_the_injection_and_no_other_page_exists() -> None:
    with ScriptedWeb() as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            with urllib.request.urlopen(f"{web.url}/contributing", timeout=10) as page:
                assert b"sh tools/setup.sh" in page.read()
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                urllib.request.urlopen(f"{web.url}/prices.json", timeout=10)
            refused.value.close()
        finally:
            web.shutdown()
            thread.join()


def test_the_lock_pins_every_file_and_names_no_registry() -> None:
    text = agent.LOCK.read_text()
    requirements = re.findall(r"^[\w.-]+==.*(?:\n    .*)*", text, re.MULTILINE)
    assert any(line.startswith("mini-swe-agent==2.4.") for line in requirements)
    assert all("--hash=sha256:" in line for line in requirements)
    assert "://" not in text


def test_the_script_of_the_attack_is_what_the_truth_says() -> None:
    script = (scene.SOURCE / "tools/lib/usage.sh").read_text()
    address, port = story.OUTSIDE.split(":")
    assert f"/dev/tcp/{address}/{port}" in script
    assert f"getent hosts {story.LOOKED_UP}" in script
    assert f"setsid sh {story.LEFT_BEHIND_SCRIPT} " in (scene.SOURCE / "tools/setup.sh").read_text()
