"""`sandtrail cluster`: run a cluster's log, say which nodes belong to it, verify it. `sandtrail notary`: have a log
cosigned without a recorder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandtrail.commands.judgement import print_report
from sandtrail.commands.options import Home, Json, home_folder, safe
from sandtrail.commands.verify import MaxAge, PolicyFile, parse_max_age, read_policy
from sandtrail.errors import UsageError

if TYPE_CHECKING:
    from sandtrail.cluster.verify import ClusterReport

__all__ = ["register"]

app = typer.Typer(no_args_is_help=True, help="Keep the log of a cluster: its nodes, and what each has signed.")

Origin = Annotated[str, typer.Option(help="The log's name, DOMAIN/CLUSTER; it stays that of the first start.")]


def register(root: typer.Typer) -> None:
    """Add `cluster` and what is below it, and `notary`."""
    root.add_typer(app, name="cluster")
    root.command(name="notary")(run_notary)


def _folder(home: Path | None) -> Path:
    return home_folder(home) / "cluster"


@app.command()
def serve(
    home: Home = None,
    origin: Origin = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8703,
    silence: Annotated[float, typer.Option(help="After how many seconds a node counts as silent.")] = 300.0,
    pause: Annotated[float, typer.Option(help="Seconds that must pass between two checkpoints of a node.")] = 1.0,
    policy: Annotated[Path | None, typer.Option(help="Which witnesses cosign the cluster's own log.")] = None,
    every: Annotated[float, typer.Option(help="After how many seconds they are asked again.")] = 60.0,
) -> None:
    """Take the nodes' checkpoints and serve the log until Ctrl-C."""
    import threading

    from sandtrail.cluster.log import ClusterLog
    from sandtrail.cluster.server import ClusterServer
    from sandtrail.logs import log_as_json
    from sandtrail.store.policy import load_policy
    from sandtrail.witness.http import serve as run
    from sandtrail.witness.notary import Notary
    from sandtrail.witness.protocol import MAX_BODY

    log_as_json()
    if policy is not None:
        load_policy(policy)  # a mistake in it is told at once
    log = ClusterLog(_folder(home), origin, silence, pause)
    server = ClusterServer(log)
    stopped = threading.Event()
    helpers = [threading.Thread(target=server.watch, args=(stopped,), name="silence")]
    if policy is not None:
        notary = Notary(log.home, policy=policy.absolute())
        helpers.append(threading.Thread(target=notary.run, args=(every, stopped.wait), name="notary"))

    def ready(address: str) -> None:
        print(log.verifier.vkey)
        for cosigner in log.cosigners:
            print(cosigner.verifier.vkey)
        print(address, flush=True)

    for helper in helpers:
        helper.start()
    try:
        run(server.handle, host, port, max_body=MAX_BODY, ready=ready)
    finally:
        stopped.set()
        for helper in helpers:
            helper.join()


@app.command(name="key")
def print_keys(home: Home = None) -> None:
    """Print the log's verifier key, for those who verify it, and the keys that cosign, for the nodes' policies."""
    from sandtrail.store.keys import load_verifier
    from sandtrail.witness.folder import WitnessFolder

    print(load_verifier(_folder(home)).vkey)
    for vkey in WitnessFolder(_folder(home) / "witness").vkeys():
        print(vkey)


@app.command(name="register")
def register_node(
    vkeys: Annotated[list[str], typer.Argument(metavar="VKEY...", help="What `sandtrail key` prints on the node.")],
    home: Home = None,
    origin: Origin = "",
) -> None:
    """Expect a node's checkpoints from now on: its log cannot vanish unnoticed any more."""
    from sandtrail.cluster.log import ClusterLog

    node = ClusterLog(_folder(home), origin).register(vkeys)
    print(f"registered {ascii(node.origin)[1:-1]}")


@app.command()
def retire(
    node: Annotated[str, typer.Argument(metavar="ORIGIN", help="The name of the node's log.")], home: Home = None
) -> None:
    """Expect nothing more from a node. What it has signed stays in the log."""
    from sandtrail.cluster.log import ClusterLog

    ClusterLog(_folder(home)).retire(node)
    print(f"retired {ascii(node)[1:-1]}")


@app.command()
def verify(
    home: Home = None,
    url: Annotated[str, typer.Option(help="A cluster's log that is served elsewhere; it is copied first.")] = "",
    key: Annotated[str | None, typer.Option(help="The verifier key of the cluster's log, from elsewhere.")] = None,
    head: Annotated[Path | None, typer.Option(help="A remembered head to compare with.")] = None,
    policy: PolicyFile = None,
    max_age: MaxAge = "",
    silence: Annotated[float, typer.Option(help="Seconds without news that make a node silent; 0: any.")] = 0.0,
    node: Annotated[list[Path] | None, typer.Option(help="The store (--home) of a node.")] = None,
    checkpoint: Annotated[list[Path] | None, typer.Option(help="Only the checkpoint of a node's log.")] = None,
    as_json: Json = False,
) -> None:
    """Check the cluster's log and, where they are given, every node's log against it.

    Exit status: 0 verified, 1 something is damaged, missing, silent or contradicts itself, 2 could not check.
    """
    from hashlib import sha256

    from sandtrail.cluster.mirror import mirror
    from sandtrail.cluster.verify import verify_cluster
    from sandtrail.store.heads import remember_head
    from sandtrail.store.note import Verifier

    if max_age and policy is None:
        raise UsageError("--max-age is about cosignatures: name the witnesses with --policy FILE")
    folder = _folder(home)
    if url:
        if key is None:
            raise UsageError("a log that is served elsewhere is judged by a key from somewhere else still: --key VKEY")
        folder = home_folder(home) / "mirrors" / sha256(url.encode()).hexdigest()[:16]
        mirror(url, folder, Verifier.parse(key))
    report = verify_cluster(
        folder,
        key=key,
        head=head,
        policy=read_policy(policy),
        max_age=parse_max_age(max_age),
        silence=silence or None,
        homes=[path.absolute() for path in node or []],
        checkpoints=[path.absolute() for path in checkpoint or []],
    )
    if report.ok:
        remember_head(folder, report.note)
    raise typer.Exit(print_report(report, _facts(report), as_json=as_json))


def _facts(report: ClusterReport) -> Iterator[str]:
    for origin, facts in report.nodes.items():
        retired = ", retired" if facts["retired"] else ""
        yield f"node      {safe(origin)}: {facts['size']} entries, {facts['checkpoints']} checkpoints{retired}"


def run_notary(home: Home = None) -> None:
    """Ask the witnesses and time authorities of the settings until Ctrl-C, for a log that no recorder looks after."""
    from sandtrail.witness.notary import main

    raise typer.Exit(main(["--home", str(home_folder(home))]))
