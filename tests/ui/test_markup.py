from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.ui import markup
from sandtrail.ui.address import Address
from sandtrail.ui.text import plain
from tests.ui.stories import HOSTILE

anything = st.one_of(st.text(st.characters(codec=None), max_size=80), st.sampled_from(HOSTILE))


class Parsed(HTMLParser):
    """What a browser would find in a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.data += data


@given(anything)
def test_text_never_becomes_a_tag_and_says_what_it_said(said: str) -> None:
    parsed = Parsed(markup.tag("p", said))
    assert [name for name, _ in parsed.tags if name != "i"] == ["p"]
    assert all(attrs == {"class": "x"} for name, attrs in parsed.tags if name == "i")
    assert parsed.data == plain(said)


@given(anything, anything)
@example("\"' onmouseover='alert(1)", "</a><script>")
def test_an_attribute_stays_inside_its_quotes(said: str, title: str) -> None:
    parsed = Parsed(markup.link(markup.href(session=said), "x", title=title))
    assert [name for name, _ in parsed.tags] == ["a"]
    attributes = parsed.tags[0][1]
    assert attributes.keys() == {"href", "title"}
    assert attributes["title"] == plain(title)


@given(st.text(min_size=1, max_size=80), st.text(max_size=20))
@example("javascript:alert(1)", "")
@example("//192.0.2.1/", "https://192.0.2.1/")
def test_no_text_makes_a_link_leave_the_page(said: str, other: str) -> None:
    there = Address(session=said, q=other).to_evidence(said)
    parsed = urlsplit(there)
    assert (parsed.scheme, parsed.netloc, parsed.path) == ("", "", "./")
    assert parse_qs(parsed.query, keep_blank_values=True)["evidence"] == [said]


@given(st.text(st.characters(codec=None), max_size=4000), st.integers(1, 60))
def test_a_long_block_is_folded_and_loses_nothing(said: str, lines: int) -> None:
    whole = "\n".join([said] * lines)
    parsed = Parsed(markup.block(whole))
    told = parsed.data.replace("\n", "")
    for line in plain(whole, keep="\n\t").split("\n"):
        assert line.replace("\n", "") in told


def test_a_block_too_long_for_a_page_says_how_much_is_left_out() -> None:
    html = markup.block("x" * 1_000_000)
    assert len(html) < 300_000
    assert "800,000 more characters" in html


def test_addresses_are_read_back_as_they_were_written() -> None:
    address = Address(session="s", evidence="12.3", turn="4", q="a&b=c#d", kinds="file", flagged="1")
    query = {name: values[0] for name, values in parse_qs(urlsplit(address.href()).query).items()}
    assert Address.of({**query, "unknown": "x"}) == address
