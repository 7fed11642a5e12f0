"""How a call ended, and calls of which only the registers are known."""

from __future__ import annotations

from typing import Any, NamedTuple

from sandtrail.replay.decode.gvisor.syscalls import RAW_KINDS

__all__ = ["Act", "Raw", "exit_of", "signed"]

Act = tuple[str, str, int | None, int | None, str]
"""kind, object, result, errno, detail (JSON). A plain tuple: one is made for every message."""


def exit_of(message: Any) -> tuple[int | None, int | None]:
    """(result, errno) of a call that returned; (None, None) of one that only began. A failed call's result is -1."""
    end = message.exit
    errno, result = end.errorno, end.result
    if errno:
        return -1, errno if -1 << 31 <= errno < 1 << 31 else -1
    if not result and not message.HasField("exit"):
        return None, None
    return result, 0


def signed(value: int) -> int:
    """A register or an unsigned field as the 32-bit signed number that the call takes it for."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Raw(NamedTuple):
    """A call of which only the registers are known."""

    name: str
    sysno: int
    args: tuple[int, int, int, int, int, int]
    result: int | None
    errno: int | None

    @classmethod
    def of(cls, message: Any, names: dict[int, str]) -> Raw:
        """Read a raw message."""
        number = message.sysno
        args = (message.arg1, message.arg2, message.arg3, message.arg4, message.arg5, message.arg6)
        return cls(names.get(number, f"syscall_{number}"), number, args, *exit_of(message))

    def act(self) -> Act:
        """Its event. What a pointer points at is in the sandbox's memory, so no path is known."""
        kind = RAW_KINDS.get(self.name, "syscall.raw")
        first = signed(self.args[0])
        listed = ",".join(map(str, self.args))
        detail = f'"syscall":"{self.name}","sysno":{self.sysno},"args":[{listed}]'
        thing = "" if kind != "syscall.raw" else self.name
        if kind == "process.kill":
            signal = self.args[2] if self.name == "tgkill" else self.args[1]
            target = signed(self.args[1]) if self.name == "tgkill" else first
            detail += f',"target":{target},"signal":{signal & 0xFF}'
            thing = str(target)
        elif kind == "net.send":
            done = self.result if self.result is not None and self.result > 0 else 0
            detail += f',"fd":{first},"bytes":{done}'
        elif kind == "identity.setid":
            thing = ",".join(str(signed(value)) for value in self.args[:3]) if "res" in self.name else str(first)
        return (kind, thing, self.result, self.errno, "{" + detail + "}")
