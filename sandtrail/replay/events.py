"""What an event is: one row, decoded from one frame, in the shape that every reader of the index gets.

The columns are those of docs/architecture.md, "Events". What a kind says beyond them is JSON in `detail`; the keys that
readers may rely on (others may come, and any may be missing where the source did not say):

====================  ==================================================================================================
kind                  object; result; keys of detail
====================  ==================================================================================================
process.exec          image path; 0, -1 where it failed, None where nothing tells; ``argv`` list, ``argc``, ``via``
                      ("sentry" | "execve" | "execveat" | "raw" | "container"), ``execfn``, ``sha256``, ``outcome``
                      ("loaded" | "failed" | "unknown") where the sentry did not report it, ``envc``, ``memfd``,
                      ``stdin`` ``stdout`` ``stderr`` {"path", "mode", "peer"?}; ``hidden`` true where a name that is
                      not UTF-8 kept back the rest (argv too where ``via`` is "raw")
process.clone         ""; child's thread id; ``child_pid`` ``child_tid`` ``child_start_ns`` ``flags`` ``thread`` bool
process.exit          ""; exit code, or -signal; ``status`` (wait status), ``via`` ("notify_parent" | "task_exit")
process.thread_exit   likewise: one thread ended, or a process that has yet to notify its parent
process.kill          target; result of the call; ``target`` pid or tid, ``signal``
file.open file.create absolute path ("" where unknown); fd or -1; ``fd`` ``flags`` ``write`` bool (opened to write),
                      ``mode``, ``pathname`` where it was given otherwise; create: opened with O_CREAT, new or not
file.read file.write  path of the descriptor, or "pipe:[1]" …; bytes or -1; ``fd`` ``bytes`` ``asked`` ``offset``
other file.*          "" (registers only: the path is in the sandbox's memory); result; ``syscall`` ``args`` [u64 × 6]
dir.change            the new working folder; result; ``pathname``; ``hidden`` true where only raw registers tell of it
net.socket            "inet/stream/0" …; fd; ``domain`` ``type`` ``protocol`` (numbers) ``fd`` or ``fds``
net.connect net.bind  "ip:port", "[ip6]:port", "unix:/path", "unix:@name"; result; ``fd`` ``family`` ``ip`` ``port``
net.listen net.accept likewise (accept: the peer); result or new fd; ``fd``
net.send net.receive  "socket:[n]" or ""; bytes or -1; ``fd`` ``bytes``, ``syscall`` ``args`` where only registers tell
net.flow              "ip:port" of the far end; None; ``via`` ("nflog" | "conntrack"), ``verdict`` ("allow" | "reject" |
                      "redirect" | "pass" | "inbound" | "invalid" | "ether" | "fragment" | "spoof" |
                      "error" | "answer" | ""), ``prefix`` (the filter's own word), ``proto``
                      ("tcp" | "udp" | "icmp" …), ``src`` ``sport`` ``dst`` ``dport`` ``bytes``, ``sni``,
                      ``icmp_type`` ``tcp_flags``
net.flow_end          likewise; bytes sent; ``sent`` {"packets", "bytes"}, ``received`` {…}, ``start_ns`` ``stop_ns``
stream.total          "netfilter" or "conntrack"; None; what a stream that has ended amounts to: ``logged`` ``lost``
                      packets; ``flows``, ``up`` ``down`` {"packets", "bytes"} of those that have ended
net.dns               the name looked up; rcode of an answer; ``type`` ``id`` ``answer`` bool, ``answers`` [str],
                      ``peer`` ("ip:port" of the server), and those of net.flow
http.connect          "host:port"; None; ``flow`` ``client`` [ip, port] ``host`` ``port`` ``sni``
http.request          "METHOD url"; None; what http.exchange has, as far as it is known when the request is there
http.exchange         "METHOD url"; status or None; ``flow`` ``id`` ``method`` ``url`` ``status`` ``client`` [ip, port]
                      ``request`` {"bytes", "sha256", "cut", "ref"} ``response`` {the same} ``streamed`` ``chunks``
                      both with ``media``, ``file`` (where the headers name one), ``parts`` [{"as": "decoded" | "part" |
                      "base64" | "query", "name", "file", "media", "bytes", "sha256", "cut", "redacted"}, the 24
                      largest], ``parts_total``, ``unread`` true where a body was too long to be taken apart or its
                      coding is not known, ``unlooked``: so many values, fields or parts in which nothing was looked for
                      ``refs`` [first and last of its frames] ``start_ns`` ``asked_ns`` ``first_ns`` ``end_ns``
                      ``error``, with ``by`` ``reason`` ``rule`` ``rules`` where it was refused; ``secrets`` [{"secret",
                      "fingerprint", "host", "in", "at"}] that the gateway put in
http.exfiltration     the host; None; ``flow`` ``id`` ``secret`` ``fingerprint`` ``host`` ``in`` ``at`` ``message``: the
                      placeholder of a secret that the gateway stopped
                      A call that shares a WebSocket has the method WEBSOCKET, as id its socket's, ``#`` and a number,
                      ``asks`` [the client's messages], ``first_ref`` ``lane`` ``response_id`` of the server's
http.tls http.close   the server's name; None; ``flow``, ``established`` ``message``; ``up_bytes`` ``down_bytes``
http.error            what went wrong with the connection; None; the frame's own map
http.websocket        "client text" …; bytes; the frame's own map without the data; of a message that is part of no call
http.tunnel           "host:port"; None; a connection that is no HTTP has ended: ``client`` ``server`` {"bytes" …}
stdio.*               what a piece begins with; bytes; ``text`` (1,000 characters of it), ``end`` ``sha256`` ``reason``
mcp.message           the method, or "answer"; None; a line of JSON-RPC on the command's stdin or stdout: ``on``
                      ("stdin" | "stdout"), ``message`` (fitted)
identity.*            the new id; result; ``syscall`` or ``sysno``, and the arguments
lifecycle.*           container, or sandbox; exit status where there is one; the frame's own map
lifecycle.container_start  container; None; ``argv`` ``cwd``, ``message``: which message of its trace it was, from 1
collector.*           likewise, of the recorder itself
claim.export          traces, logs or metrics; how many items; ``protocol`` ``cut`` ``status`` ``body_bytes`` ``sha256``
                      ``items``, ``left_out`` ``unreadable`` ``not_understood`` {what: how often}
claim.span claim.log  the operation and upon what, or the name; None; what the agent says: replay/claims/normal.py
claim.metric          the metric's name; how many points; ``type`` ``unit`` ``service`` ``scope``
claim.refused         why; None; ``client`` [ip, port] ``port``: a connection to the receiver was broken off
claim.close           ""; None; ``client`` ``port`` ``up_bytes`` ``down_bytes``
gap                   cause; count or None; ``cause`` ``count`` ``after_seq`` ``before_seq`` ``from_ns`` ``to_ns`` (None
                      where open) ``stream`` (hex) ``source``, ``what`` in words; of a process where it has a pid
stream.open           the stream's source; None; the descriptor, and ``stream`` (hex)
stream.close          the reason; frames; the CLOSE map, ``stream``, ``unknown`` {what was not understood: how often}
note.*                cause or ""; None; the NOTE map, ``stream`` and ``source``
syscall.*             name of the call, or a path; result; ``syscall`` ``sysno`` ``args``, or the arguments by name
unknown               why it was not understood; None; ``type`` ``reason`` ``bytes`` ``head`` (hex of the first bytes)
====================  ==================================================================================================

Anything cut has ``cut``: {key: true size}. Text from a sandbox is valid Unicode: bytes that are not UTF-8, and NUL, are
written as ``\\xNN``, and a literal backslash as it is. A failed call has result -1 and its errno. An event may come of
several frames: it has the ref of one of them, and may be told a second of the log's time after it. The log's own gaps
have the ref ``log:<index>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

__all__ = ["COLUMNS", "SCHEMA", "Event", "to_table"]


class Event(NamedTuple):
    """One row. 0 and "" mean "not known", but for the four that may be None.

    A tuple, since it is made a hundred thousand times a second and turned into columns soon after.
    """

    ref: str = ""
    """The frame that it was decoded from, `segment.place`."""
    session: str = ""
    sandbox: str = ""
    source: str = ""
    kind: str = ""
    time_ns: int = 0
    """The source's clock where it has one, else our clock at receipt."""
    received_ns: int = 0
    seq: int = 0
    container: str = ""
    pid: int = 0
    """Thread group, as numbered inside the sandbox."""
    pid_start_ns: int = 0
    tid: int = 0
    ppid: int = 0
    process: str = ""
    exe: str = ""
    cwd: str = ""
    uid: int | None = None
    """Effective user; None where the message does not say."""
    gid: int | None = None
    object: str = ""
    result: int | None = None
    errno: int | None = None
    detail: str = ""
    n: int = 0
    """Which event of the frame."""


