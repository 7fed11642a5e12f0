"""What the sandbox gets to see of this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.collector.session import bundle
from sandtrail.collector.session.options import Mount, RecordOptions
from sandtrail.errors import UsageError


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n")
    return path


def written(
    tmp_path: Path, ca: Path | None, cgroup: str = "", **options: object
) -> tuple[bundle.Bundles, dict[str, dict]]:  # type: ignore[type-arg]
    made = bundle.write(
        tmp_path / "bundle",
        RecordOptions(tmp_path, ("true",), **options),  # type: ignore[arg-type]
        hostname="s1",
        pod="s1-pod",
        namespace="st-s1-sb",
        ca=ca,
        cgroup=cgroup,
    )
    return made, {f.name: json.loads((f / "config.json").read_text()) for f in (made.pod, made.agent)}


def test_nobodys_secrets_are_in_the_root(tmp_path: Path, ca: Path) -> None:
    made, specs = written(tmp_path, ca)
    root = made.agent / "root"
    for secret in ("etc/shadow", "etc/ssh", "etc/ssl/private", "etc/sudoers", "etc/pip.conf", "etc/apt"):
        assert not (root / secret).exists()
    assert list((root / "root").iterdir()) == []
    assert [p.name for p in (root / "home").iterdir()] == ["agent"]
    people = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines() if ":/home/" in line}
    assert not people & {line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()} - {"agent"}
    sources = {m["source"] for m in specs["agent"]["mounts"] if m["type"] == "bind"}
    assert sources <= {f"/{name}" for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")}
    assert all("ro" in m["options"] for m in specs["agent"]["mounts"] if m["type"] == "bind")


@pytest.mark.needs("root")
def test_home_and_working_folder_belong_to_the_user(tmp_path: Path, ca: Path) -> None:
    made, specs = written(tmp_path, ca, user="1000:50")
    assert specs["agent"]["process"]["user"] == {"uid": 1000, "gid": 50}
    for folder in ("home/agent", "work"):
        stat = (made.agent / "root" / folder).stat()
        assert (stat.st_uid, stat.st_gid) == (1000, 50)


def test_the_gateways_certificate_is_among_the_systems(tmp_path: Path, ca: Path) -> None:
    made, _ = written(tmp_path, ca)
    bundled = (made.agent / "root" / bundle.CA_BUNDLE[1:]).read_text()
    assert bundled.rstrip().endswith(ca.read_text().rstrip())
    system = Path(bundle.CA_BUNDLE)
    assert not system.exists() or bundled.startswith(system.read_text().rstrip())
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"):
        assert made.environment[name] == bundle.CA_BUNDLE


def test_everything_that_speaks_http_is_sent_to_the_gateway(tmp_path: Path, ca: Path) -> None:
    made, _ = written(tmp_path, ca, env={"NO_PROXY": "example.test"})
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert made.environment[name] == "http://10.219.0.1:3128"
    assert made.environment["NO_PROXY"] == "example.test", "what the user says wins"


def test_the_two_containers_are_one_sandbox(tmp_path: Path, ca: Path) -> None:
    _, specs = written(tmp_path, ca)
    assert specs["pod"]["annotations"] == {"io.kubernetes.cri.container-type": "sandbox"}
    assert specs["agent"]["annotations"]["io.kubernetes.cri.sandbox-id"] == "s1-pod"
    for spec in specs.values():
        network = next(n for n in spec["linux"]["namespaces"] if n["type"] == "network")
        assert network["path"] == "/run/netns/st-s1-sb"


def test_a_memory_limit_holds_the_whole_sandbox(tmp_path: Path, ca: Path) -> None:
    _, specs = written(tmp_path, ca, cgroup="/sandtrail/s1", memory=1 << 30)
    assert specs["pod"]["linux"]["cgroupsPath"] == "/sandtrail/s1"
    assert specs["pod"]["linux"]["resources"]["memory"]["limit"] == 1 << 30


def test_mounts_have_a_place_to_be_mounted_on(tmp_path: Path, ca: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    mounts = (Mount(tmp_path, "/data/in"), Mount(file, "/opt/tool.conf", writable=True), Mount(tmp_path, "/bin/x"))
    made, specs = written(tmp_path, ca, mounts=mounts, workdir="/data/work")
    root = made.agent / "root"
    assert (root / "data/in").is_dir()
    assert (root / "data/work").is_dir()
    assert (root / "opt/tool.conf").is_file()
    assert not Path("/bin/x").exists(), "nothing is made behind a link out of our own root"
    modes = {m["destination"]: m["options"][1] for m in specs["agent"]["mounts"] if m["type"] == "bind"}
    assert (modes["/data/in"], modes["/opt/tool.conf"]) == ("ro", "rw")


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    """A root of the user's own, over which a bundle is written."""
    root = tmp_path / "their, root:1"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    yield root
    subprocess.run(["umount", str(tmp_path / "bundle" / "agent" / "root")], capture_output=True, check=False)


@pytest.mark.needs("root")
def test_a_root_of_the_users_own_is_used_and_not_written_to(tmp_path: Path, ca: Path, foreign: Path) -> None:
    mounts = (Mount(tmp_path, "/data/in"),)
    made, _ = written(tmp_path, ca, rootfs=foreign, mounts=mounts)
    root = made.agent / "root"
    assert (root / "etc/resolv.conf").read_text().startswith("nameserver 10.219.0.1")
    assert (root / "etc/hosts").exists()
    assert (root / "data/in").is_dir()
    assert {p.relative_to(foreign).as_posix() for p in foreign.rglob("*")} == {"etc", "etc/resolv.conf"}
    assert (foreign / "etc/resolv.conf").read_text() == "nameserver 192.0.2.53\n"


@pytest.mark.needs("root")
def test_a_link_in_that_root_does_not_lead_us_out_of_it(tmp_path: Path, ca: Path, foreign: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "certs").mkdir(parents=True)
    (foreign / "etc" / "ssl").symlink_to(outside)
    (foreign / "etc" / "hosts").symlink_to(outside / "hosts")
    (foreign / "data").symlink_to(outside)
    made, _ = written(tmp_path, ca, rootfs=foreign, mounts=(Mount(tmp_path, "/data/in"),))
    assert [p.name for p in outside.rglob("*")] == ["certs"]
    assert "localhost" in (made.agent / "root/etc/hosts").read_text()


def test_a_root_that_is_not_there_is_a_mistake(tmp_path: Path, ca: Path) -> None:
    with pytest.raises(UsageError, match="--rootfs"):
        written(tmp_path, ca, rootfs=tmp_path / "missing")
