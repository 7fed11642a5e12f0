"""Packets one at a time: every type, and what is no packet."""

from __future__ import annotations

import json
from struct import pack

import pytest

from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from tests.replay.decode.recorded import OK, decode, packet


@pytest.mark.parametrize("number", sorted(KINDS))
def test_every_type_is_read(number: int) -> None:
    name = KINDS[number][0]
    ended = {"exit": OK} if "exit" in CLASSES[number].DESCRIPTOR.fields_by_name else {}
    found = decode([packet(name, **ended)])
    assert found
    assert not [event for event in found if event.kind == "unknown"]
    assert {event.pid for event in found} == {7}
    assert all(isinstance(json.loads(event.detail), dict) for event in found)


def test_there_are_38_types() -> None:
    assert sorted(CLASSES) == list(range(1, 39))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter than a header"),
        (b"\x08\x00\x07", "shorter than a header"),
        (pack("<HHI", 8, 99, 0) + b"x", "message type 99"),
        (pack("<HHI", 4, 7, 0), "header size 4 of 8 bytes"),
        (pack("<HHI", 900, 7, 0), "header size 900 of 8 bytes"),
        (pack("<HHI", 8, 7, 0) + b"\xff\xff\xff", "SYSCALL_OPEN is not well-formed"),
    ],
)
def test_what_is_not_understood_is_kept_and_said(data: bytes, reason: str) -> None:
    (event,) = decode([data])
    assert (event.kind, event.object) == ("unknown", reason)
    told = json.loads(event.detail)
    assert (told["bytes"], told["head"]) == (len(data), data.hex())


def test_a_longer_header_of_a_later_version_is_skipped() -> None:
    plain = packet("SYSCALL_OPEN", exit=OK, pathname=b"/x")
    longer = pack("<HHI", 16, 7, 0) + b"later..!" + plain[8:]
    assert [event.object for event in decode([longer])] == ["/x"]


def test_unknown_fields_are_said_once_and_the_rest_is_read() -> None:
    extra = b"\xf2\x07\x03new"  # field 126, a string
    found = decode([packet("SYSCALL_OPEN", exit=OK, pathname=b"/x") + extra] * 3)
    assert [event.kind for event in found] == ["unknown", "file.open", "file.open", "file.open"]
    assert found[0].object == "field 126 of SYSCALL_OPEN"


def test_drops_are_gaps_and_the_counter_wraps() -> None:
    counts = [0, 3, 3, 0xFFFF_FFFF, 4]
    gaps = [e for e in decode([packet("SYSCALL_FORK", exit=OK, dropped=n) for n in counts]) if e.kind == "gap"]
    assert [event.result for event in gaps] == [3, 0xFFFF_FFFC, 5]
    assert {event.object for event in gaps} == {"dropped by the sentry"}
    assert [(json.loads(g.detail)["after_seq"], json.loads(g.detail)["before_seq"]) for g in gaps][0] == (1, 2)


def test_a_stream_that_goes_on_does_not_count_what_went_before() -> None:
    assert not [e for e in decode([packet("SYSCALL_FORK", dropped=9)], continues=True) if e.kind == "gap"]


def test_a_failed_call_has_result_minus_one() -> None:
    (event,) = decode([packet("SYSCALL_OPEN", exit={"result": 0, "errorno": 13}, pathname=b"/x")])
    assert (event.result, event.errno) == (-1, 13)


