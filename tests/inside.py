"""Our command line in the test's own process: to start a program takes longer than most of what it is asked to do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from sandtrail import settings
from sandtrail.cli import main


def sandtrail(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What `sandtrail ARGUMENTS` prints, and how it ends; the environment and the folder are this process's."""
    words = ["sandtrail", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    status: int | str | None = 0
    _forget_settings()
    # What settings say is put into the environment, for processes that are started.
    with patch.dict(os.environ), patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            status = left.code
        finally:
            _forget_settings()
    told = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        told.append(stream.read())
    return subprocess.CompletedProcess(words, status if isinstance(status, int) else int(status is not None), *told)


def _forget_settings() -> None:
    """A process reads its settings once; here they are another's with each call."""
    for read in (settings.load_settings, settings.in_force, settings.settings_files):
        read.cache_clear()
