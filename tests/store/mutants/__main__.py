"""Writes the corpus down: `python -m tests.store.mutants --out DIR [--count N] [--seed S]`.

DIR/<number>/ is a damaged store; DIR/corpus.jsonl says of each what was done to it and what must be found; DIR/pins and
DIR/policy are what its reader knows, DIR/head the newest head that a reader may remember.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from tests.store.mutants.corpus import COUNT, SEED, draw, make_bases
from tests.store.mutants.edit import Copy


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.store.mutants", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True)
    base, other = make_bases(options.out / "made", options.seed)
    mutants = draw(base, other, options.count, options.seed)
    (options.out / "pins").write_text("".join(f"{pin.vkey}\n" for pin in base.pins))
    (options.out / "policy").write_text(base.policy)
    (options.out / "head").write_bytes(base.head_file)
    with (options.out / "corpus.jsonl").open("w") as lines:
        for number, mutant in enumerate(mutants):
            mutant.change(Copy(base, options.out / f"{number:05d}"))
            lines.write(json.dumps({"number": number, **mutant.facts}) + "\n")
    shutil.rmtree(options.out / "made")
    print(f"{len(mutants)} damaged stores under {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
