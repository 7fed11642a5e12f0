"""One target under atheris, as tests/fuzz/run.py starts it: `python child.py TARGET [libFuzzer's options] CORPUS`.

It runs in the fuzzer's environment, with the project's packages behind it.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]  # it has an environment of its own

with atheris.instrument_imports(include=["sandtrail.replay"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
