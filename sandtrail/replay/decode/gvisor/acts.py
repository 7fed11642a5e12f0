"""What one trace message says, before it is known who did it: kind, object, result, errno and detail of its event.

One function a message type. Path resolution uses what the message carries and, for a relative path, the folder that
the process is known to be in.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from sandtrail.replay.decode.gvisor.raw import Act, exit_of, signed
from sandtrail.replay.decode.sockaddr import FAMILIES, TYPES, endpoint, read_sockaddr
from sandtrail.replay.decode.text import quote, text, to_json

__all__ = ["ACTS", "MAX_ARGV", "argv_detail", "report_detail", "resolve"]

MAX_ARGV: Final = 24 << 10
"""Bytes of an argv that an event keeps; the rest is in the evidence."""
MAX_WORDS: Final = 1024
AT_FDCWD: Final = -100
_ACCESS, _CREAT = 0o3, 0o100
_CLONE_THREAD = 0x10000


def resolve(path: bytes, folder: bytes, cwd: str) -> str:
    """An absolute path where it can be known, else the path as it was given.

    Textual: `..` after a symbolic link is not what the kernel makes of it, which is why the path as given stays in the
    detail wherever the two differ.
    """
    name = text(path)
    if not name.startswith("/"):
        base = text(folder) if folder else cwd
        if not base.startswith("/"):
            return name
        name = f"{base}/{name}" if name else base
    if "//" not in name and "/." not in name:
        return name
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del parts[-1:]
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def argv_detail(words: Any) -> dict[str, Any]:
    """`argv`, `argc`, and `cut` where the argv is longer than what an event keeps."""
    argv: list[str] = []
    room, cut = MAX_ARGV, len(words) > MAX_WORDS
    for word in words[:MAX_WORDS]:
        if room <= 0:
            cut = True
            break
        cut = cut or len(word) > min(room, 8192)
        argv.append(text(word, min(room, 8192)))
        room -= len(word) + 1
    detail: dict[str, Any] = {"argv": argv, "argc": len(words)}
    if cut:
        detail["cut"] = {"argv": sum(map(len, words))}
    return detail


def report_detail(message: Any) -> dict[str, Any]:
    """The sentry's report of an exec: the image, its hash, the files that it begins with. The environment holds
    secrets: only its size is told."""
    detail = argv_detail(message.argv)
    detail |= {"via": "sentry", "mode": message.binary_mode}
    if message.binary_sha256:
        detail["sha256"] = message.binary_sha256[:64].hex()
    if message.execfn and message.execfn != message.binary_path:
        detail["execfn"] = text(message.execfn)
    if message.binary_in_memfd:
        detail["memfd"] = True
    if message.binary_overlayfs_upper:
        detail["written_here"] = True
    if message.env:
        detail["envc"] = len(message.env)
    for name in ("stdin", "stdout", "stderr"):
        if message.HasField(name):
            info = getattr(message, name)
            detail[name] = {"path": text(info.path), "mode": info.mode}
            if info.HasField("socket") and info.socket.HasField("remote"):
                far = info.socket.remote
                ip = str(ip_address(far.ip)) if len(far.ip) in (4, 16) else far.ip[:64].hex()
                detail[name]["peer"] = endpoint(ip, far.port)
    return detail


def _open(message: Any, cwd: str) -> Act:
    result, errno = exit_of(message)
    flags, given = message.flags, message.pathname
    path = resolve(given, b"" if message.fd == AT_FDCWD else message.fd_path, cwd)
    write = "true" if flags & _ACCESS else "false"
    more = f',"pathname":{quote(text(given))}' if given != path.encode() else ""
    if flags & _CREAT:
        detail = f'{{"fd":{result or 0},"flags":{flags},"write":{write},"mode":{message.mode}{more}}}'
        return ("file.create", path, result, errno, detail)
    detail = f'{{"fd":{result or 0},"flags":{flags},"write":{write}{more}}}'
    return ("file.open", path, result, errno, detail)


def _read_write(file_kind: str, socket_kind: str) -> Callable[[Any, str], Act]:
    def act(message: Any, _cwd: str) -> Act:
        result, errno = exit_of(message)
        path = text(message.fd_path)
        offset = f',"offset":{message.offset}' if message.has_offset else ""
        done = result if result is not None and result > 0 else 0
        detail = f'{{"fd":{message.fd},"bytes":{done},"asked":{message.count}{offset}}}'
        return (socket_kind if path.startswith("socket:") else file_kind, path, result, errno, detail)

    return act


def _close(message: Any, _cwd: str) -> Act:
    result, errno = exit_of(message)
    return ("file.close", text(message.fd_path), result, errno, f'{{"fd":{message.fd}}}')


def _socket_call(kind: str) -> Callable[[Any, str], Act]:
    def act(message: Any, _cwd: str) -> Act:
        result, errno = exit_of(message)
        address = read_sockaddr(message.address)
        detail = {"fd": message.fd, "family": address.family, "ip": address.ip, "port": address.port}
        if kind == "net.listen":
            detail["backlog"] = message.backlog
        return (kind, address.name, result, errno, to_json(detail))

    return act


def _socket(message: Any, _cwd: str) -> Act:
    result, errno = exit_of(message)
    domain, kind = message.domain, message.type & 0xF
    name = f"{FAMILIES.get(domain, domain)}/{TYPES.get(kind, kind)}/{message.protocol}"
    fields = {"domain": domain, "type": kind, "flags": message.type & ~0xF, "protocol": message.protocol}
    if message.DESCRIPTOR.name == "SocketPair":
        fields |= {"fds": [message.socket1, message.socket2]}
    else:
        fields |= {"fd": result}
    return ("net.socket", name, result, errno, to_json(fields))


def _chdir(message: Any, cwd: str) -> Act:
    """`cwd` is the folder after the call. What fchdir has for a path is whatever was in its second register."""
    result, errno = exit_of(message)
    if message.fd != AT_FDCWD:
        path = text(message.fd_path) or ("" if errno else cwd)
        return ("dir.change", path, result, errno, to_json({"fd": message.fd}))
    path = text(message.context.cwd) if not errno else resolve(message.pathname, b"", cwd)
    detail = to_json({"pathname": text(message.pathname)})
    return ("dir.change", path or resolve(message.pathname, b"", cwd), result, errno, detail)


def _chroot(message: Any, cwd: str) -> Act:
    result, errno = exit_of(message)
    path = resolve(message.pathname, b"", cwd)
    return ("identity.chroot", path, result, errno, to_json({"syscall": "chroot", "pathname": path}))


def _identity(kind: str, *names: str) -> Callable[[Any, str], Act]:
    def act(message: Any, _cwd: str) -> Act:
        result, errno = exit_of(message)
        values = {name: signed(getattr(message, name)) for name in names}
        return (kind, ",".join(map(str, values.values())), result, errno, to_json({"sysno": message.sysno, **values}))

    return act


def _other(kind: str) -> Callable[[Any, str], Act]:
    """A call whose arguments are told by name; its path, if it has one, is the object."""

    def act(message: Any, cwd: str) -> Act:
        result, errno = exit_of(message)
        detail: dict[str, Any] = {}
        for field, value in message.ListFields():
            if field.number == 1 or field.name in ("exit", "sysno"):
                continue
            if field.message_type is not None:
                value = str(value)[:500]
            detail[field.name] = text(value) if isinstance(value, bytes) else value
        path = resolve(message.pathname, message.fd_path, cwd) if "pathname" in detail else detail.get("fd_path", "")
        return (kind, path, result, errno, to_json(detail))

    return act


def _clone_info(message: Any, _cwd: str) -> Act:
    thread = "true" if message.flags & _CLONE_THREAD else "false"
    pid, tid = message.created_thread_group_id, message.created_thread_id
    start = message.created_thread_start_time_ns
    detail = (
        f'{{"child_pid":{pid},"child_tid":{tid},"child_start_ns":{start},"flags":{message.flags},"thread":{thread}}}'
    )
    return ("process.clone", "", tid, 0, detail)


def _exit_status(via: str) -> Callable[[Any, str], Act]:
    def act(message: Any, _cwd: str) -> Act:
        status = message.exit_status
        signal = status & 0x7F
        code = -signal if signal else (status >> 8) & 0xFF
        return ("process.exit", "", code, 0, f'{{"status":{status},"via":"{via}"}}')

    return act


def _mapped(message: Any, _cwd: str) -> Act:
    detail = {"ino": message.mapped_ino, "mode": message.mapped_mode, "initial": message.is_initial_mmap}
    return ("file.map", text(message.mapped_path), None, None, to_json(detail))


# Execs (3, 11), the container's start (1) and raw calls (6) take more than one message to tell: see stream.py.
ACTS: Final[dict[int, Callable[[Any, str], Act]]] = {
    2: _clone_info,
    4: _exit_status("notify_parent"),
    5: _exit_status("task_exit"),
    7: _open,
    8: _close,
    9: _read_write("file.read", "net.receive"),
    10: _socket_call("net.connect"),
    12: _socket,
    13: _chdir,
    14: _identity("identity.setid", "id"),
    15: _identity("identity.setid", "rid", "eid", "sid"),
    16: _other("identity.rlimit"),
    17: _other("syscall.pipe"),
    18: _other("syscall.fcntl"),
    19: _other("syscall.dup"),
    20: _other("syscall.signalfd"),
    21: _chroot,
    22: _other("syscall.eventfd"),
    23: _other("syscall.clone"),
    24: _socket_call("net.bind"),
    25: _socket_call("net.accept"),
    26: _other("syscall.timerfd_create"),
    27: _other("syscall.timerfd_settime"),
    28: _other("syscall.timerfd_gettime"),
    29: _other("syscall.fork"),
    30: _other("syscall.inotify_init"),
    31: _other("syscall.inotify_add_watch"),
    32: _other("syscall.inotify_rm_watch"),
    33: _socket,
    34: _read_write("file.write", "net.send"),
    35: _mapped,
    36: _other("syscall.mmap"),
    37: _socket_call("net.listen"),
    38: _other("process.ptrace"),
}
