"""The page's script, run by Streamlit for every reader: reads the address, asks the API, lays the views out.

Nothing that a sandbox wrote reaches Streamlit except through `markup` (escaped HTML) or `text.plain`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import streamlit as st

from sandtrail.errors import NotFoundError, SandtrailError
from sandtrail.ui.address import UNEXPLAINED, Address
from sandtrail.ui.choose import CATEGORIES, Filter, gaps_by_turn, page_of, pages, turn_of
from sandtrail.ui.client import Gone
from sandtrail.ui.known import api, beside_of, detail_of, health_now, session_or_none, stamp, timeline_now
from sandtrail.ui.markup import Child, join, link, tag
from sandtrail.ui.shapes import Evidence, Session, Timeline, Turn
from sandtrail.ui.text import plain
from sandtrail.ui.views import events as events_view
from sandtrail.ui.views import evidence as evidence_view
from sandtrail.ui.views import log as log_view
from sandtrail.ui.views import session as session_view
from sandtrail.ui.views import sessions as sessions_view
from sandtrail.ui.views.claims import unplaced_block
from sandtrail.ui.views.findings import findings_panel
from sandtrail.ui.views.lines import Scene
from sandtrail.ui.views.removals import gone_panel, removals_panel
from sandtrail.ui.views.turn import turn_block, unexplained_block

HERE = Path(__file__).parent
LIVE_SECONDS = 2.0


def show(*children: Child) -> None:
    """Puts escaped HTML on the page; Streamlit's sanitizer is a second fence, not the first."""
    html = join(*children)
    if html:
        st.html(html)


def sessions_page() -> None:
    """The list; it follows what is being recorded."""
    st.set_page_config(page_title="Sandtrail")

    @st.fragment(run_every=LIVE_SECONDS)
    def live() -> None:
        try:
            page = api().sessions(st.query_params.get("cursor"))
        except SandtrailError as error:
            return show(trouble(error))
        show(sessions_view.behind(health_now()))
        gone = removals_panel(api().removals()) if not st.query_params.get("cursor") else None
        if not page["sessions"]:
            return show(gone, sessions_view.empty(api().url))
        known = [detail_of(row["id"], stamp(row)) for row in page["sessions"]]
        show(sessions_view.table(known, time.time_ns()))
        if page["next"]:
            show(link(Address(cursor=page["next"]).href(), "older sessions ›", cls="ref"))
        return show(gone)

    show(session_view.crumbs(Address(), None))
    live()


def trouble(error: SandtrailError) -> Child:
    """Returns an error as the page shows it: what to do; of what is not there, whether it may come yet."""
    said = tag("section", tag("h3", "This cannot be shown"), tag("p", str(error)), cls="trouble")
    return join(said, sessions_view.behind(health_now()) if isinstance(error, NotFoundError) else None)


def session_page(address: Address) -> None:
    """One session: facts and findings above, then its turns; filter and navigator beside them."""
    session = api().session(address.session)
    st.set_page_config(page_title=session_view.short_command(session, 60))
    show(session_view.crumbs(address, session))
    recording = session["state"] == "recording"

    @st.fragment(run_every=LIVE_SECONDS if recording else None)
    def main() -> None:
        try:
            fresh = api().session(address.session) if recording else session
            if recording and fresh["state"] == "ended":
                st.rerun()
            draw_timeline(fresh, timeline_now(fresh), address)
        except SandtrailError as error:
            show(trouble(error))

    # A long session takes a while the first time. One that grows is asked for all the time: there this would flicker.
    if not recording:
        with st.spinner("Reading the session …"), suppress(SandtrailError):  # which the main part tells
            timeline_now(session)
    sidebar(session, address)
    main()


