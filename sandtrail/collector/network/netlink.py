"""The two netlink sockets of a wire namespace: NFLOG (packets that the filter logs) and ctnetlink (flows).

Both are opened inside the namespace and work from anywhere afterwards. They are only set up here, never read: the
keeper records every datagram as it comes. Overruns are not suppressed: a lost datagram is an ENOBUFS for the reader.

Specification: linux/netfilter/nfnetlink_log.h, nfnetlink_conntrack.h, nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
from struct import pack, unpack_from
from typing import Final

from sandtrail.errors import EnvironmentRefusedError

__all__ = ["MAX_DATAGRAM", "flush_flows", "open_conntrack", "open_nflog"]

NETLINK_NETFILTER: Final = 12
# A burst of this many bytes waits for the reader before anything is lost.
RECEIVE_BUFFER: Final = 16 << 20
# The most that one datagram of these sockets holds; a reader's buffer has to be as large.
MAX_DATAGRAM: Final = 128 << 10
COPY_RANGE: Final = 4096

_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_BROADCAST_ERROR = 270, 4
_REQUEST, _ACK, _ERROR = 1, 4, 2
_ULOG, _CTNETLINK = 4, 1
_ULOG_CONFIG = 1
_CT_DELETE = 2
_CFG_CMD, _CFG_MODE, _CFG_NLBUFSIZ, _CFG_TIMEOUT, _CFG_QTHRESH, _CFG_FLAGS = range(1, 7)
_CMD_BIND = 1
_COPY_PACKET = 2
_FLAG_SEQ, _FLAG_CONNTRACK = 1, 4
_GROUP_NEW, _GROUP_DESTROY = 1, 4


def _attribute(kind: int, value: bytes) -> bytes:
    return pack("<HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _request(sock: socket.socket, subsystem: int, message: int, family: int, resource: int, attributes: bytes) -> None:
    body = pack(">BBH", family, 0, resource) + attributes
    head = pack("<IHHII", 16 + len(body), subsystem << 8 | message, _REQUEST | _ACK, 1, 0)
    sock.send(head + body)
    answer = sock.recv(65536)
    kind, code = unpack_from("<H", answer, 4)[0], unpack_from("<i", answer, 16)[0]
    if kind == _ERROR and code:
        raise OSError(-code, os.strerror(-code))


def _socket(groups: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
    sock.bind((0, groups))
    return sock


def open_nflog(group: int) -> socket.socket:
    """A socket that gets every packet logged to `group` in the calling thread's network namespace, whole up to 4 KiB,
    with sequence numbers (a jump is a loss) and the flow each belongs to. Raises EnvironmentRefusedError."""
    sock = _socket()
    try:
        _request(sock, _ULOG, _ULOG_CONFIG, 0, group, _attribute(_CFG_CMD, pack("B", _CMD_BIND)))
        mode = _attribute(_CFG_MODE, pack(">IBx", COPY_RANGE, _COPY_PACKET))
        # 20 ms or 32 packets, whichever is first; the kernel's own default would hold a packet back for a second.
        batch = _attribute(_CFG_NLBUFSIZ, pack(">I", MAX_DATAGRAM)) + _attribute(_CFG_TIMEOUT, pack(">I", 2))
        batch += _attribute(_CFG_QTHRESH, pack(">I", 32))
        flags = _FLAG_SEQ | _FLAG_CONNTRACK
        try:
            _request(sock, _ULOG, _ULOG_CONFIG, 0, group, mode + batch + _attribute(_CFG_FLAGS, pack(">H", flags)))
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            # A kernel without the conntrack glue: the packets come without their flow.
            _request(sock, _ULOG, _ULOG_CONFIG, 0, group, mode + batch + _attribute(_CFG_FLAGS, pack(">H", _FLAG_SEQ)))
    except OSError as error:
        sock.close()
        raise EnvironmentRefusedError(
            f"the kernel refuses packet logging ({error.strerror}): it needs CONFIG_NETFILTER_NETLINK_LOG"
        ) from error
    return sock


def open_conntrack() -> socket.socket:
    """A socket that gets the beginning and the end (with counters) of every flow that passes in the calling thread's
    network namespace. Raises EnvironmentRefusedError."""
    try:
        sock = _socket(_GROUP_NEW | _GROUP_DESTROY)
        # The end of a flow that finds the buffer full is kept by the kernel and told again later.
        sock.setsockopt(_SOL_NETLINK, _NETLINK_BROADCAST_ERROR, 1)
        return sock
    except OSError as error:
        raise EnvironmentRefusedError(
            f"the kernel refuses flow events ({error.strerror}): they need CONFIG_NF_CT_NETLINK"
        ) from error


def flush_flows() -> None:
    """End every flow of the calling thread's network namespace, so that its counters are reported."""
    with _socket() as sock:
        _request(sock, _CTNETLINK, _CT_DELETE, socket.AF_UNSPEC, 0, b"")
