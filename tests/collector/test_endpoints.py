"""The sockets that the keeper listens on, in this process: what happens when descriptors run out."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from sandtrail.collector.endpoints import accept, listener


@pytest.fixture
def path(home: Path) -> Path:
    return home / "a.sock"


def test_only_the_owner_may_connect_and_an_old_socket_is_replaced(path: Path) -> None:
    for _ in range(2):
        with listener(path) as sock:
            assert path.stat().st_mode & 0o777 == 0o600
            assert sock.type == socket.SOCK_SEQPACKET


def test_there_may_be_nobody_to_accept(path: Path) -> None:
    with listener(path) as sock:
        assert accept(sock) is None


def test_a_path_that_is_too_long_leaves_nothing_open(home: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        listener(home / ("x" * 200))


def test_a_connection_waits_for_a_free_descriptor(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listener(path) as sock, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            assert accept(sock) is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "Too many open files" in capfd.readouterr().err
        connection = accept(sock)
        assert connection is not None
        connection.close()