def sidebar(session: Session, address: Address) -> None:
    """Filter and navigator; they stay where they are on every page of a session."""

    @st.fragment(run_every=LIVE_SECONDS if session["state"] == "recording" else None)
    def turns() -> None:
        try:
            fresh = api().session(session["id"]) if session["state"] == "recording" else session
            timeline = timeline_now(fresh)
        except SandtrailError:
            return  # the main part says so
        passing = wanted(timeline, address).narrow(timeline["turns"])
        show(session_view.navigator(timeline, passing, address, shown_turn(timeline, address)))

    with st.sidebar:
        filter_widgets(address)
        turns()


def filter_widgets(address: Address) -> None:
    """The filter; the address is its only state, so that a view can be sent to somebody else."""
    st.session_state["q"] = address.q
    st.session_state["kinds"] = [kind for kind in address.kinds.split(",") if kind in CATEGORIES]
    st.session_state["flagged"] = bool(address.flagged)

    def changed() -> None:
        said = {
            "q": st.session_state["q"],
            "kinds": ",".join(st.session_state["kinds"]),
            "flagged": "1" if st.session_state["flagged"] else "",
        }
        said["thread"] = address.thread
        kept = {"session": address.session, **{name: value for name, value in said.items() if value}}
        st.query_params.from_dict(kept)

    st.text_input("Filter", key="q", placeholder="Filter lines", label_visibility="collapsed", on_change=changed)
    st.pills("Kinds", CATEGORIES, selection_mode="multi", key="kinds", label_visibility="collapsed", on_change=changed)
    st.toggle("Only what is flagged", key="flagged", on_change=changed)


def wanted(timeline: Timeline, address: Address) -> Filter:
    """Returns the filter that the address asks for."""
    judged = frozenset(ref for finding in timeline["findings"] for ref in finding["refs"])
    kinds = frozenset(address.kinds.split(",")) & frozenset(CATEGORIES)
    return Filter(address.q, kinds, bool(address.flagged), judged, address.thread)


def shown_turn(timeline: Timeline, address: Address) -> int | None:
    """Returns the turn that the address points at."""
    if ref := address.evidence or address.at:
        return turn_of(timeline, ref)
    return int(address.turn) if address.turn.isdigit() else None


def draw_timeline(session: Session, timeline: Timeline, address: Address) -> None:
    """Lays a timeline out: one element a turn, so that what has not changed is not drawn again."""
    want = wanted(timeline, address)
    scene = Scene.of(timeline, address, want)
    show(session_view.facts(session))
    show(findings_panel(timeline["findings"], address))
    show(session_view.gaps_panel(timeline["gaps"], scene))
    show(session_view.strip(timeline, address))
    turns = want.narrow(timeline["turns"])
    odd = [output for output in timeline["unexplained"] if want.output(output) and not want.thread]
    here = shown_turn(timeline, address)
    if address.whole:
        turns = [turn for turn in turns if turn["index"] == here]
        odd = odd if address.turn == UNEXPLAINED else []
    cut = pages(turns)
    number = len(cut) - 1 if address.turn == UNEXPLAINED else page_of(cut, here)
    if want:
        show(narrowed(len(turns), len(timeline["turns"]), address))
    show(turner(number, cut, address))
    gaps = gaps_by_turn(timeline)
    for turn in cut[number]:
        show(turn_block(turn, scene, gaps.get(turn["index"], ())))
    show(turner(number, cut, address))
    if odd and (number == len(cut) - 1 or want):
        show(unexplained_block(odd, scene))
    if "claims" in timeline and number == len(cut) - 1 and not want and not address.whole:
        show(unplaced_block(timeline["claims"], scene))


def narrowed(kept: int, total: int, address: Address) -> Child:
    """Returns the line that says how much the filter hides."""
    search = Address(session=address.session, events="1", q=address.q).href()
    every = link(search, f"search “{plain(address.q, 40)}” in every single event", cls="ref") if address.q else None
    clear = link(Address(session=address.session).href(), "clear", cls="ref")
    alone = tag("b", f"thread {plain(address.thread, 20)} alone") if address.thread else None
    said = tag("span", f"{kept:,} of {total:,} turns pass the filter")
    return tag("div", alone, said, clear, every, cls="narrowed")


