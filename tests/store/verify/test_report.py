"""The report, the procedure's docstring and docs/verification.md say the same."""

from __future__ import annotations

import re
from pathlib import Path

from sandtrail.store.verify import procedure as module
from sandtrail.store.verify.report import STEPS, Affected, Report

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = (ROOT / "docs" / "verification.md").read_text()
STORE = ROOT / "sandtrail" / "store"
SOURCES = [path.read_text() for path in (*STORE.glob("verify/*.py"), STORE / "clocks.py")]


def documented() -> set[tuple[int, str]]:
    rows = re.findall(r"^\| (\d+) \| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", DOCUMENT, re.M)
    return {(int(step), kind) for step, kinds in rows for kind in re.findall("[a-z-]+", kinds)}


def test_steps_have_one_number_and_one_name_everywhere() -> None:
    assert re.findall(r"^\| (\d+) \| ([a-z ]+) \|", DOCUMENT, re.M) == [(str(n), name) for n, name in STEPS.items()]
    lines = re.findall(r"^ ?(\d+)\. ([A-Z][a-z ]+):", module.__doc__ or "", re.M)
    assert [(int(number), name.lower()) for number, name in lines] == list(STEPS.items())


def test_every_type_of_finding_is_documented_and_every_documented_one_exists() -> None:
    text = "\n".join(SOURCES)
    direct = {(int(step), kind) for step, kind in re.findall(r'find\(\s*(\d+),\s*"([a-z-]+)"', text)}
    assert direct <= documented()
    for step, kind in documented() - direct:
        assert f'"{kind}"' in text, (step, kind)


def test_a_report_says_what_still_stands() -> None:
    report = Report("home", segments=10)
    assert (report.ok, report.standing) == (True, "everything that was checked can be trusted")
    report.find(4, "tile-damaged", "tile", "proofs")
    assert "no frame is affected" in report.standing
    report.find(8, "blob-damaged", "segment 3", "frames", Affected(segments=(3, 3), frames=5))
    assert "all other evidence" in report.standing
    assert "9 segments" in report.standing
    report.find(2, "checkpoint-missing", "checkpoint", "all", Affected(everything=True))
    assert report.standing == "nothing in this log can be trusted"
    report.sort()
    assert [finding.step for finding in report.findings] == [2, 4, 8]


def test_what_was_left_out_never_counts_as_passed() -> None:
    report = Report("home")
    report.skip(9, "asked for")
    report.skip(9, "later")
    report.skip(12, "no policy")
    report.find(12, "not-witnessed", "head", "nobody")
    states = {step["step"]: (step["state"], step.get("why")) for step in report.steps()}
    assert states[9] == ("not checked", "asked for")
    assert states[12] == ("failed", "no policy")
    assert states[1] == ("passed", None)


def test_of_very_many_findings_the_rest_is_counted() -> None:
    report = Report("home")
    for number in range(1500):
        report.find(8, "blob-missing", f"segment {number}", "gone")
    assert (len(report.findings), report.more) == (1000, {"blob-missing": 500})
    assert report.as_dict()["more"] == {"blob-missing": 500}
