"""Each bench does what it says, in a configuration so small that its figures mean nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from math import log
from pathlib import Path
from typing import Any

import pytest

from bench.memory import exponent
from bench.report import Target, rotated
from tests.parts import CHECKOUT


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run benches; their part of the JSON. Whether targets are met is not asked: that takes a machine of its own."""
    out = folder / "bench.json"
    command = [sys.executable, "-m", "bench", *arguments, "--dir", str(folder), "--json", str(out)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert out.exists(), done.stdout + done.stderr
    report: dict[str, Any] = json.loads(out.read_text())["benches"]
    problems = [problem for one in report.values() for problem in one["problems"]]
    assert problems == []
    met = all(target["met"] for one in report.values() for target in one["targets"])
    assert done.returncode == (0 if met else 1)
    assert [path.name for path in folder.iterdir()] == [out.name], "a bench leaves nothing but its figures"
    return report


@pytest.mark.needs("foreign-go", "index")
def test_append_counts_what_every_writer_has_stored(tmp_path: Path) -> None:
    report = bench(tmp_path, "append", "--frames", "20000", "--rounds", "2")["append"]
    assert list(report["lines"]) == ["sandtrail", "unsalted", "plain", "sqlite", "aics", "tessera", "tessera-4096"]
    for name, rounds in report["rounds"].items():
        assert len(rounds) == 2
        assert all(one["frames"] == one["asked"] >= 2500 for one in rounds), name
    lines = report["lines"]
    # Whoever keeps payloads as they are needs more than their 120 bytes; we need less, encrypted or not.
    assert lines["sandtrail"]["bytes_per_frame"] < 60 < 120 < lines["sqlite"]["bytes_per_frame"]
    assert lines["tessera"]["to_tessera"] == 1
    assert len(report["targets"]) == 3


def test_append_names_the_line_that_cannot_run_and_measures_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDTRAIL_CACHE", "/dev/null/none")
    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "append", "--frames=2000", "--rounds=1"]
    done = subprocess.run([*command, f"--json={out}", f"--dir={tmp_path}"], cwd=CHECKOUT, check=False)
    report = json.loads(out.read_text())["benches"]["append"]
    assert done.returncode == 1
    assert list(report["lines"]) == ["sandtrail", "unsalted", "plain", "sqlite"]
    assert any("tools/foreign/build" in problem for problem in report["problems"])
    assert not report["targets"][-1]["met"]


def test_memory_verify_and_proof_share_a_store_that_verifies(tmp_path: Path) -> None:
    report = bench(tmp_path, "memory", "verify", "proof", "--frames", "20000", "--rounds", "1")
    memory, verify, proof = report["memory"], report["verify"], report["proof"]
    assert memory["sizes"] == [200, 2000, 20_000]
    for row in memory["rows"].values():
        assert all(10 < peak < 1000 for peak in row["peak_mib"])
        assert all(cost > 0 for cost in row["us_per_frame"])
    assert set(verify["lines"]) == {"sha256", "stored", "trees", "full"}
    # The stream's own first frame is one more.
    assert verify["rounds"]["trees"][0]["frames"] == verify["rounds"]["full"][0]["frames"] >= 20_000
    assert proof["refs"] == 20
    assert 0 < proof["ms"]["checked"]["median"] < proof["ms"]["made"]["median"]


@pytest.mark.needs("root", "runsc-2026-09", "cc", "ip")
def test_size_counts_what_two_real_recordings_take(tmp_path: Path) -> None:
    report = bench(tmp_path, "size", "--reads", "3000", "--execs", "20", "--files", "10", "--frames", "40000")["size"][
        "recordings"
    ]
    full = report.pop("full")
    assert full["frames"] >= 40_000
    assert full["proof_bytes_per_frame"] < report["storm"]["proof_bytes_per_frame"]
    for one in report.values():
        assert one["disk_bytes"] == sum(one["parts"].values())
        assert one["parts"]["segments"] < one["raw_bytes"] < one["json_bytes"]
        assert one["proof_bytes"] > one["parts"]["log"] > 0
    assert report["storm"]["frames"] > 3000
    # A session of shell, Python, tar and a compiler is many kinds of event.
    assert report["varied"]["frames"] > 1500


def test_cost_is_fitted_as_a_power_of_the_number_of_frames() -> None:
    sizes = [100_000, 1_000_000, 10_000_000]
    assert exponent(sizes, [3.0, 3.0, 3.0]) == pytest.approx(0)
    assert exponent(sizes, [size**0.25 for size in sizes]) == pytest.approx(0.25)
    assert exponent(sizes, [log(size) for size in sizes]) > 0.05


def test_a_target_is_met_at_its_limit() -> None:
    assert Target("speed", 20, ">=", 20).met
    assert not Target("speed", 19.99, ">=", 20).met
    assert Target("size", 0.2, "<=", 0.2).met
    assert not Target("size", 0.21, "<=", 0.2).met


def test_what_is_faster_than_its_floor_keeps_no_promise() -> None:
    assert Target("speed", 1.0, ">=", 0.6, possible=1).met
    impossible = Target("speed", 1.08, ">=", 0.6, possible=1)
    assert not impossible.met
    assert "measure again" in str(impossible)


def test_every_variant_has_every_place_in_turn() -> None:
    turns = list(rotated(["a", "b", "c"], 4))
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
