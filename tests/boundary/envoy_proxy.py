"""Envoy, run for real in an environment of its own: it logs to our listener over gRPC, and to a file as JSON."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.boundary.litellm_proxy import PATIENCE_S, wait_for
from tests.boundary.sandboxed import installed

_TYPES = "type.googleapis.com/envoy.extensions"
NODE = "agent-7"
FORMAT = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}
"""As in the example of Istio's documentation."""


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    ends = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    cluster = {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": ends}}
    options = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return cluster | (
        {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}}
        if http2
        else {}
    )


def _logs(log: Path, kind: str) -> list[dict[str, Any]]:
    service = {
        "log_name": "agents",
        "transport_api_version": "V3",
        "buffer_flush_interval": "0.1s",
        "grpc_service": {"envoy_grpc": {"cluster_name": "sandtrail"}},
    }
    grpc: dict[str, Any] = {
        "@type": f"{_TYPES}.access_loggers.grpc.v3.{kind}GrpcAccessLogConfig",
        "common_config": service,
    }
    file = {
        "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
        "path": str(log),
        "log_format": {"json_format": FORMAT},
    }
    return [{"name": "grpc", "typed_config": grpc}, {"name": "file", "typed_config": file}]


def _config(ports: list[int], upstream: int, listener: int, log: Path) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    http = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}],
        "access_log": _logs(log, "Http"),
    }
    tcp = {
        "@type": f"{_TYPES}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": "upstream",
        "access_log": _logs(log, "Tcp"),
    }
    listeners = [
        {"address": _address(port), "filter_chains": [{"filters": [{"name": "f", "typed_config": typed}]}]}
        for port, typed in zip(ports, (http, tcp), strict=True)
    ]
    clusters = [_cluster("upstream", upstream), _cluster("sandtrail", listener, http2=True)]
    return {
        "node": {"id": NODE, "cluster": "agents"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _free() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def envoy(folder: Path, upstream: int, listener: int, log: Path) -> Iterator[tuple[int, int]]:
    """Envoy in front of a port of this machine; yields the ports of its HTTP proxy and of its TCP proxy. What it has to
    log has been sent when the block is over."""
    ports = [_free(), _free()]
    (folder / "envoy.json").write_text(json.dumps(_config(ports, upstream, listener, log)))
    binary = next(installed("envoy").venv.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    command = [str(binary), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
    words = folder / "envoy.log"
    with words.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as running:
        try:
            wait_for(lambda: _answers(ports[0], running, words), "Envoy to start")
            yield ports[0], ports[1]
        finally:
            running.terminate()
            running.wait(PATIENCE_S)


def _answers(port: int, running: subprocess.Popen[bytes], words: Path) -> bool:
    assert running.poll() is None, words.read_text()
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
