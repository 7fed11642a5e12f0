"""What a turn tells of its model call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.replay.turns.recording import GATEWAY, SANDBOX, Recording


def test_a_turn_shows_only_what_is_new_since_the_one_before() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "I look.", "ls")
    r.ask(agent, "I am done.", results=["<returncode>0</returncode>"])
    _, first, second = r.timeline()["turns"]
    assert [m["role"] for m in first["input"]["new_messages"]] == ["system", "user"]
    assert [(m["role"], m["text"]) for m in second["input"]["new_messages"]] == [("tool", "<returncode>0</returncode>")]
    assert (first["input"]["messages_total"], second["input"]["messages_total"]) == (2, 4)
    assert first["decision"]["commands"] == ["ls"]
    assert json.loads(first["decision"]["tool_calls"][0]["arguments"]) == {"command": "ls"}


def test_evidence_that_cannot_be_read_is_said_to_be_so() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "I look.", "ls")
    r.payloads.clear()
    _, turn = r.timeline()["turns"]
    assert "cannot be read" in turn["decision"]["error"]
    assert turn["decision"]["commands"] == []


def test_of_long_words_the_beginning_and_the_end_are_shown_and_the_record_is_not_said_to_be_cut() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.messages = [{"role": "user", "content": f"begin {'x' * 100_000} end"}]
    r.ask(agent, "y" * 100_000)
    _, turn = r.timeline()["turns"]
    (message,) = turn["input"]["new_messages"]
    assert (turn["input"]["cut"], message["characters"]) == (False, 100_010)
    assert message["text"].startswith("begin x")
    assert message["text"].endswith("x end")
    assert "(80,010 of 100,010 characters are left out here)" in message["text"]
    assert len(turn["decision"]["text"]) < 30_000


def test_an_edited_history_is_noted_with_the_words_before_and_those_in_their_place() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "one", "ls")
    r.ask(agent, "two", "pwd", results=["it lists a.txt and b.txt"])
    r.messages[3]["content"] = "nothing is there"
    r.ask(agent, "three", "id")
    del r.messages[2:4]
    r.ask(agent, "four")
    *_, edited, shortened = r.timeline()["turns"]
    assert "history edited" in edited["note"]
    (one,) = edited["input"]["changed"]
    assert (one["role"], one["tool"]) == ("tool", "bash")
    assert (one["was"], one["now"]) == ("it lists a.txt and b.txt", "nothing is there")
    assert "history shortened" in shortened["note"]
    assert [(m["was"], m["now"]) for m in shortened["input"]["changed"]] == [
        ('one\n→ bash({"command": "ls"})', None),
        ("nothing is there", None),
    ]
    assert all(turn["input"]["changed"] == [] for turn in r.timeline()["turns"][1:3])


def test_an_answer_that_the_agent_changed_before_it_sent_it_back_is_a_finding() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "I list it.", "ls")
    r.messages[2] = json.loads(json.dumps(r.messages[2]))
    r.messages[2]["tool_calls"][0]["function"]["arguments"] = '{"command": "rm -rf /"}'
    r.ask(agent, "I am done.")
    r.ask(agent, "Really.")
    timeline = r.timeline()
    (finding,) = [f for f in timeline["findings"] if f["verdict"] == "HISTORY_MISMATCH"]
    assert (finding["severity"], finding["turn"]) == ("high", 2)
    assert 'it answered bash({"command": "ls"}), it is shown bash({"command": "rm -rf /"})' in finding["explanation"]
    assert len(finding["refs"]) == 2
    assert "does not hold what the model answered" in timeline["turns"][2]["note"]
    assert timeline["turns"][2]["continues"] == 1


def test_what_a_tool_at_the_provider_gave_is_shown_with_its_call_and_is_no_input() -> None:
    r = Recording()
    agent = r.begin("agent")
    said = [
        {"type": "server_tool_use", "id": "s1", "name": "web_fetch", "input": {"url": "https://x.test"}},
        {"type": "web_fetch_tool_result", "tool_use_id": "s1", "content": {"type": "web_fetch_tool_result_error"}},
        {"type": "text", "text": "It is gone."},
    ]
    history: list[Any] = [{"role": "user", "content": "look"}]
    for last in ("thanks", "bye"):
        answer = {"type": "message", "role": "assistant", "content": said, "stop_reason": "end_turn"}
        r.request(agent, "POST", "https://model.test/v1/messages", {"messages": list(history)}, answer)
        history += [{"role": "assistant", "content": said}, {"role": "user", "content": last}]
    _, first, second = r.timeline()["turns"]
    (call,) = first["decision"]["tool_calls"]
    assert (call["name"], call["server"], call["failed"]) == ("web_fetch", True, True)
    assert "web_fetch_tool_result_error" in call["result"]
    assert [m["text"] for m in second["input"]["new_messages"]] == ["thanks"]


def test_a_sub_agent_names_the_tool_call_that_started_it() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "I delegate.", "review every file of the parser and report what is wrong")
    main, r.messages = (
        r.messages,
        [{"role": "user", "content": "review every file of the parser and report what is wrong"}],
    )
    r.ask(agent, "I review.")
    r.messages = main
    r.ask(agent, "Thank you.")
    _, first, sub, back = r.timeline()["turns"]
    assert (sub["started_by"]["turn"], sub["started_by"]["thread"], sub["started_by"]["confidence"]) == (1, 0, 0.95)
    assert (first["thread"], sub["thread"], back["thread"]) == (0, 1, 0)
    assert (sub["continues"], back["continues"]) == (None, 1)


def test_rows_beyond_the_cap_are_folded_with_their_number() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "", "make")
    shell = r.shell(agent, "make")
    for n in range(200):
        r.write(shell, f"/workspace/{n}.o")
    turn = r.timeline()["turns"][1]
    changes = [row for row in turn["outputs"] if row["object"].endswith(".o")]
    (folded,) = [row for row in turn["outputs"] if row["kind"] == "folded"]
    assert len(changes) + folded["count"] == 200
    assert folded["flags"] == ["folded"]
    assert turn["counts"]["file"] == 200


def carrying(r: Recording, agent: int, method: str, url: str, request: Any, response: Any) -> dict[str, Any]:
    """The row of an exchange whose event says this of its bodies."""
    r.request(agent, method, url)
    event = r.events[-1]
    detail = json.loads(event.detail)
    detail["request"] |= request
    detail["response"] |= response
    r.events[-1] = event._replace(detail=json.dumps({**detail, "status": 200}))
    (row,) = [row for row in r.timeline()["turns"][0]["outputs"] if row["kind"] == "http.exchange"]
    return dict(row)


def test_an_upload_is_shown_as_one() -> None:
    r = Recording()
    part = {"as": "part", "file": "report.pdf", "bytes": 12_345, "sha256": "ab" * 32}
    form = {"media": "multipart/form-data", "bytes": 12_600, "parts": [part], "parts_total": 1}
    row = carrying(r, r.begin("agent"), "POST", "https://drop.test/new", form, {"bytes": 20})
    assert row["summary"] == ("answered 200; uploads report.pdf, 12 kB, sha256 abababababababab…; 13 kB out, 20 B back")
    assert row["flags"] == ["upload"]
    assert row["process"] == "agent"


def test_what_is_put_and_what_comes_back_are_files() -> None:
    r = Recording()
    sent = {"media": "text/plain", "bytes": 5, "sha256": "cd" * 32}
    got = {"media": "application/zip", "bytes": 2_000_000, "sha256": "ef" * 32}
    row = carrying(r, r.begin("agent"), "PUT", "https://drop.test/a/b%20c.txt?x=1", sent, got)
    assert "uploads b c.txt, 5 B, sha256 cdcd" in row["summary"]
    assert "downloads b c.txt, 2.0 MB, sha256 efef" in row["summary"]
    assert row["flags"] == ["download", "upload"]


@pytest.mark.parametrize("cut", [False, True])
def test_what_the_gateway_refused_is_not_told_as_if_it_had_left(cut: bool) -> None:
    r = Recording()
    agent = r.begin("agent")
    r.request(agent, "PUT", "https://drop.test/plan.txt")
    event = r.events[-1]
    detail = json.loads(event.detail)
    ended = {"t": "error", "flow": detail["flow"], "id": detail["id"], "message": "denied"}
    r.payloads[detail.pop("response")["ref"]] = json.dumps(ended).encode()
    why = "drop.test is denied by the rule drop.test"
    detail |= {"by": "gateway", "reason": "denied", "error": why, "status": None}
    detail["request"] |= {"media": "text/plain", "bytes": 65, "sha256": "cd" * 32, "cut": cut}
    r.events[-1] = event._replace(detail=json.dumps(detail), result=None)
    (row,) = [row for row in r.timeline()["turns"][0]["outputs"] if row["kind"] == "http.exchange"]
    assert row["summary"].startswith(f"refused by the gateway; {why}; tried to upload plan.txt, 65 B")
    assert row["summary"].endswith("; 65 B out, and no more" if cut else "; 65 B kept back")
    assert row["flags"] == (["refused", "upload"] if cut else ["refused"])


def test_a_tunnel_of_bytes_says_where_it_went_and_why_it_ended() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, "I look.", "ls")
    client = [SANDBOX, r.connect(agent, *GATEWAY)]
    r.add("http.connect", source="gateway", object="drop.test:7777", detail={"flow": "t", "client": client})
    r.add("http.error", source="gateway", object="TLS that did not begin as such", detail={"flow": "t"})
    r.add("http.tunnel", source="gateway", object="drop.test:7777", detail={"flow": "t", "message": ""})
    r.add("http.close", source="gateway", detail={"flow": "t", "up_bytes": 77, "down_bytes": 64})
    rows = [row for turn in r.timeline()["turns"] for row in turn["outputs"] if row["kind"] == "net.connect"]
    assert rows[-1]["summary"].endswith(
        "the gateway; for drop.test:7777, in bytes that are no HTTP; TLS that did not begin as such; "
        "77 bytes out, 64 in"
    )
    assert "tunnel" in rows[-1]["flags"]


def test_a_request_that_goes_by_several_names_says_so() -> None:
    r = Recording()
    agent = r.begin("agent")
    r.request(agent, "GET", "https://front.test/")
    event = r.events[-1]
    names = {"names": ["front.test", "drop.test"]}
    r.events[-1] = event._replace(detail=json.dumps(json.loads(event.detail) | names))
    (row,) = [row for row in r.timeline()["turns"][0]["outputs"] if row["kind"] == "http.exchange"]
    assert "by the names front.test, drop.test" in row["summary"]


def test_talk_is_no_upload() -> None:
    r = Recording()
    talk = {"media": "application/json", "bytes": 300, "sha256": "cd" * 32}
    row = carrying(r, r.begin("agent"), "POST", "https://api.test/x", talk, {**talk, "bytes": 4000})
    assert (row["summary"], row["flags"]) == ("answered 200; 300 B out, 4.0 kB back", [])
