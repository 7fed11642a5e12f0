"""Compiles `sandtrail/store/_hashing.c` where a C compiler and Python's headers are; elsewhere Sandtrail works without.

Called by hatchling for every wheel, and for a checkout that is installed as it is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCE = "sandtrail/store/_hashing.c"
# Python's stable ABI: one file for 3.12 and every later version.
_MODULE = "sandtrail/store/_hashing.abi3.so"
_TAG = "cp312-abi3"
_FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden"]


class CustomBuildHook(BuildHookInterface[Any]):
    """A wheel with the module in it is of one platform. For a checkout it is put beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is put together."""
        self._folder = TemporaryDirectory(prefix="sandtrail-")
        editable = version == "editable"
        target = Path(self.root if editable else self._folder.name, _MODULE)
        try:
            _compile(Path(self.root, _SOURCE), target)
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"{_SOURCE} was not compiled; Python goes on without it, slower: {error}")
        else:
            if not editable:
                build_data["force_include"][str(target)] = _MODULE
                build_data["pure_python"] = False
                build_data["tag"] = f"{_TAG}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """When it is done."""
        self._folder.cleanup()


def _compile(source: Path, target: Path) -> None:
    """Raises OSError or CalledProcessError where that cannot be; an older `target` is gone then."""
    include, new = Path(sysconfig.get_path("include")), target.with_suffix(".new")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not (include / "Python.h").exists():
        raise FileNotFoundError(f"there is no {include}/Python.h (on Debian and Ubuntu: apt-get install python3-dev)")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    subprocess.run([*compiler, *_FLAGS, f"-I{include}", str(source), "-o", str(new), "-ldl"], check=True)
    # Not written in place: a process may be running it.
    new.rename(target)
