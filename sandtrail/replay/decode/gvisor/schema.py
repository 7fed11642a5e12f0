"""gVisor's trace messages as protobuf classes, made when this is imported from a table of field numbers.

The numbers are those of gVisor's pkg/sentry/seccheck/points/{common,container,sentry,syscall}.proto. Strings are bytes
here, so that one that is not valid UTF-8 is still a field. Fields that the table does not know stay in the message as
unknown fields.

A table's row is the message, then its fields: number, name, type; `*` is repeated, `:Name` another message. Every
message has field 1, the context; `S` before the fields adds what all syscalls share (exit 2, sysno 3).
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["CLASSES", "KINDS", "FieldTable"]

_PARTS: Final = """
Timespec    1 sec i64, 2 nsec i64
ItimerSpec  1 interval :Timespec, 2 value :Timespec
Limit       1 cur u64, 2 max u64
Exit        1 result i64, 2 errorno i64
Credentials 1 real_uid u32, 2 effective_uid u32, 3 saved_uid u32, 4 real_gid u32, 5 effective_gid u32, 6 saved_gid u32
SocketIp    1 family u32, 2 ip bytes, 3 port u32
SocketInfo  1 family u32, 2 local :SocketIp, 3 remote :SocketIp
FdInfo      1 mode u32, 2 ino u64, 3 path bytes, 4 socket :SocketInfo
Context     1 time_ns i64, 2 thread_id i32, 3 thread_start_time_ns i64, 4 thread_group_id i32,\
 5 thread_group_start_time_ns i64, 6 container_id bytes, 7 credentials :Credentials, 8 cwd bytes,\
 9 process_name bytes, 10 parent_thread_group_id i32, 11 is_exec_session bool
PipeProc    1 context :Context
"""
# MessageType, its name, and its message.
_MESSAGES: Final = """
1 CONTAINER_START           Start: 2 id bytes, 3 cwd bytes, 4 args bytes*, 5 env bytes*, 6 terminal bool
2 SENTRY_CLONE              CloneInfo: 3 created_thread_id i32, 4 created_thread_group_id i32,\
 5 created_thread_start_time_ns i64, 6 flags u64
3 SENTRY_EXEC               ExecveInfo: 2 binary_path bytes, 3 argv bytes*, 4 env bytes*, 5 binary_mode u32,\
 6 binary_uid u32, 7 binary_gid u32, 8 binary_sha256 bytes, 9 binary_overlayfs_upper bool, 10 binary_ino u64,\
 11 binary_ctime :Timespec, 12 stdin :FdInfo, 13 stdout :FdInfo, 14 stderr :FdInfo, 15 binary_overlayfs_lower bool,\
 16 binary_sha1 bytes, 17 execfn bytes, 18 binary_size i64, 19 binary_nlink u32, 20 binary_in_memfd bool,\
 21 pipe_input_proc :PipeProc, 22 pipe_output_proc :PipeProc
4 SENTRY_EXIT_NOTIFY_PARENT ExitNotifyParentInfo: 2 exit_status i32
5 SENTRY_TASK_EXIT          TaskExit: 2 exit_status i32
6 SYSCALL_RAW               Syscall: 2 exit :Exit, 4 sysno u64, 5 arg1 u64, 6 arg2 u64, 7 arg3 u64, 8 arg4 u64,\
 9 arg5 u64, 10 arg6 u64
7 SYSCALL_OPEN              Open: S 4 fd i64, 5 fd_path bytes, 6 pathname bytes, 7 flags u32, 8 mode u32
8 SYSCALL_CLOSE             Close: S 4 fd i64, 5 fd_path bytes
9 SYSCALL_READ              Read: S 4 fd i64, 5 fd_path bytes, 6 count u64, 7 has_offset bool, 8 offset i64,\
 9 flags u32
10 SYSCALL_CONNECT          Connect: S 4 fd i64, 5 fd_path bytes, 6 address bytes
11 SYSCALL_EXECVE           Execve: S 4 fd i64, 5 fd_path bytes, 6 pathname bytes, 7 argv bytes*, 8 envv bytes*,\
 9 flags u32
