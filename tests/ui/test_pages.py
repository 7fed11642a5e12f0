"""The page in a real browser, in front of the stand-in: layout, hostile strings, many lines, a session that grows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from sandtrail.ui.text import plain
from tests.ui import stories
from tests.ui.canned import Story, serving
from tests.ui.conftest import Reader, page_server

pytestmark = pytest.mark.needs("chromium")

INCIDENT = "01JNAGENTREVIEW0001"


@pytest.fixture(scope="module")
def story() -> Story:
    story = Story()
    for whole in (stories.incident(), stories.hostile(), stories.large()):
        story.add(whole)
    return story


@pytest.fixture(scope="module")
def url(story: Story) -> Iterator[str]:
    with serving(story) as api, page_server(api) as page:
        yield page


def query(reader: Reader) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(reader.tab.url).query).items()}


def test_from_the_list_to_a_line_to_its_evidence_and_back_to_that_line(reader: Reader, url: str) -> None:
    tab = reader.tab
    tab.goto(url)
    row = tab.locator(".sessions a", has_text=INCIDENT)
    expect(row.locator(".pill.bad")).to_have_text("3")
    expect(row.locator(".pill.good")).to_have_text("complete from the first instruction")
    tab.wait_for_function("window.sandtrailNavigates")  # a click before that is followed too, as a full load
    row.click()
    expect(tab.locator(".finding")).to_have_count(3)
    line = tab.locator(".row.bad .line", has_text="198.51.100.7:4444").last
    line.scroll_into_view_if_needed()
    before = line.bounding_box()
    line.click()
    expect(tab.locator(".verdict.good h3")).to_have_text("verified")
    assert query(reader) == {"session": INCIDENT, "evidence": "12.35"}
    assert tab.title() == "evidence 12.35"
    expect(tab.locator("pre.hex").first).to_contain_text("00000000  14 00 03 00")
    expect(tab.locator("nav.navigator .here b")).to_have_text("3")
    tab.go_back()
    expect(line).to_be_visible()
    tab.wait_for_timeout(1500)  # the place is held while the content settles
    after = line.bounding_box()
    assert before
    assert after
    assert abs(before["y"] - after["y"]) < 3
    tab.go_forward()
    tab.get_by_text("back to the timeline").click()
    expect(tab.locator(".row.here")).to_be_in_viewport()
    expect(tab.locator(".row.here")).to_contain_text("198.51.100.7:4444")
    assert reader.loads == 1, "following links loaded the page anew"


def test_every_line_is_one_link_to_its_own_evidence(reader: Reader, url: str) -> None:
    reader.tab.goto(f"{url}?session={INCIDENT}")
    expect(reader.tab.locator("section.turn")).to_have_count(6)
    rows = reader.tab.locator("section.turn .row")
    asked = [
        (row.get_attribute("id"), parse_qs(urlsplit(row.locator("a.line").get_attribute("href") or "").query))
        for row in rows.all()
    ]
    assert len(asked) > 15
    assert all(name == f"e-{address['evidence'][0]}" for name, address in asked)


def test_each_turn_has_its_three_parts_and_what_no_decision_explains_stands_apart(reader: Reader, url: str) -> None:
    tab = reader.tab
    tab.goto(f"{url}?session={INCIDENT}")
    turn = tab.locator("#turn-3")
    expect(turn.locator(".part > h4")).to_contain_text(["Input", "Decision", "Output"])
    expect(turn.locator(".decision .run")).to_contain_text("bash ./tools/setup.sh")
    expect(turn.locator(".row.gap")).to_contain_text("1 frame missing: unencodable")
    expect(tab.locator("#turn-unexplained .row")).to_contain_text("/usr/sbin/cron-hook")
    expect(tab.locator("#turn-0 .turn-head")).to_contain_text("Before the first model call")
    tab.get_by_text("what each sees and is blind to").click()
    expect(tab.locator(".sources")).to_contain_text("arguments that are not UTF-8")


def test_a_proof_that_fails_is_red_and_says_why(reader: Reader, url: str, story: Story) -> None:
    story.verified = False
    try:
        reader.tab.goto(f"{url}?evidence=12.35")
        expect(reader.tab.locator(".verdict.bad h3")).to_have_text("NOT verified")
        expect(reader.tab.locator(".verdict p")).to_contain_text("leaf leads to the segment's root: 13 hashes")
        assert reader.tab.get_by_text("verified", exact=True).count() == 0
    finally:
        story.verified = True


@pytest.mark.parametrize(
    "where", ["", "?session=hostile", "?session=hostile&evidence=12.200", "?session=hostile&events=1"]
)
def test_hostile_strings_are_shown_and_do_nothing(reader: Reader, url: str, where: str) -> None:
    tab = reader.tab
    tab.goto(url + where)
    expect(tab.locator(".stHtml", has_text="onerror").last).to_be_visible()
    tab.wait_for_timeout(500)
    assert "owned" not in tab.title().replace(plain(stories.HOSTILE[0], 60), "")
    assert tab.evaluate("document.title") != "owned"
    inside = ".stHtml :is(img, iframe, object, embed, svg, form, [onerror], [onmouseover], a[href*=script])"
    assert tab.locator(inside).count() == 0
    assert tab.locator(".stHtml script").count() == 1, "the page's own script is the only one"
    links = tab.evaluate("[...document.querySelectorAll('.stHtml a')].map(a => a.origin)")
    assert set(links) == {url.rstrip("/")}
    text = tab.locator("[data-testid=stMain]").inner_text()
    assert not {char for char in text if not char.isprintable()} - {"\n", "\t", "\xa0"}


def test_every_hostile_string_can_be_read_in_full(reader: Reader, url: str) -> None:
    reader.tab.goto(f"{url}?session=hostile")
    lines = reader.tab.locator("#turn-1 .row:not(.gap) .what")
    expect(lines).to_have_count(len(stories.HOSTILE))
    shown = [line.text_content() for line in lines.all()]
    assert shown == [plain(said) for said in stories.HOSTILE]


def test_ten_thousand_lines_stay_quick_and_the_one_that_matters_is_not_folded(reader: Reader, url: str) -> None:
    tab = reader.tab
    tab.goto(url)
    tab.locator(".sessions a", has_text="--long").wait_for()
    tab.wait_for_function("window.sandtrailNavigates")
    began = time.monotonic()
    tab.locator(".sessions a", has_text="--long").click()
    expect(tab.locator("nav.navigator a")).to_have_count(125)
    expect(tab.locator("section.turn").first).to_be_visible()
    assert time.monotonic() - began < 20, "on an idle machine this is well under one second"
    assert tab.locator(".row").count() <= 1000
    tab.locator("nav.strip a.bad").click()
    expect(tab.locator("#turn-60")).to_be_in_viewport()
    expect(tab.locator("#turn-60 .row.bad")).to_contain_text("file_999.py")
    expect(tab.locator("#turn-60 .left-out")).to_have_text("939 lines left out here")
    tab.get_by_text("show all 1,000 lines of this turn").click()
    expect(tab.get_by_text("lines 1–800 of 1,000")).to_be_visible()
    tab.get_by_text("next ›").click()
    expect(tab.locator("#turn-60 .row")).to_have_count(200)
    assert reader.loads == 1


def test_a_filter_is_part_of_the_address(reader: Reader, url: str) -> None:
    tab = reader.tab
    tab.goto(f"{url}?session={INCIDENT}")
    tab.get_by_placeholder("Filter lines").fill("calc.py")
    tab.keyboard.press("Enter")
    expect(tab.locator(".narrowed")).to_contain_text("1 of 5 turns pass the filter")
    assert query(reader) == {"session": INCIDENT, "q": "calc.py"}
    tab.locator("section.turn .row .line").first.click()
    expect(tab.locator(".verdict")).to_be_visible()
    tab.get_by_text("back to the timeline").click()
    expect(tab.locator(".narrowed")).to_contain_text("1 of 5")
    expect(tab.get_by_placeholder("Filter lines")).to_have_value("calc.py")
    tab.get_by_text("in every single event").click()
    expect(tab.locator(".single .row")).to_have_count(4)
    tab.goto(f"{url}?session={INCIDENT}&flagged=1&kinds=network")
    expect(tab.locator("section.turn")).to_have_count(1)
    expect(tab.locator("section.turn .row:not(.gap)")).to_have_count(1)


def test_a_session_that_is_being_recorded_grows_on_the_page(reader: Reader, url: str, story: Story) -> None:
    whole = stories.incident()
    later = whole["turns"].pop()
    whole["session"] = stories.session(
        "01JNLIVE", state="recording", ended_ns=None, exit_status=None, turns=4, events=50
    )
    story.add(whole)
    tab = reader.tab
    tab.goto(f"{url}?session=01JNLIVE")
    expect(tab.locator(".pill.live")).to_be_visible()
    expect(tab.locator("#turn-4")).to_have_count(0)
    tab.locator("#turn-3 details summary").first.click()
    whole["turns"].append(later)
    whole["session"] |= {"turns": 5, "events": 60}
    expect(tab.locator("#turn-4")).to_be_visible()
    expect(tab.locator("#turn-3 details").first).to_have_attribute("open", "")
    whole["session"] |= {"state": "ended", "ended_ns": stories.START + 10**10, "exit_status": 3}
    expect(tab.locator("header.session .pill.warn")).to_have_text("exit 3")
    assert reader.loads == 1


def test_events_are_downloaded_as_cells_that_no_spreadsheet_runs(reader: Reader, url: str) -> None:
    reader.tab.goto(f"{url}?session=hostile&events=1")
    with reader.tab.expect_download() as download:
        reader.tab.get_by_text("These events as CSV").click()
    body = download.value.path().read_text()
    assert "\"'=cmd|' /C calc'!A0\"" in body
    assert "\x1b" not in body


def test_the_log_can_be_checked_without_the_page(reader: Reader, url: str) -> None:
    reader.tab.goto(f"{url}?session={INCIDENT}")
    reader.tab.get_by_text("Log", exact=True).click()
    expect(reader.tab.locator(".stHtml", has_text="sandtrail verify").last).to_be_visible()
    expect(reader.tab.locator("pre.say")).to_contain_text("node1.example")
    reader.tab.get_by_text("Sessions").click()
    expect(reader.tab.locator(".sessions")).to_be_visible()


@pytest.mark.parametrize("where", ["?session=nobody", "?evidence=nothing", "?session=../log"])
def test_what_is_not_there_is_told_in_words(reader: Reader, url: str, where: str) -> None:
    reader.tab.goto(url + where)
    expect(reader.tab.locator(".trouble")).to_contain_text("Not found")


def test_without_the_api_the_page_says_what_starts_it(reader: Reader) -> None:
    with page_server("http://127.0.0.1:9") as url:
        reader.tab.goto(url)
        expect(reader.tab.locator(".trouble")).to_contain_text("sandtrail serve")
