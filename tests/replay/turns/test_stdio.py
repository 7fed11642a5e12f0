"""Messages over the stdin and stdout of several commands of one session."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from sandtrail.replay.timeline import read_timeline
from sandtrail.store import sealer
from tests.replay.index.recording import Recorder


def test_answers_belong_to_the_command_that_was_asked_though_several_use_the_same_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(sealer, name, 0.0)
    recorder = Recorder(tmp_path / "home")
    recorder.open("lifecycle", part="record", command=["server"])
    streams = {part: recorder.open("stdio", part=part) for part in ("record", "exec-1")}

    def say(part: str, name: str, **message: object) -> None:
        data = base64.b64encode(json.dumps({"jsonrpc": "2.0", "id": 1, **message}).encode() + b"\n").decode()
        streams[part].write(json.dumps({"t": name, "n": 0, "at_ns": 5, "bytes": len(data), "data": data}).encode())

    for part, tool in (("record", "first"), ("exec-1", "second")):
        say(part, "stdin", method="tools/call", params={"name": tool, "arguments": {}})
    for part, told in (("record", "of the first"), ("exec-1", "of the second")):
        say(part, "stdout", result={"content": [{"type": "text", "text": told}]})
    recorder.seal()
    rows = read_timeline(recorder.home, "s1")["turns"][0]["outputs"]
    assert [(row["object"], row["summary"]) for row in rows] == [
        ("tools/call first", "stdin: of the first"),
        ("tools/call second", "stdin: of the second"),
    ]
