"""`make bench`: what recording, keeping and proving cost, each against something that it can be compared with.

Ratios are taken within one run, the order rotated from round to round, medians reported: what else the machine does
then moves both sides of a ratio. Exit status 1 when something was lost, could not run, or misses its target.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import storm
from bench.report import Figures, Outcome, machine, show
from sandtrail.errors import SandtrailError

BENCHES = {
    "storm": "recording a syscall storm inside gVisor: no tracing, null sink, C floor, Sandtrail, with replay",
    "append": "durable appends on one core, beside Tessera, aics-tlog and SQLite",
    "size": "bytes on disk of a real recording",
    "memory": "ten million frames appended and verified: memory, and whether cost per frame grows",
    "verify": "verification on all cores, beside plain hashing",
    "gateway": "a streamed model call through the gateway, beside direct and beside bare mitmproxy",
    "proof": "one proof made, and checked",
}


def main(argv: list[str] | None = None) -> int:
    """Run the benches asked for, print their tables, write one JSON file."""
    options = _options(argv)
    console = Console()
    console.width = max(console.width, 110)
    report: Figures = {"machine": machine(), "benches": {}}
    failed = False
    with tempfile.TemporaryDirectory(prefix="st-bench-", dir=options.dir) as folder:
        options.stores = Path(folder) / "stores"
        for name in options.benches or list(BENCHES):
            own = Path(folder) / name
            own.mkdir()
            try:
                outcome: Outcome = importlib.import_module(f"bench.{name}").run(options, own)
            except SandtrailError as error:
                report["benches"][name] = {"problems": [str(error)]}
                console.print(f"{name}: {error}", style="red", markup=False)
                failed = True
                continue
            report["benches"][name] = outcome.as_json()
            show(outcome, console)
            failed = failed or bool(outcome.problems) or not all(target.met for target in outcome.targets)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"as JSON: {options.json}")
    return 1 if failed else 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    text = "\n".join(f"  {name:9}{what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="bench",
        description=f"What Sandtrail costs. The benches, all of them by default:\n{text}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benches", nargs="*", choices=[*BENCHES, []], metavar="BENCH")
    parser.add_argument("--rounds", type=int, help="of each bench (default: gateway 8, storm and append 5, others 3)")
    parser.add_argument("--frames", type=int, help="append: per line (default 1,048,576); verify, proof, memory: 10^7")
    parser.add_argument("--dir", type=Path, default=Path("/tmp"), help="where stores are made (default %(default)s)")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), help="where the figures go (%(default)s)"
    )
    parser.add_argument("--files", type=int, default=150, help="size: that varied.sh works through (%(default)s)")
    storm.add_options(parser.add_argument_group("storm, and the runtime that size uses too"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