def turner(number: int, cut: list[list[Turn]], address: Address) -> Child:
    """Returns the way to the pages before and after."""
    if len(cut) < 2:
        return None
    before = link(address.to_turn(cut[number - 1][0]["index"]), "‹ earlier turns", cls="ref") if number else None
    after = (
        link(address.to_turn(cut[number + 1][0]["index"]), "later turns ›", cls="ref")
        if number + 1 < len(cut)
        else None
    )
    span = f"turns {cut[number][0]['index']}–{cut[number][-1]['index']}"
    return tag("div", before, tag("span", span, cls="dim"), tag("span", cls="grow"), after, cls="turner")


def events_page(address: Address) -> None:
    """Single events of a session."""
    session = api().session(address.session)
    show(session_view.crumbs(address, session))
    sidebar(session, address)
    narrow = {"kind": address.kinds, "turn": address.turn, "q": address.q, "pid": address.pid, "after": address.cursor}
    page = api().events(address.session, limit=500, **{name: value or None for name, value in narrow.items()})
    show(events_view.events_table(page["events"], address, page.get("next")))
    if page["events"]:
        st.download_button(
            "These events as CSV",
            events_view.spreadsheet(page["events"]).encode(),
            f"events-{plain(address.session, 60)}.csv".replace("/", "_"),
            "text/csv",
            on_click="ignore",
        )


def evidence_page(address: Address) -> None:
    """One frame."""
    evidence = api().evidence(address.evidence)
    name = address.session or str(evidence["source"].get("session") or "")
    st.set_page_config(page_title=evidence_view.title(evidence))
    session = session_or_none(name)
    show(session_view.crumbs(address, session))
    if session:
        sidebar(session, Address.of({**vars(address), "session": session["id"]}))
    beside = beside_of(session, evidence["ref"])
    show(evidence_view.head(evidence, address, *neighbours(evidence), beside))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        show(evidence_view.fields_panel(evidence))
        if evidence.get("body"):
            name = f"{plain(evidence['ref'], 40)}.body"
            whole = partial(api().body, evidence["ref"])
            st.download_button("The body as a file", whole, name, "application/octet-stream", on_click="ignore")
        show(evidence_view.hex_panel(evidence))
    with right:
        show(evidence_view.verdict_panel(evidence))
        show(evidence_view.position_panel(evidence))


def neighbours(evidence: Evidence) -> tuple[str | None, str | None]:
    """Returns the references of the frames before and after."""
    return evidence.get("previous"), evidence.get("next")


def trail() -> None:
    """Everything that the address's query names."""
    address = Address.of(st.query_params.to_dict())
    try:
        if address.evidence:
            evidence_page(address)
        elif address.session and address.events:
            events_page(address)
        elif address.session:
            session_page(address)
        else:
            sessions_page()
    except Gone as gone:
        show(session_view.crumbs(address, session_or_none(address.session)), gone_panel(gone.problem))
    except SandtrailError as error:
        show(session_view.crumbs(address, None))
        show(trouble(error))


def log_page() -> None:
    """The log's head."""
    show(session_view.crumbs(Address(), None))
    try:
        show(log_view.log_page(api().log()))
    except SandtrailError as error:
        show(trouble(error))


def main() -> None:
    """Runs once for each look at the page."""
    st.set_page_config(page_title="Sandtrail", layout="wide", initial_sidebar_state="expanded")
    st.html(f"<style>{(HERE / 'style.css').read_text()}</style>")
    shown = st.navigation(
        [
            st.Page(trail, title="Sessions", default=True),
            st.Page(log_page, title="Log", url_path="log"),
        ],
        position="hidden",
    )
    shown.run()
    # The only script on the page: ours, constant, and without a byte of anybody else's.
    st.html(f"<script>{(HERE / 'navigate.js').read_text()}</script>", unsafe_allow_javascript=True)


main()
