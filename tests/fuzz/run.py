"""Runs the fuzzer: `python -m tests.fuzz.run [--inputs N] [--seconds S] [--jobs N] [TARGET …]`, or `make fuzz`.

Every target runs in a process of its own, until it has had so many inputs or so many seconds. What it has learnt stays
in .cache/fuzz/TARGET/corpus, so that the next run goes on from there; an input that made a target raise, hang or take
too much memory lies beside it as `found-…`. Ends with 1 where there is such an input.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.demo.environment import install
from tests.fuzz.targets import SEEDS, TARGETS

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
KEPT = CHECKOUT / ".cache" / "fuzz"
MAX_INPUT = 4096
MAX_MEMORY_MB = 1024
MAX_INPUT_SECONDS = 20


@dataclass(frozen=True)
class Outcome:
    """How a target's run ended."""

    target: str
    inputs: int
    memory_mb: int
    found: list[Path]
    trouble: str
    """The last of what it said, where it ended by itself."""


def words(seeds: tuple[bytes, ...]) -> Iterator[str]:
    """libFuzzer's dictionary of a format: all that its seeds have in quotes."""
    for word in sorted({found for seed in seeds for found in re.findall(rb'"[^"\n]{1,60}"', seed)}):
        yield '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\' else f"\\x{b:02x}" for b in word) + '"\n'


def run(target: str, inputs: int, seconds: int, python: Path) -> Outcome:
    """Fuzz one target."""
    folder = KEPT / target
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    (folder / "words").write_text("".join(words(SEEDS[target])))
    options = {
        "runs": inputs, "max_total_time": seconds, "max_len": MAX_INPUT, "timeout": MAX_INPUT_SECONDS,
        "rss_limit_mb": MAX_MEMORY_MB, "dict": folder / "words", "artifact_prefix": f"{folder}/found-",
        "print_final_stats": 1, "verbosity": 1,
    }  # fmt: skip
    command = [str(python), str(HERE / "child.py"), target, *(f"-{k}={v}" for k, v in options.items()), str(corpus)]
    path = os.pathsep.join([str(CHECKOUT), sysconfig.get_path("purelib")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace")
    stats = {name: int(value) for name, value in re.findall(r"stat::(\w+):\s+(\d+)", said)}
    return Outcome(
        target,
        stats.get("number_of_executed_units", 0),
        stats.get("peak_rss_mb", 0),
        sorted(folder.glob("found-*")),
        "" if done.returncode == 0 else "\n".join(said.splitlines()[-30:]),
    )


def main() -> None:
    """Fuzz what was asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--inputs", type=int, default=-1, help="of each target; without end by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0: as long as the inputs take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    python = install("fuzzer", HERE / "atheris.lock").program("python")
    with ThreadPoolExecutor(given.jobs) as pool:
        fuzz = partial(run, inputs=given.inputs, seconds=given.seconds, python=python)
        outcomes = []
        for outcome in pool.map(fuzz, given.targets or list(TARGETS)):
            outcomes.append(outcome)
            print(f"{outcome.target:24} {outcome.inputs:>12,} inputs, {outcome.memory_mb} MB", flush=True)
            for line in [*map(str, outcome.found), *outcome.trouble.splitlines()]:
                print(f"    {line}")
    print(f"{'all':24} {sum(outcome.inputs for outcome in outcomes):>12,} inputs")
    sys.exit(any(outcome.found or outcome.trouble for outcome in outcomes))


if __name__ == "__main__":
    main()
