"""Programs of a few bytes, written out so that no foreign binary is needed: one that waits for ever, one that exits.

The first is what a sandbox's root container runs, so that the sandbox outlives the command that is recorded and can
still be asked about it. Specification: ELF-64 object file format, version 1.5 draft 2.
"""

from __future__ import annotations

import platform
from struct import pack
from typing import Final

from sandtrail.errors import EnvironmentRefusedError

__all__ = ["exit_program", "pause_program"]

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_X86_64, _AARCH64 = 62, 183

# pause(2) in a loop; aarch64 has no pause(2), ppoll(2) without descriptors and without end is the same.
_PAUSE: Final = {
    _X86_64: bytes.fromhex("b822000000 0f05 ebf7"),
    _AARCH64: pack(
        "<8I", *(0xD2800000 | register for register in range(5)), 0xD2800000 | 73 << 5 | 8, 0xD4000001, 0x17FFFFF9
    ),
}
# exit_group(0)
_EXIT: Final = {
    _X86_64: bytes.fromhex("b8e7000000 31ff 0f05"),
    _AARCH64: pack("<3I", 0xD2800000, 0xD2800000 | 94 << 5 | 8, 0xD4000001),
}


def _machine() -> int:
    machines = {"x86_64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}
    try:
        return machines[platform.machine()]
    except KeyError:
        raise EnvironmentRefusedError(f"gVisor runs on x86_64 and aarch64, not on {platform.machine()}") from None


def _elf(machine: int, code: bytes) -> bytes:
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return ident + head + pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000) + code


def pause_program() -> bytes:
    """A static executable that waits until it is killed."""
    return _elf(_machine(), _PAUSE[_machine()])


def exit_program() -> bytes:
    """A static executable that exits with 0."""
    return _elf(_machine(), _EXIT[_machine()])
