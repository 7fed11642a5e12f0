"""Which of gVisor's trace points a session asks for, and which context fields each of them may carry.

gVisor's remote sink sends nothing, and counts nothing, when one string of a message is not valid UTF-8. A process picks
its own working directory and its own name, so each of these fields lets the sandbox silence a point that carries it.
Hence a point asks for a name only where the name is what the point is for:

* ``EVERY``: every context field. Points whose strings are the evidence anyway.
* ``PLACED``: without ``process_name``. The calls that open a file: a relative path says nothing without ``cwd``. Its
  price is that a process can hide its opens in a directory with such a name; the raw chdir that led there shows. The
  profile ``full`` also asks for the opens' enter points, without ``cwd``, which show them for half as much again.
* ``SAFE``: everything but ``cwd`` and ``process_name``, numbers and the container's id, which the recorder chose. The
  process tree, connections and identity changes cannot be silenced.
* ``RAW``: the same fields on ``syscall/sysno/N/exit``, registers only. For calls without a schema, and beside calls
  whose typed message can be silenced: a raw exec without its typed partner is the trace of a hidden one.

Specification: gVisor pkg/sentry/seccheck (metadata.go, points/*.proto).
"""

from __future__ import annotations

import platform
from typing import Final, Literal

__all__ = ["EVERY", "SAFE", "Profile", "raw_points", "syscall_number", "typed_points"]

Profile = Literal["default", "full"]

SAFE: Final = (
    "time",
    "thread_id",
    "task_start_time",
    "group_id",
    "thread_group_start_time",
    "container_id",
    "credentials",
    "parent_thread_group_id",
    "is_exec_session",
)
PLACED: Final = (*SAFE, "cwd")
EVERY: Final = (*PLACED, "process_name")

# env and envv hold secrets; they are added only on request (see trace.session).
_SENTRY: Final[dict[str, tuple[str, ...]]] = {
    "container/start": EVERY,
    "sentry/clone": SAFE,
    # It always carries the environment, so any variable that is not UTF-8 silences it: the names may as well be here.
    # syscall/execve/exit, without them, is then silenced by nothing but the path and the arguments themselves.
    "sentry/execve": EVERY,
    "sentry/exit_notify_parent": SAFE,
    "sentry/task_exit": SAFE,
}
_OPENS: Final = ("open", "openat", "creat")
_NAMED: Final = ("chdir", "fchdir", "chroot")
_UNNAMED: Final = (
    *("execve", "execveat"),
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4"),
    *("setuid", "setgid", "setresuid", "setresgid", "setsid", "prlimit64", "ptrace"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2"),
)
_FULL: Final = (
    *(
        "read",
        "pread64",
        "readv",
        "preadv",
        "preadv2",
        "close",
        "dup",
        "dup2",
        "dup3",
        "fcntl",
        "pipe",
        "pipe2",
        "mmap",
    ),
    *("clone", "fork", "vfork", "eventfd", "eventfd2", "signalfd", "signalfd4"),
    *("inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch"),
    *("timerfd_create", "timerfd_settime"),
)
# Left out of every session: they cost CPU on each exec and say nothing that the others do not.
OPTIONAL_REFUSED: Final = frozenset({"binary_sha1"})
OPTIONAL_FULL: Final = frozenset({"pipe_proc_info"})
OPTIONAL_SECRET: Final = frozenset({"env", "envv"})

_RAW: Final = (
    # beside typed points that a name can silence
    *("execve", "execveat", "chdir", "fchdir", "chroot", "prctl"),
    # no schema
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat"),
    *("link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"),
    *("truncate", "ftruncate", "setxattr", "lsetxattr", "fsetxattr", "utimensat", "openat2"),
    *("sendfile", "splice", "copy_file_range", "sendto", "sendmsg", "sendmmsg"),
    *("kill", "tkill", "tgkill", "pidfd_send_signal", "process_vm_writev"),
    *("setreuid", "setregid", "setgroups", "capset", "setfsuid", "setfsgid", "unshare", "setns", "seccomp"),
    *("mount", "umount2", "pivot_root", "memfd_create", "io_uring_setup", "bpf", "keyctl", "add_key"),
)
_RAW_FULL: Final = ("recvfrom", "recvmsg", "recvmmsg", "clone3", "exit_group", "faccessat", "access", "readlink")

# fmt: off
_X86_64: Final[dict[str, int]] = {
    "sendfile": 40, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "bind": 49,
    "listen": 50, "socketpair": 53, "execve": 59, "kill": 62, "access": 21, "truncate": 76, "ftruncate": 77,
    "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101,
    "setreuid": 113, "setregid": 114, "setgroups": 116, "setfsuid": 122, "setfsgid": 123, "capset": 126, "mknod": 133,
    "pivot_root": 155, "prctl": 157, "chroot": 161, "mount": 165, "umount2": 166, "setxattr": 188, "lsetxattr": 189,
    "fsetxattr": 190, "tkill": 200, "exit_group": 231, "tgkill": 234, "add_key": 248, "keyctl": 250, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268,
    "faccessat": 269, "unshare": 272, "splice": 275, "utimensat": 280, "recvmmsg": 299, "sendmmsg": 307, "setns": 308,
    "process_vm_writev": 311, "renameat2": 316, "seccomp": 317, "memfd_create": 319, "bpf": 321, "execveat": 322,
    "copy_file_range": 326, "pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "openat2": 437,
}
_AARCH64: Final[dict[str, int]] = {
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36,
    "linkat": 37, "renameat": 38, "umount2": 39, "mount": 40, "pivot_root": 41, "truncate": 45, "ftruncate": 46,
    "faccessat": 48, "chdir": 49, "fchdir": 50, "chroot": 51, "fchmod": 52, "fchmodat": 53, "fchownat": 54,
    "fchown": 55, "sendfile": 71, "splice": 76, "utimensat": 88, "capset": 91, "exit_group": 94, "unshare": 97,
    "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "setregid": 143, "setreuid": 145, "setfsuid": 151,
    "setfsgid": 152, "setgroups": 159, "prctl": 167, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202,
    "connect": 203, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "add_key": 217, "keyctl": 219,
    "execve": 221, "recvmmsg": 243, "setns": 268, "sendmmsg": 269, "process_vm_writev": 271, "renameat2": 276,
    "seccomp": 277, "memfd_create": 279, "bpf": 280, "execveat": 281, "copy_file_range": 285, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "clone3": 435, "openat2": 437,
}
# fmt: on


def syscall_number(name: str, machine: str | None = None) -> int | None:
    """The number of a call on `machine` (default: this one), or None where the call does not exist or is not listed."""
    table = _AARCH64 if (machine or platform.machine()) in ("aarch64", "arm64") else _X86_64
    return table.get(name)


def typed_points(profile: Profile) -> dict[str, tuple[str, ...]]:
    """The typed points that `profile` wants: point name -> context fields wanted."""
    points = dict(_SENTRY)
    points |= {f"syscall/{name}/exit": EVERY for name in _NAMED}
    points |= {f"syscall/{name}/exit": PLACED for name in _OPENS}
    points |= {f"syscall/{name}/exit": SAFE for name in _UNNAMED}
    if profile == "full":
        points["sentry/mmap"] = SAFE
        points |= {f"syscall/{name}/enter": SAFE for name in _OPENS}
        points |= {f"syscall/{name}/exit": SAFE for name in _FULL}
    return points


def raw_points(profile: Profile) -> tuple[str, ...]:
    """The calls (by name) that `profile` wants as raw registers."""
    return _RAW + (_RAW_FULL if profile == "full" else ())
