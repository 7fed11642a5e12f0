"""The attacks of docs/threat-model.md by short names: each is a row of one of its tables, by its first words."""

from __future__ import annotations

__all__ = ["ATTACKS", "NOT_HERE"]

ATTACKS = {
    "bytes": "change bytes of a segment, an entry, a tile, a checkpoint",
    "blobs": "swap two segments' blobs",
    "entries": "reorder, repeat or drop entries; splice two logs",
    "frames": "reorder, repeat or drop frames within a segment",
    "denial": "delete a blob or a data key and call it retention or erasure",
    "return": "put back what was removed or erased",
    "signatures": "strip the identity's line, or the epoch's, from the checkpoint",
    "files": "add files, leave rests",
    "tail": "cut off the tail, down to an older signed head",
    "snapshot": "restore the whole machine from a snapshot, remembered heads too",
    "replay": "replay an old store as today's",
    "fork": "show two readers two histories (fork)",
    "delete": "delete a node's whole log",
    "identity": "the identity's key alone",
    "epoch": "the current epoch's key alone",
    "both": "both",
    "earlier": "both, to rewrite an earlier epoch",
    "data keys": "data keys",
    "witness key": "a witness's key",
    "history": "sign another history from the start of an epoch",
    "lift": "lift a hold quietly, erase, set it again",
    "claim": "claim an erasure and keep the data",
    "by hand": "erase by hand, without the command",
    "back": "date an entry back",
    "forward": "date an entry forward",
    "token": "a false token, one over other data, by another authority, by a certificate that was for something else "
    "or not valid then",
    "clocks": "write times that no kernel has",
    "withhold": "withhold cosignatures from a reader",
    "other keys": "give the reader keys of another log",
    "downgrade": "downgrade: pretend that the log is format 1, which has no epochs",
    "start again": "drop the epoch entries and start again as format 1",
    "proof": "a frame's proof for another index, another log, an older key",
    "late proof": "a proof forged with today's keys, of a frame of an earlier epoch",
}

# Rows about the log that no damaged store can show, and where they are tested instead.
NOT_HERE = {
    "replace a spool before it is sealed": "nothing detects it, as the row says",
    "give orders (`acts/`): erase, remove": "an order that is carried out is no damage: test_custody",
    "exhaust the disk": "a fault, and no damage: test_faults",
    "delete the cluster's log too": "not a node's store: cluster/",
    "never register a node": "nothing in the log, as the row says",
    "a key on a disk that is not overwritten in place (flash, copy-on-write, a snapshot, a backup)": "as above",
    "a PKCS#11 token's PIN, while the machine is held": "as the rows before it",
    "an authority's key": "its tokens are genuine",
    'destroy inconvenient evidence by "erasing" it': "the log says so: test_custody",
    "recover an erased payload from disk, spool, index, catalog": "nothing is changed: test_custody",
}