_FIELDS: list[pa.Field[Any]] = [
    pa.field("ref", pa.string(), nullable=False),
    pa.field("session", pa.string(), nullable=False),
    pa.field("sandbox", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("time_ns", pa.int64(), nullable=False),
    pa.field("received_ns", pa.int64(), nullable=False),
    pa.field("seq", pa.int64(), nullable=False),
    pa.field("container", pa.string(), nullable=False),
    pa.field("pid", pa.int64(), nullable=False),
    pa.field("pid_start_ns", pa.int64(), nullable=False),
    pa.field("tid", pa.int64(), nullable=False),
    pa.field("ppid", pa.int64(), nullable=False),
    pa.field("process", pa.string(), nullable=False),
    pa.field("exe", pa.string(), nullable=False),
    pa.field("cwd", pa.string(), nullable=False),
    pa.field("uid", pa.int64()),
    pa.field("gid", pa.int64()),
    pa.field("object", pa.string(), nullable=False),
    pa.field("result", pa.int64()),
    pa.field("errno", pa.int32()),
    pa.field("detail", pa.string(), nullable=False),
    pa.field("n", pa.int32(), nullable=False),
]
SCHEMA = pa.schema(_FIELDS)
COLUMNS: tuple[str, ...] = tuple(SCHEMA.names)
assert Event._fields == COLUMNS


def to_table(rows: Iterable[Event | Sequence[Any]]) -> pa.Table:
    """Rows in the order of the columns -> one table. Raises pyarrow.ArrowInvalid for an integer that does not fit."""
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
