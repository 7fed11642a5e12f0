"""What the API says of evidence that was erased or removed: that, when, why, and what still holds; not of whom."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandtrail.replay.api import create_app
from sandtrail.replay.follow import catch_up
from sandtrail.store.acts import order
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.layout import Layout
from sandtrail.store.merkle import leaf_hash, root_from_path
from sandtrail.store.reader import open_log
from sandtrail.store.tiles import TileReader
from tests.replay.api.conftest import seal, write_story

ABOUT = {"reason": "asked for", "by": "operator"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One session of which all segments were removed, one that was erased, one that is there."""
    home = tmp_path_factory.mktemp("home")
    write_story(home, "old")
    seal(home)
    before = max(int(e.map["last"][0]) for e in open_log(home).entries() if e.kind == "segment") + 1
    write_story(home, "s1")
    write_story(home, "secret-name")
    seal(home)
    catch_up(home).close()
    order(home, {"act": "retain", "before": before, **ABOUT})
    keys = [key.id for key in DataKeys(home).of_session("secret-name")]
    order(home, {"act": "erase", "keys": keys, **ABOUT})
    catch_up(home).close()
    return home


@pytest.fixture(scope="module")
def api(home: Path) -> Iterator[TestClient]:
    with TestClient(create_app(home, follower=False), base_url="http://127.0.0.1:8700") as client:
        yield client


def manifest(home: Path, key: str) -> dict[str, Any]:
    return next(e.map for e in open_log(home).entries() if e.kind == "segment" and e.map["key"].hex() == key)


def test_removals_say_how_much_and_name_nobody(api: TestClient, home: Path) -> None:
    erased, removed = api.get("/v1/removals").json()["removals"]
    assert (erased["kind"], removed["kind"]) == ("erase", "retain")
    assert {name: erased[name] for name in ABOUT} == ABOUT
    assert erased["frames"] == manifest(home, erased["keys"][0])["frames"]
    assert erased["from_ns"] < erased["to_ns"] < erased["at_ns"]
    assert "secret-name" not in api.get("/v1/removals").text
    assert [row["id"] for row in api.get("/v1/sessions").json()["sessions"]] == ["s1"]
    missing = api.get("/v1/sessions/secret-name")
    assert (missing.status_code, "erased" in missing.json()["detail"]) == (404, True)


def test_an_erased_frame_is_gone_and_its_digests_hold(api: TestClient, home: Path) -> None:
    erased = api.get("/v1/removals").json()["removals"][0]
    entry = manifest(home, erased["keys"][0])
    answer = api.get(f"/v1/evidence/{entry['segment']}.0")
    assert (answer.status_code, answer.headers["content-type"]) == (410, "application/problem+json")
    found = answer.json()
    assert found["type"] == "urn:sandtrail:erased"
    assert "the key that it was stored under is destroyed" in found["detail"]
    assert found["removal"] == {name: erased[name] for name in ("log_index", "kind", "at_ns", "reason", "by")}
    blob = Layout(home).segment(entry["segment"]).read_bytes()
    assert found["digests"]["blob"] == hashlib.sha256(blob).hexdigest()
    assert (found["digests"]["kept"], found["digests"]["inner_root"]) == (True, entry["root"].hex())
    # Whoever has the log's entry can follow the proof to the signed root.
    place, proof = found["position"], found["proof"]
    data = TileReader(home / "log", place["log_size"]).entry(place["log_index"])
    assert leaf_hash(data).hex() == proof["leaf"]
    path = [bytes.fromhex(step) for step in proof["outer"]]
    root = root_from_path(leaf_hash(data), place["log_index"], place["log_size"], path)
    assert root is not None
    assert base64.b64encode(root).decode() in proof["checkpoint"]


def test_a_removed_frame_is_gone_too(api: TestClient) -> None:
    answer = api.get("/v1/evidence/0.0")
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:sandtrail:removed")
    assert answer.json()["digests"]["kept"] is False
    assert answer.json()["removal"]["kind"] == "retain"


def test_the_body_of_what_is_gone_is_gone_too(api: TestClient, home: Path) -> None:
    erased = api.get("/v1/removals").json()["removals"][0]
    for ref in ("0.0", f"{manifest(home, erased['keys'][0])['segment']}.0"):
        answer = api.get(f"/v1/evidence/{ref}/body")
        assert (answer.status_code, answer.headers["content-type"]) == (410, "application/problem+json")
    assert api.get("/v1/evidence/99999.0/body").status_code == 404


def test_a_frame_that_never_was_is_not_found(api: TestClient) -> None:
    erased = api.get("/v1/removals").json()["removals"][0]
    assert api.get("/v1/evidence/0.999999").status_code == 404
    assert api.get("/v1/evidence/99999.0").status_code == 404
    assert erased["kind"] == "erase"


def test_it_is_as_the_document_describes(api: TestClient) -> None:
    described = api.get("/openapi.json").json()
    shape = described["components"]["schemas"]["Gone"]
    assert "410" in described["paths"]["/v1/evidence/{ref}"]["get"]["responses"]
    assert set(api.get("/v1/evidence/0.0").json()) == set(shape["properties"]) - {"errors"}
    assert set(shape["required"]) <= set(api.get("/v1/evidence/0.0").json())
    assert "#/$defs" not in json.dumps(described)


def test_a_proof_shows_the_salt_of_its_leaf(api: TestClient, home: Path) -> None:
    row = api.get("/v1/events", params={"session": "s1", "limit": 1}).json()["events"][0]
    found = api.get(f"/v1/evidence/{row['ref']}").json()
    frame = found["frame"]
    numbers = (int(frame["stream"], 16), frame["seq"])
    head = b"\0" + bytes.fromhex(found["proof"]["salt"]) + b"".join(n.to_bytes(8, "little") for n in numbers)
    kind = {"OPEN": 1, "DATA": 2, "NOTE": 3, "CLOSE": 4}[frame["kind"]].to_bytes(1, "little")
    clocks = b"".join(frame[f"{clock}_ns"].to_bytes(8, "little") for clock in ("realtime", "monotonic", "boottime"))
    assert len(found["proof"]["salt"]) == 64
    leaf = hashlib.sha256(head + kind + clocks + bytes.fromhex(found["raw_hex"])).hexdigest()
    assert leaf == found["proof"]["leaf"]


def test_a_key_that_is_missing_without_a_word_is_damage(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write_story(home, "s1")
    seal(home)
    (key,) = DataKeys(home).of_session("s1")
    DataKeys(home).destroy(key.id)
    segment = manifest(home, key.name)["segment"]
    with TestClient(create_app(home, follower=False), base_url="http://127.0.0.1:8700") as api:
        answer = api.get(f"/v1/evidence/{segment}.0")
    assert (answer.status_code, "no signed entry says" in answer.json()["detail"]) == (500, True)


def test_a_session_tells_what_it_lost_and_who_holds_it(api: TestClient, home: Path) -> None:
    assert api.get("/v1/sessions/s1").json()["removed"] is None
    keys = [key.id for key in DataKeys(home).of_session("s1")]
    order(home, {"act": "hold", "keys": keys, "on": True, "case": "4711", "by": "operator"})
    catch_up(home).close()
    assert api.get("/v1/sessions/s1").json()["held"] == ["4711"]
