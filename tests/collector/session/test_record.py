"""Recording for real: each of these runs gVisor."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandtrail.collector.control import Keeper
from sandtrail.collector.session.options import RecordOptions
from sandtrail.collector.session.record import record
from sandtrail.collector.session.state import State
from sandtrail.errors import UsageError
from tests.collector.session.recorded import recorded, said
from tests.collector.session.recorder import Recorder, eventually, nothing_left

pytestmark = [pytest.mark.needs("root", "runsc", "ip", "nft"), pytest.mark.timeout(120)]


def test_a_command_runs_and_is_recorded_from_its_first_instruction_to_its_end(
    each_recorder: Recorder,
) -> None:
    home = each_recorder.home
    name, done = each_recorder.run(
        "sh", "-c", 'read x; echo "got $x"; echo words >&2; (echo y > /work/f); exit 7', stdin="input\n"
    )
    assert (done.returncode, done.stdout) == (7, "got input\n"), done.stderr
    first, *rest = done.stderr.splitlines()
    assert first.startswith(f"session {name} (gVisor ")
    assert "platform " in first
    assert "network " in first
    assert rest == ["words"]
    found = recorded(home, name)
    assert found.act("exit")["exit_status"] == 7
    assert found.act("runtime", event="trace-list")["dropped"] == 0
    assert found.gaps() == []
    assert [act for act in found.acts() if str(act.get("event")).endswith("failed")] == []
    types = found.message_types()
    assert types.count(1) == 2, "container/start of the pod and of the agent"
    assert types[0] == 1, "nothing came before it"
    assert {2, 4, 5, 7, 34} <= set(types)
    gvisor = found.of("gvisor")
    assert gvisor.closed is not None
    assert gvisor.closed["dropped"] == 0
    assert gvisor.descriptor["blind"]
    assert any(b"/work/f" in packet for packet in gvisor.data)
    assert found.act("create", role="pod")["send_buffer"] >= 1 << 20
    assert nothing_left(home, name)


def test_a_command_that_is_not_there_ends_as_in_a_shell(recorder: Recorder) -> None:
    name, done = recorder.run("no-such-program")
    assert done.returncode == 127
    assert "no-such-program" in done.stderr
    assert recorded(recorder.home, name).act("exit")["started"] is False
    assert nothing_left(recorder.home, name)


def test_the_sandbox_sees_neither_this_machines_files_nor_its_processes(recorder: Recorder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    script = f"cat {secret} /etc/shadow; ls /root; touch /usr/x; touch /home/agent/x && echo mine"
    _, done = recorder.run("sh", "-c", script)
    assert "s3cret" not in done.stdout + done.stderr
    assert "Read-only file system" in done.stderr
    assert "mine" in done.stdout
    assert not Path("/usr/x").exists()


def test_mounts_environment_user_and_working_folder_are_as_asked(recorder: Recorder, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "in").write_text("hello")
    writable = tmp_path / "out"
    writable.mkdir()
    writable.chmod(0o777)
    _, done = recorder.run(
        *("sh", "-c", "id -u; pwd; echo $GREETING; cat /in/in; echo data > /out/file; echo x > /in/x"),
        mounts=[f"{tmp_path}:/in", f"{writable}:/out:rw"],
        env={"GREETING": "good morning"},
        user="1000",
        workdir="/tmp",
    )
    assert done.stdout == "1000\n/tmp\ngood morning\nhello"
    assert "Read-only file system" in done.stderr
    assert (writable / "file").read_text() == "data\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.needs("busybox")
def test_a_root_of_the_users_own_serves_and_stays_as_it_is(each_recorder: Recorder, tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    script = "busybox cat /etc/resolv.conf /new/place/in; echo x > /created; busybox ls -d /created /usr"
    (tmp_path / "in").write_text("mounted\n")
    name, done = each_recorder.run("sh", "-c", script, rootfs=str(root), mounts=[f"{tmp_path}:/new/place"])
    assert done.stdout.splitlines() == [*_resolver(), "mounted", "/created"], done.stderr
    assert {p.relative_to(root).as_posix() for p in root.rglob("*")} == {"bin", "bin/busybox", "bin/sh"}
    assert nothing_left(each_recorder.home, name)


def _resolver() -> list[str]:
    return ["nameserver 10.219.0.1", "options timeout:1 attempts:1"]


def test_what_goes_around_the_gateway_is_refused_at_once_and_recorded(each_recorder: Recorder) -> None:
    recorder = each_recorder
    name, done = recorder.run(
        "python3",
        "-c",
        "import socket\n"
        "for act in (lambda: socket.create_connection(('192.0.2.7', 443), 5),\n"
        "            lambda: socket.getaddrinfo('secret.exfil.test', 80),\n"
        "            lambda: socket.create_connection(('10.219.0.1', 3128), 5)):\n"
        "    try: act(); print('went')\n"
        "    except OSError as error: print(type(error).__name__)\n",
    )
    assert done.stdout.split() == ["ConnectionRefusedError", "gaierror", "went"], done.stderr
    found = recorded(recorder.home, name)
    packets = b"".join(found.of("netfilter").data)
    assert b"flow:reject\0" in packets
    assert b"\xc0\x00\x02\x07\x01\xbb" not in packets  # the address and the port are apart in a packet …
    assert b"\xc0\x00\x02\x07" in packets  # … and the address is there
    assert b"\6secret\5exfil\4test" in packets
    assert found.of("conntrack").data
    account = found.act("egress", at="end")
    assert account["logged"]["flow:reject"]["packets"] >= 1
    assert account["accounted"]["up"]["flows"]["packets"] >= 3
    nothing = {"packets": 0, "bytes": 0}
    assert account["difference"] == {"up": nothing, "down": nothing}


def test_an_interrupt_is_the_commands_first(recorder: Recorder) -> None:
    name, process = recorder.running("trap 'echo caught; exit 9' INT", "while :; do sleep 0.1; done")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (9, "caught\n")
    assert recorded(recorder.home, name).act("runtime", event="signal")["signal"] == "INT"
    assert nothing_left(recorder.home, name)


def test_a_command_that_ignores_an_interrupt_is_ended_by_the_second(recorder: Recorder) -> None:
    name, process = recorder.running("trap '' INT", "while :; do sleep 0.1; done")
    process.send_signal(signal.SIGINT)
    said(recorder.home, name, "lifecycle", b'"event": "signal"')
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 137
    assert nothing_left(recorder.home, name)


def test_a_request_to_terminate_reaches_the_command_and_cleans_up(recorder: Recorder) -> None:
    name, process = recorder.running("", "exec sleep 100")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert recorded(recorder.home, name).act("exit")["exit_status"] == 143
    assert nothing_left(recorder.home, name)


def test_when_the_recorder_is_killed_the_keeper_cleans_up_and_says_so(recorder: Recorder) -> None:
    name, process = recorder.running("", "exec sleep 100")
    process.kill()
    process.communicate()
    assert eventually(nothing_left, recorder.home, name)
    found = recorded(recorder.home, name, unclosed="record")
    gone = found.act("delete", "cleanup")
    left = found.act("egress", "cleanup", at="cleanup")
    assert left["difference"] == {way: {"packets": 0, "bytes": 0} for way in ("up", "down")}
    assert gone["recorder_pid"] == process.pid


def test_what_a_crash_of_everything_left_is_gone_after_the_next_start(own_recorder: Recorder) -> None:
    recorder = own_recorder
    name, process = recorder.running("", "exec sleep 100")
    keeper = Keeper.connect(recorder.home, start=False)
    status = keeper.status()
    pids = [status["pid"], process.pid, *(child["pid"] for child in status["processes"].values())]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    keeper.close()
    process.wait()
    assert not nothing_left(recorder.home, name)
    assert not State.load(recorder.home, name).owned
    _, done = recorder.run("true")
    assert done.returncode == 0, done.stderr
    assert nothing_left(recorder.home, name)
    process.communicate()


def test_a_kernel_that_dies_under_the_command_is_a_recorded_fact(each_recorder: Recorder) -> None:
    home = each_recorder.home
    name, process = each_recorder.running("", "exec sleep 100")
    os.kill(each_recorder.sentry(name), signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137
    found = recorded(home, name)
    assert found.act("runtime", event="died")["signal"] == 9
    assert any("died" in cause for cause in found.gaps())
    assert any("could not be asked" in cause for cause in found.gaps())
    assert nothing_left(home, name)


def test_a_recorder_that_dies_takes_the_command_with_it(own_recorder: Recorder) -> None:
    recorder = own_recorder
    name, process = recorder.running("", "exec sleep 100")
    keeper = Keeper.connect(recorder.home, start=False)
    pid = int(keeper.status()["pid"])
    keeper.close()
    os.kill(pid, signal.SIGKILL)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "RecorderError" in words
    assert nothing_left(recorder.home, name)
    recorder.run("true")
    found = recorded(recorder.home, name, unclosed="")
    assert "the recorder itself failed" in found.gaps()


def test_running_out_of_memory_is_a_recorded_fact(recorder: Recorder) -> None:
    name, done = recorder.run(
        "python3", "-c", "x = [bytearray(b'y' * 10_000_000) for _ in range(100)]", memory=160 << 20
    )
    assert done.returncode != 0
    found = recorded(recorder.home, name)
    oom = found.act("oom")
    assert oom["oom_kill"] >= 1
    assert oom["limit"] == 160 << 20
    assert nothing_left(recorder.home, name)


def test_eight_sandboxes_at_once_lose_nothing_and_do_not_mix(recorder: Recorder) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do cat /etc/hostname; done"
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(recorder.run, "sh", "-c", script, quiet=True) for _ in range(8)]
        outcomes = [result.result() for result in results]
    assert len({name for name, _ in outcomes}) == 8
    for name, done in outcomes:
        assert (done.returncode, done.stdout) == (0, f"{name}\n" * 10), done.stderr
        found = recorded(recorder.home, name)
        assert found.gaps() == []
        assert found.message_types().count(1) == 2
        assert all(name.encode() in packet for packet in found.of("gvisor").data)
        assert nothing_left(recorder.home, name)


@pytest.mark.needs("root", "runsc", "nft", "ip")
def test_a_name_that_another_home_uses_now_is_refused_and_its_namespaces_stay(tmp_path: Path) -> None:
    space = f"st-twice-{os.getpid()}-sb"
    subprocess.run(["ip", "netns", "add", space], check=True)
    try:
        with pytest.raises(UsageError, match="choose another"):
            record(RecordOptions(home=tmp_path / "other", command=("true",), name=f"twice-{os.getpid()}"))
        assert (Path("/run/netns") / space).exists()
    finally:
        subprocess.run(["ip", "netns", "del", space], check=True)
