"""curl in a real sandbox sends a file out in every way it knows, and fetches one: each is found by the file's bytes."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandtrail.cli import app
from sandtrail.replay.timeline import read_timeline
from tests.collector.gateway.upstream import Server, serving
from tests.collector.session.conftest import keeper_ends, own_recorder  # noqa: F401  # fixtures
from tests.collector.session.recorded import recorded
from tests.collector.session.recorder import Recorder

pytestmark = [pytest.mark.needs("root", "runsc", "ip", "nft", "curl"), pytest.mark.timeout(180)]

FILE = "".join(f"{number}\n" for number in range(1, 400)).encode()
COMMANDS = """
cd /tmp; seq 1 399 > plan.txt
curl -sf -F "paper=@plan.txt" http://drop.test/form
curl -sf -T plan.txt http://drop.test/put/plan.txt
curl -sf -T - http://drop.test/stream < plan.txt
curl -sf --data-urlencode "d=$(base64 -w0 plan.txt)" http://drop.test/field
gzip -c plan.txt | curl -sf -H "Content-Encoding: gzip" -H "Content-Type: text/plain" --data-binary @- http://drop.test/coded
curl -sf http://drop.test/get -o fetched
"""


def test_a_file_is_found_in_every_way_in_which_it_left(own_recorder: Recorder, tmp_path: Path) -> None:  # noqa: F811
    recorder = own_recorder
    with serving(Server()) as server:
        for path in ("/form", "/put/plan.txt", "/stream", "/field", "/coded"):
            server.routes[path] = lambda handler: handler.answer(b"ok")
        server.routes["/get"] = lambda handler: handler.answer(gzip.compress(FILE), content_encoding="gzip")
        name, done = recorder.run("bash", "-ec", COMMANDS, upstream={"drop.test": server.url}, quiet=True)
    assert done.returncode == 0, done.stderr
    recorded(recorder.home, name)
    (tmp_path / "plan").write_bytes(FILE)
    result = CliRunner().invoke(app, ["find", str(tmp_path / "plan"), "--home", str(recorder.home), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["sha256"] == hashlib.sha256(FILE).hexdigest()
    ways = {(seen["object"].rpartition("drop.test")[2], seen["way"], seen["how"]) for seen in told["found"]}
    assert ways == {
        ("/form", "left", "part"),
        ("/put/plan.txt", "left", "body"),
        ("/stream", "left", "body"),
        ("/field", "left", "base64"),
        ("/coded", "left", "decoded body"),
        ("/get", "arrived", "decoded body"),
    }
    assert {(seen["turn"], seen["process"]) for seen in told["found"]} == {(0, "curl")}
    rows = {
        row["object"]: row
        for row in read_timeline(recorder.home, name)["turns"][0]["outputs"]
        if row["kind"] == "http.exchange"
    }
    digest = told["sha256"][:16]
    size = f"{len(FILE) / 1000:.1f} kB"
    assert f"uploads plan.txt, {size}, sha256 {digest}…" in rows["POST http://drop.test/form"]["summary"]
    assert f"uploads plan.txt, {size}, sha256 {digest}…" in rows["PUT http://drop.test/put/plan.txt"]["summary"]
    assert "upload" in rows["POST http://drop.test/field"]["flags"]
