from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandtrail.replay.api import create_app
from tests.replay.api.conftest import EVIL, index, seal, write_story


def get(api: TestClient, path: str, **query: Any) -> Any:
    answer = api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestSessions:
    def test_lists_what_was_recorded(self, api: TestClient) -> None:
        (session,) = get(api, "/v1/sessions")["sessions"]
        assert (session["id"], session["state"], session["exit_status"]) == ("s1", "ended", 3)
        assert session["command"] == ["sh", "-c", EVIL]
        assert session["turns"] == 3
        assert session["findings"] > session["grave"] >= 0

    def test_one_session_tells_what_each_source_sees(self, api: TestClient) -> None:
        session = get(api, "/v1/sessions/s1")
        assert {s["source"] for s in session["sources"]} == {"lifecycle", "gvisor", "gateway"}
        assert session["completeness"]["reason"]

    def test_an_unknown_session_is_a_problem_document(self, api: TestClient) -> None:
        answer = api.get("/v1/sessions/nobody/timeline")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "Not Found"
        assert "nobody" in answer.json()["detail"]


class TestTimeline:
    def test_has_turns_with_input_decision_and_output(self, api: TestClient) -> None:
        timeline = get(api, "/v1/sessions/s1/timeline")
        start, model, _ = timeline["turns"]
        assert start["kind"] == "start"
        assert any(row["object"] == "cat /etc/passwd" for row in start["outputs"] if row["kind"] == "process.exec")
        assert model["input"]["new_messages"][0]["text"] == EVIL
        assert model["decision"]["text"] == f"All tests pass. {EVIL}"
        assert EVIL in [gap["cause"] for gap in timeline["gaps"]]

    def test_a_streamed_answer_is_put_together_from_its_pieces(self, api: TestClient) -> None:
        decision = get(api, "/v1/sessions/s1/timeline")["turns"][2]["decision"]
        assert decision["text"] == "It comes in pieces."
        assert (decision["streamed"], decision["cut"]) == (True, False)

    def test_turns_are_paged(self, api: TestClient) -> None:
        page = get(api, "/v1/sessions/s1/timeline", offset=1, limit=1)
        assert [turn["index"] for turn in page["turns"]] == [1]
        assert page["turns_total"] == 3

    def test_rows_of_a_turn_are_paged(self, api: TestClient) -> None:
        whole = get(api, "/v1/sessions/s1/turns/0/outputs")
        part = get(api, "/v1/sessions/s1/turns/0/outputs", offset=1, limit=2)
        assert part["outputs"] == whole["outputs"][1:3]
        assert part["total"] == whole["total"]

    def test_a_claim_that_a_gap_may_hide_is_unobservable(self, api: TestClient) -> None:
        verdicts = [finding["verdict"] for finding in get(api, "/v1/sessions/s1/timeline")["findings"]]
        assert "UNOBSERVABLE" in verdicts
        assert "PHANTOM" not in verdicts

    def test_findings_of_all_sessions_can_be_narrowed(self, api: TestClient) -> None:
        every = get(api, "/v1/findings")["findings"]
        assert {f["session"] for f in every} == {"s1"}
        low = get(api, "/v1/findings", severity="low")["findings"]
        assert 0 < len(low) < len(every)


class TestEvents:
    def test_pages_through_every_event_once(self, api: TestClient) -> None:
        seen: list[tuple[str, int]] = []
        after = None
        while True:
            page = get(api, "/v1/events", session="s1", limit=50, **({"after": after} if after else {}))
            seen += [(row["ref"], row["n"]) for row in page["events"]]
            after = page["next"]
            if after is None:
                break
        assert len(seen) == len(set(seen)) == get(api, "/v1/sessions/s1")["events"]

    def test_narrows_by_kind_process_and_text(self, api: TestClient) -> None:
        execs = get(api, "/v1/events", session="s1", kind="process.exec")["events"]
        assert {row["kind"] for row in execs} == {"process.exec"}
        both = get(api, "/v1/events", session="s1", kind="process.exec,file.")["events"]
        assert {row["kind"].split(".")[0] for row in both} >= {"process", "file"}
        pid = execs[-1]["pid"]
        assert {row["pid"] for row in get(api, "/v1/events", session="s1", pid=pid)["events"]} == {pid}
        assert all("passwd" in json.dumps(row) for row in get(api, "/v1/events", session="s1", q="PASSWD")["events"])

    def test_the_turns_of_a_session_share_out_its_events(self, api: TestClient) -> None:
        turns = get(api, "/v1/sessions/s1/timeline")["turns"]
        total = 0
        for turn in [*(str(t["index"]) for t in turns), "unexplained"]:
            total += len(get(api, "/v1/events", session="s1", turn=turn, limit=10_000)["events"])
        assert total == get(api, "/v1/sessions/s1")["events"]

    @pytest.mark.parametrize(
        "query",
        [
            {"after": "x"},
            {"after": "1:2.3:4' OR 1=1"},
            {"kind": "'; DROP TABLE x"},
            {"turn": "0"},
            {"turn": "x", "session": "s1"},
        ],
    )
    def test_what_is_no_question_is_refused(self, api: TestClient, query: dict[str, str]) -> None:
        assert api.get("/v1/events", params=query).status_code == 400


