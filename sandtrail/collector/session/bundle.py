"""Writes the OCI bundles of a session: the pod, whose root container only waits, and the agent, which runs the command.

Both live in one sandbox, told apart by the annotations that containerd uses. The pod outlives the command, so the
runtime can still be asked about it. Specification: OCI runtime-spec 1.0, config.md; gVisor runsc/specutils/cri.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandtrail.collector.network.namespaces import NETNS
from sandtrail.collector.network.wire import CLAIMS_PORTS, GATEWAY_PORT, WIRE_ADDRESS
from sandtrail.collector.runsc.elf import pause_program
from sandtrail.collector.session import rootfs
from sandtrail.collector.session.options import RecordOptions, parse_user

__all__ = ["AGENT", "CA_BUNDLE", "POD", "Bundles", "write"]

POD: Final = "pod"
AGENT: Final = "agent"
CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a container engine gives root by default, less raw sockets.
_CAPABILITIES: Final = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "SETFCAP", "AUDIT_WRITE"),
    )
]
_DIRECT: Final = "localhost,127.0.0.1,::1"
_CA_VARIABLES: Final = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
    *("AWS_CA_BUNDLE", "DENO_CERT"),
)


@dataclass(frozen=True)
class Bundles:
    """The folders of the two bundles, and the environment and working folder that the command gets."""

    pod: Path
    agent: Path
    environment: dict[str, str]
    workdir: str


def write(
    folder: Path, options: RecordOptions, *, hostname: str, pod: str, namespace: str, ca: Path | None, cgroup: str
) -> Bundles:
    """Write both bundles under `folder`. `pod` is the root container's id, `namespace` the sandbox's network namespace,
    `ca` the certificate that the gateway signs with, `cgroup` where the memory limit applies."""
    environment = {**_environment(ca is not None), **(_telemetry(options.env) if options.claims else {}), **options.env}
    workdir = options.workdir or (rootfs.WORKDIR if options.rootfs is None else "/")
    agent = folder / AGENT
    folder.mkdir(mode=0o700, parents=True)  # the environment in it may hold secrets
    agent.mkdir()
    user = parse_user(options.user)
    root = agent / "root"
    if options.rootfs is None:
        mounts = rootfs.build(root, hostname, user)
    else:
        rootfs.overlay(options.rootfs, agent)
        mounts = []
    rootfs.put(root, "/etc/resolv.conf", rootfs.resolv_conf())
    rootfs.put(root, "/etc/hosts", rootfs.hosts(hostname))
    if ca is not None:
        rootfs.put(root, CA_BUNDLE, _ca_bundle(ca))
    for mount in options.mounts:
        rootfs.mount_point(root, mount.target, is_file=mount.source.is_file())
    rootfs.mount_point(root, workdir, is_file=False)
    mounts += [rootfs.bind(m.source, m.target, writable=m.writable) for m in options.mounts]
    process = {
        "terminal": False,
        "user": dict(zip(("uid", "gid"), user, strict=True)),
        "args": list(options.command),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": workdir,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 65536, "hard": 65536}],
        "noNewPrivileges": False,
    }
    common = {"hostname": hostname, "namespace": namespace}
    spec = _spec(process, [*_system_mounts(), *mounts], _annotations("container", pod), **common)
    (agent / "config.json").write_text(json.dumps(spec))
    return Bundles(_pod(folder, options, common, cgroup), agent, environment, workdir)


def _pod(folder: Path, options: RecordOptions, common: dict[str, str], cgroup: str) -> Path:
    pod = folder / POD
    (pod / "root").mkdir(parents=True)
    program = pod / "root" / "pause"
    program.write_bytes(pause_program())
    program.chmod(0o755)
    process: dict[str, Any] = {"user": {"uid": 0, "gid": 0}, "args": ["/pause"], "env": [], "cwd": "/"}
    spec = _spec(process, [], _annotations("sandbox", ""), **common)
    if cgroup:
        spec["linux"]["cgroupsPath"] = cgroup
        spec["linux"]["resources"] = {"memory": {"limit": options.memory, "swap": options.memory}}
    (pod / "config.json").write_text(json.dumps(spec))
    return pod


def _annotations(kind: str, pod: str) -> dict[str, str]:
    belongs = {"io.kubernetes.cri.sandbox-id": pod} if pod else {}
    return {"io.kubernetes.cri.container-type": kind, **belongs}


def _spec(
    process: dict[str, Any],
    mounts: list[dict[str, Any]],
    annotations: dict[str, str],
    *,
    hostname: str,
    namespace: str,
) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.0",
        "process": process,
        # Writable: what is written goes to the overlay in the sandbox's memory.
        "root": {"path": "root", "readonly": False},
        "hostname": hostname,
        "mounts": mounts,
        "annotations": annotations,
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "mount", "ipc", "uts")),
                {"type": "network", "path": str(NETNS / namespace)},
            ]
        },
    }


def _system_mounts() -> list[dict[str, Any]]:
    # /dev is gVisor's own. A read-only /tmp makes coding agents hang without a word.
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "noexec", "nodev"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
    ]


def _environment(with_ca: bool) -> dict[str, str]:
    proxy = f"http://{WIRE_ADDRESS}:{GATEWAY_PORT}"
    environment = {"PATH": _PATH, "HOME": rootfs.HOME, "LANG": "C.UTF-8", "TERM": "dumb"}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment |= {name: proxy, name.lower(): proxy}
    environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), _DIRECT)
    # Node's own fetch takes the proxy only when it is told to.
    environment["NODE_USE_ENV_PROXY"] = "1"
    return environment | (dict.fromkeys(_CA_VARIABLES, CA_BUNDLE) if with_ca else {})


def _telemetry(given: Mapping[str, str]) -> dict[str, str]:
    """Where telemetry goes: to us, unless the operator has it go elsewhere. In no case by way of the gateway."""
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), f"{_DIRECT},{WIRE_ADDRESS}")
    if any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in given):
        return direct
    endpoint = f"http://{WIRE_ADDRESS}:{CLAIMS_PORTS[1]}"
    return {**direct, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def _ca_bundle(ca: Path) -> str:
    """The system's certificates and the gateway's, in one text."""
    system = Path(CA_BUNDLE)
    text = system.read_text(errors="replace") if system.exists() else ""
    return f"{text.rstrip()}\n{ca.read_text().strip()}\n".lstrip()
