"""Run by an interpreter that has aics-tlog and nothing of ours: reads a log as any outsider would.

Arguments: the log's folder, the verifier key, then earlier heads as SIZE:HEX. Prints one JSON object. Without arguments
it reads such requests as JSON lines {"log", "vkey", "old": [{"size", "root"}]} and answers each with a line
{"aics": ERROR}, which is empty where everything holds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import aics_tlog


def main(folder: Path, vkey: str, earlier: list[str]) -> dict[str, Any]:
    note = aics_tlog.parse_note((folder / "checkpoint").read_bytes())
    signed = aics_tlog.verify_checkpoint(note, aics_tlog.parse_vkey(vkey))
    head, _ = aics_tlog.checkpoint.checkpoint_from_note(note)
    reader = aics_tlog.FileSystemTileReader(folder)
    try:
        audit = aics_tlog.audit_tiles(reader, head.size, head.root)
    except (aics_tlog.TileVerificationError, aics_tlog.TileMissingError) as error:
        return {"signature": signed.ok, "size": head.size, "audit": f"{type(error).__name__}: {error}"}
    consistent = []
    for text in earlier:
        size, _, root = text.partition(":")
        proof = aics_tlog.consistency_proof_from_tiles(reader, int(size), head.size, tile_size=head.size)
        consistent.append(aics_tlog.verify_consistency(int(size), head.size, bytes.fromhex(root), head.root, proof))
    return {
        "signature": signed.ok,
        "size": audit.size,
        "bundles": audit.bundles,
        "audit": "ok",
        "consistent": consistent,
    }


def judge(request: dict[str, Any]) -> str:
    """What is wrong with a log; nothing where everything holds."""
    try:
        heads = [f"{head['size']}:{head['root']}" for head in request["old"]]
        said = main(Path(request["log"]), request["vkey"], heads)
    except Exception as error:  # noqa: BLE001  # whatever it says of a damaged log, it has not found it good
        return f"{type(error).__name__}: {error}"
    good = said["signature"] and said["audit"] == "ok" and all(said["consistent"])
    return "" if good else json.dumps(said)


if __name__ == "__main__" and len(sys.argv) == 1:
    for line in sys.stdin:
        print(json.dumps({"aics": judge(json.loads(line))}))
elif __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