@pytest.mark.parametrize(
    ("given", "fd", "folder", "cwd", "path"),
    [
        (b"/a//b/./c", -100, b"", b"/home", "/a/b/c"),
        (b"x", -100, b"", b"/home", "/home/x"),
        (b"../x", -100, b"", b"/home/me", "/home/x"),
        (b"../../../x", -100, b"", b"/a", "/x"),
        (b"x", 5, b"/opt/dir", b"/home", "/opt/dir/x"),
        (b"x", 5, b"[err: FD not found]", b"/home", "x"),
        (b"x", -100, b"", b"", "x"),
        (b"", 5, b"/opt/dir", b"/", "/opt/dir"),
        (b"caf\xc3\xa9", -100, b"", b"/", "/café"),
        (b"bad\xff", -100, b"", b"/", "/bad\\xff"),
    ],
)
def test_paths_are_resolved(given: bytes, fd: int, folder: bytes, cwd: bytes, path: str) -> None:
    data = packet("SYSCALL_OPEN", exit=OK, fd=fd, fd_path=folder, pathname=given, context={"cwd": cwd})
    (event,) = decode([data])
    assert event.object == path
    assert json.loads(event.detail).get("pathname", path) in (path, given.decode("utf-8", "backslashreplace"))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (b"\x02\x00\x01\xbb\x7f\x00\x00\x01" + b"\0" * 8, "127.0.0.1:443"),
        (b"\x0a\x00\x00\x35" + b"\0" * 4 + b"\0" * 15 + b"\x01" + b"\0" * 4, "[::1]:53"),
        (b"\x01\x00/run/x.sock\0junk", "unix:/run/x.sock"),
        (b"\x01\x00\0bus\xff", "unix:@bus\\xff"),
        (b"\x01\x00", "unix:"),
        (b"\x10\x00\x00\x00\x01", "netlink:000001"),
        (b"\x02\x00\x01", "inet:01"),
        (b"", ""),
    ],
)
def test_addresses(address: bytes, name: str) -> None:
    (event,) = decode([packet("SYSCALL_CONNECT", exit=OK, address=address)])
    assert event.object == name


def test_a_write_to_a_socket_is_a_send() -> None:
    (event,) = decode([packet("SYSCALL_WRITE", exit={"result": 5}, fd=4, fd_path=b"socket:[3]", count=9)])
    assert (event.kind, event.result, json.loads(event.detail)["asked"]) == ("net.send", 5, 9)


def test_text_that_would_break_out_is_kept_as_it_is() -> None:
    words = [b"\x1b[31m", b"<script>", b"=1+1", b"a\nb", b"\xf0\x9f\x92\xa9", b"\xed\xa0\x80", b"\0"]
    data = packet("SENTRY_EXEC", binary_path=b"/bin/x", argv=words)
    (event,) = decode([data])
    told = json.loads(event.detail)["argv"]
    assert told == ["\x1b[31m", "<script>", "=1+1", "a\nb", "💩", "\\xed\\xa0\\x80", "\\x00"]
    event.detail.encode()


def test_300_kib_of_arguments_are_cut_and_their_size_said() -> None:
    (event,) = decode([packet("SENTRY_EXEC", binary_path=b"/bin/x", argv=[b"a" * 100_000] * 3)])
    told = json.loads(event.detail)
    assert told["argc"] == 3
    assert told["cut"] == {"argv": 300_000}
    assert len(event.detail) < 64_000


def test_who_acted() -> None:
    names = ("real_uid", "effective_uid", "saved_uid", "real_gid", "effective_gid", "saved_gid")
    credentials = {name: number for number, name in enumerate(names, 1)}
    context = {"parent_thread_group_id": 3, "process_name": b"worker", "cwd": b"/srv", "credentials": credentials}
    (event,) = decode([packet("SYSCALL_OPEN", exit=OK, pathname=b"/x", who=(7, 9), context=context)])
    assert (event.pid, event.tid, event.ppid, event.pid_start_ns) == (7, 9, 3, 500)
    assert (event.process, event.cwd, event.uid, event.gid) == ("worker", "/srv", 2, 5)
    assert (event.time_ns, event.received_ns) == (1_000_000, 10_001)


def test_a_message_without_credentials_does_not_make_its_process_root() -> None:
    (event,) = decode([packet("SYSCALL_OPEN", exit=OK, pathname=b"/x")])
    assert (event.uid, event.gid) == (None, None)