class TestEvidence:
    def test_every_event_leads_to_verified_evidence(self, api: TestClient) -> None:
        refs = {row["kind"]: row["ref"] for row in get(api, "/v1/events", session="s1", limit=10_000)["events"]}
        for kind, ref in refs.items():
            found = get(api, f"/v1/evidence/{ref}")
            assert found["verified"], kind
            assert len(found["checks"]) == 5
            assert kind in {row["kind"] for row in found["decoded"]}
            assert len(bytes.fromhex(found["raw_hex"])) == found["frame"]["size"]

    def test_shows_a_trace_message_as_a_tree(self, api: TestClient) -> None:
        (row, *_) = get(api, "/v1/events", session="s1", kind="process.clone")["events"]
        fields = get(api, f"/v1/evidence/{row['ref']}")["fields"]
        assert fields["header"]["name"] == "SENTRY_CLONE"
        assert fields["message"]["context"]["thread_group_id"] == row["pid"]

    def test_frames_of_a_stream_lead_to_each_other(self, api: TestClient) -> None:
        (row, *_) = get(api, "/v1/events", session="s1", kind="process.clone")["events"]
        after = get(api, f"/v1/evidence/{row['ref']}")["next"]
        assert get(api, f"/v1/evidence/{after}")["previous"] == row["ref"]

    def test_the_body_of_an_exchange_can_be_read_and_taken_along(self, api: TestClient) -> None:
        (row, *_) = get(api, "/v1/events", session="s1", kind="http.request")["events"]
        body = get(api, f"/v1/evidence/{row['ref']}")["body"]
        assert json.loads(body["text"])["messages"][0]["content"] == EVIL
        assert (body["truncated"], body["problems"], body["recorded"]) == (False, [], body["bytes"])
        answer = api.get(f"/v1/evidence/{row['ref']}/body")
        assert answer.content.decode() == body["text"]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment;")
        (clone, *_) = get(api, "/v1/events", session="s1", kind="process.clone")["events"]
        assert get(api, f"/v1/evidence/{clone['ref']}")["body"] is None
        assert api.get(f"/v1/evidence/{clone['ref']}/body").status_code == 404

    def test_garbage_is_shown_as_what_it_is(self, api: TestClient) -> None:
        refs = [row["ref"] for row in get(api, "/v1/events", session="s1", kind="unknown")["events"]]
        said = [get(api, f"/v1/evidence/{ref}")["fields"] for ref in refs]
        assert any("not JSON" in str(tree) for tree in said)

    def test_damage_is_seen_at_once_and_named(self, tmp_path: Path) -> None:
        write_story(tmp_path)
        seal(tmp_path)
        index(tmp_path)
        with TestClient(create_app(tmp_path, follower=False), base_url="http://localhost") as api:
            ref = get(api, "/v1/events", kind="process.clone")["events"][0]["ref"]
            assert get(api, f"/v1/evidence/{ref}")["verified"]
            for blob in (tmp_path / "segments").rglob("*"):
                if blob.is_file():
                    data = bytearray(blob.read_bytes())
                    data[len(data) // 2] ^= 1
                    blob.chmod(0o600)
                    blob.write_bytes(data)
            found = get(api, f"/v1/evidence/{ref}")
            assert not found["verified"]
            assert [check["ok"] for check in found["checks"]] == [True, True, False]


class TestGuard:
    @pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "", "[::1]evil", "localhost.evil.test:8700"])
    def test_a_page_under_another_name_is_refused(self, api: TestClient, host: str) -> None:
        answer = api.get("/v1/sessions", headers={"host": host})
        assert answer.status_code == 421
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8700", "[::1]:8700", "10.0.0.5:80", "LOCALHOST."])
    def test_addresses_and_localhost_are_answered(self, api: TestClient, host: str) -> None:
        assert api.get("/v1/log", headers={"host": host}).status_code == 200

    def test_nothing_can_be_written_and_nobody_else_is_let_in(self, api: TestClient) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = api.request(method, "/v1/sessions", headers={"origin": "http://evil.test"})
            assert answer.status_code == 405
            assert "access-control-allow-origin" not in answer.headers
        assert "default-src 'none'" in api.get("/docs").headers["content-security-policy"]


class TestDescription:
    def test_every_field_and_parameter_is_described(self, api: TestClient) -> None:
        document = get(api, "/openapi.json")
        for path, methods in document["paths"].items():
            for told in methods.values():
                assert told["summary"], path
                assert all(p["description"] for p in told.get("parameters", [])), path
                assert "application/problem+json" in told["responses"]["404"]["content"], path
        for name, shape in document["components"]["schemas"].items():
            assert shape.get("description"), name
            bare = [key for key, field in shape.get("properties", {}).items() if not field.get("description")]
            assert not bare, (name, bare)

    def test_the_page_of_it_needs_nothing_from_elsewhere(self, api: TestClient) -> None:
        page = api.get("/docs").text
        assert "/v1/evidence/{ref}" in page
        assert "<script" not in page
        assert "https://" not in page

    def test_health_says_how_far_the_index_is(self, api: TestClient) -> None:
        health = get(api, "/v1/health")
        assert health["status"] == "ok"
        assert health["follower"] == "off"
        assert health["log_entries"] == health["indexed_entries"]


def test_a_home_without_a_log_answers_all_the_same(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path, follower=False), base_url="http://localhost") as api:
        assert get(api, "/v1/sessions") == {"sessions": [], "next": None}
        assert get(api, "/v1/health")["log_entries"] == 0
        assert get(api, "/v1/events") == {"events": [], "next": None}
        assert api.get("/v1/log").status_code == 404
        assert api.get("/v1/evidence/0.0").status_code == 404