12 SYSCALL_SOCKET           Socket: S 4 domain i32, 5 type i32, 6 protocol i32
13 SYSCALL_CHDIR            Chdir: S 4 fd i64, 5 fd_path bytes, 6 pathname bytes
14 SYSCALL_SETID            Setid: S 4 id u32
15 SYSCALL_SETRESID         Setresid: S 4 rid u32, 5 eid u32, 6 sid u32
16 SYSCALL_PRLIMIT64        Prlimit: S 4 pid i32, 5 resource i64, 6 new_limit :Limit, 7 old_limit :Limit
17 SYSCALL_PIPE             Pipe: S 4 flags u32, 5 reader i32, 6 writer i32
18 SYSCALL_FCNTL            Fcntl: S 4 fd i32, 5 fd_path bytes, 6 cmd i32, 7 args i64
19 SYSCALL_DUP              Dup: S 4 old_fd i32, 5 new_fd i32, 6 fd_path bytes, 7 flags u32
20 SYSCALL_SIGNALFD         Signalfd: S 4 fd i32, 5 fd_path bytes, 6 sigset u64, 7 flags i32
21 SYSCALL_CHROOT           Chroot: S 4 pathname bytes
22 SYSCALL_EVENTFD          Eventfd: S 4 val i32, 5 flags u32
23 SYSCALL_CLONE            Clone: S 4 flags u64, 5 stack u64, 6 new_tid u64, 7 tls u64
24 SYSCALL_BIND             Bind: S 4 fd i32, 5 fd_path bytes, 6 address bytes
25 SYSCALL_ACCEPT           Accept: S 4 fd i32, 5 fd_path bytes, 6 address bytes, 7 flags i32
26 SYSCALL_TIMERFD_CREATE   TimerfdCreate: S 4 clock_id i32, 5 flags i32
27 SYSCALL_TIMERFD_SETTIME  TimerfdSetTime: S 4 fd i32, 5 fd_path bytes, 6 flags i32, 7 new_value :ItimerSpec,\
 8 old_value :ItimerSpec
28 SYSCALL_TIMERFD_GETTIME  TimerfdGetTime: S 4 fd i32, 5 fd_path bytes, 6 cur_value :ItimerSpec
29 SYSCALL_FORK             Fork: S
30 SYSCALL_INOTIFY_INIT     InotifyInit: S 4 flags i32
31 SYSCALL_INOTIFY_ADD_WATCH InotifyAddWatch: S 4 fd i32, 5 fd_path bytes, 6 pathname bytes, 7 mask u32
32 SYSCALL_INOTIFY_RM_WATCH InotifyRmWatch: S 4 fd i32, 5 fd_path bytes, 6 wd i32
33 SYSCALL_SOCKETPAIR       SocketPair: S 4 domain i32, 5 type i32, 6 protocol i32, 7 socket1 i32, 8 socket2 i32
34 SYSCALL_WRITE            Write: S 4 fd i64, 5 fd_path bytes, 6 count u64, 7 has_offset bool, 8 offset i64,\
 9 flags u32
35 SENTRY_MMAP              MmapInfo: 2 mapped_path bytes, 3 mapped_ino u64, 4 mapped_mode u32, 5 mapped_uid u32,\
 6 mapped_gid u32, 7 is_initial_mmap bool, 8 mapped_ctime :Timespec, 9 overlayfs_upper bool, 10 overlayfs_lower bool
36 SYSCALL_MMAP             Mmap: S 4 fd i64, 5 fd_path bytes, 6 addr u64, 7 length u64, 8 prot u32, 9 flags u32,\
 10 offset i64
37 SYSCALL_LISTEN           Listen: S 4 fd i32, 5 fd_path bytes, 6 backlog i32, 7 address bytes, 8 socket_family i32,\
 9 socket_type i32
38 SYSCALL_PTRACE           Ptrace: S 4 request i64, 5 pid i32
"""
_PACKAGE: Final = "sandtrail.gvisor"
_TYPES: Final = {"i64": 3, "u64": 4, "i32": 5, "bool": 8, "bytes": 12, "u32": 13}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3

FieldTable = list[tuple[int, str, str]]


def _fields(text: str) -> FieldTable:
    rows = (item.split() for item in text.split(",") if item.strip())
    return [(int(number), name, kind) for number, name, kind in rows]


def _tables() -> tuple[dict[str, FieldTable], dict[int, tuple[str, str]]]:
    """(message -> fields, message type -> (its name, its message))."""
    messages = {name: _fields(rest) for name, rest in (line.split(maxsplit=1) for line in _PARTS.strip().splitlines())}
    kinds = {}
    for line in _MESSAGES.strip().splitlines():
        head, _, rest = line.partition(":")
        number, kind, message = head.split()
        common = "1 context :Context,"
        if rest.startswith(" S"):
            common, rest = common + "2 exit :Exit, 3 sysno u64,", rest.removeprefix(" S")
        messages[message] = _fields(common + rest)
        kinds[int(number)] = (kind, message)
    return messages, kinds


def _build(tables: dict[str, FieldTable]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="sandtrail/gvisor.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in tables.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = _REPEATED if kind.endswith("*") else _OPTIONAL  # type: ignore[assignment]
            if kind.startswith(":"):
                field.type, field.type_name = _MESSAGE, f".{_PACKAGE}.{kind[1:]}"  # type: ignore[assignment]
            else:
                field.type = _TYPES[kind.rstrip("*")]  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find, make = pool.FindMessageTypeByName, message_factory.GetMessageClass
    return {name: make(find(f"{_PACKAGE}.{name}")) for name in tables}


_TABLES, KINDS = _tables()
"""MessageType -> (its name in gVisor, the name of its message)."""
_BUILT: Final = _build(_TABLES)
CLASSES: Final[dict[int, Any]] = {number: _BUILT[message] for number, (_, message) in KINDS.items()}
"""MessageType -> protobuf class."""
