"""The front door: the `sandtrail` command. Wiring only; each command hands over to the room that does the work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sandtrail import __version__
from sandtrail.commands import REGISTER, disk
from sandtrail.commands.options import Home, Json, home_folder, print_json
from sandtrail.errors import SandtrailError, UsageError
from sandtrail.settings import load_settings, settings_files

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Records what an AI agent does in its sandbox, from outside of it, and proves the record.",
)
for register in REGISTER:
    register(app)


@app.command(context_settings={"ignore_unknown_options": False})
def record(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARGUMENT]...", help="What to run and record.")],
    home: Home = None,
    name: Annotated[str, typer.Option(help="The session's id; default: a new one.")] = "",
    rootfs: Annotated[Path | None, typer.Option(help="A root filesystem; default: this system's folders.")] = None,
    mount: Annotated[list[str] | None, typer.Option(help="SRC:DST[:ro|rw], read-only by default.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, or NAME for this process's own value.")] = None,
    workdir: Annotated[str, typer.Option(help="The command's working folder.")] = "",
    user: Annotated[str, typer.Option(help="UID[:GID] inside of the sandbox.")] = "",
    upstream: Annotated[
        list[str] | None, typer.Option(help="HOST=URL: where the gateway sends that host's calls.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help=r"'[METHOD ]HOST\[/PATH]', globs: what the gateway lets through; default all."),
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(help="The same: what the gateway refuses; wins over --allow.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=env:VARIABLE@HOST",
            help="The sandbox's variable NAME holds a placeholder, the gateway puts the value in its place on the way "
            "to HOST[,HOST] (globs). NAME=file:/PATH@HOST reads it from a file.",
        ),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="A file with rules, upstreams and secrets; see docs/gateway.md.")
    ] = None,
    on_record_failure: Annotated[
        str, typer.Option(help="When traffic cannot be recorded: stop it, or pass it and record the gap; default stop.")
    ] = "",
    egress: Annotated[
        str, typer.Option(help="What reaches the gateway: proxy, transparent or transparent-all; see docs/egress.md.")
    ] = "proxy",
    memory: Annotated[str, typer.Option(help="A limit, for example 2G.")] = "",
    runsc: Annotated[str, typer.Option(help="The runsc to use; default: PATH, then what `make runsc` built.")] = "",
    platform: Annotated[str, typer.Option(help="Force gVisor's platform.")] = "",
    network: Annotated[str, typer.Option(help="Force gVisor's network mode.")] = "",
    profile: Annotated[str, typer.Option(help="Which trace points: default or full.")] = "default",
    record_env: Annotated[
        bool, typer.Option(help="Also record environment variables; they often hold secrets.")
    ] = False,
    record_stdio: Annotated[
        bool, typer.Option(help="Also record what the command reads and writes on stdin, stdout and stderr, as pipes.")
    ] = False,
    claims: Annotated[
        bool, typer.Option(help="Take the agent's own telemetry (OTLP), and tell it where to send it.")
    ] = True,
    timeline: Annotated[bool, typer.Option(help="Print the timeline at the end.")] = True,
    quiet: Annotated[bool, typer.Option(help="Leave out our own lines on stderr.")] = False,
) -> None:
    """Run a command in a fresh gVisor sandbox, record it from outside, print its timeline, pass on its exit status."""
    from sandtrail.collector.session.boundary import Boundary, parse_secret, read_policy
    from sandtrail.collector.session.options import (
        RecordOptions,
        keep_outside,
        parse_egress,
        parse_environment,
        parse_memory,
        parse_mount,
        parse_user,
    )
    from sandtrail.collector.session.record import record as run

    if profile not in ("default", "full"):
        raise UsageError(f"--profile {profile}: write default or full")
    parse_user(user)
    file = policy or load_settings().file("policy")
    mounts = tuple(map(parse_mount, mount or []))
    keep_outside(mounts, [*settings_files(), *([file] if file else [])], home_folder(home))
    boundary = (read_policy(file) if file else Boundary()).with_options(
        upstream=_upstreams(upstream or []),
        allow=allow or [],
        deny=deny or [],
        secrets=map(parse_secret, secret or []),
        on_failure=on_record_failure,
    )
    result = run(
        RecordOptions(
            home=home_folder(home),
            command=tuple(command),
            name=name,
            rootfs=rootfs,
            mounts=mounts,
            env=parse_environment(env or []),
            workdir=workdir,
            user=user,
            boundary=boundary,
            egress=parse_egress(egress),
            memory=parse_memory(memory) if memory else None,
            runsc=runsc,
            platform=platform,
            network=network,
            profile="full" if profile == "full" else "default",
            record_env=record_env,
            record_stdio=record_stdio,
            claims=claims,
            quiet=quiet,
        )
    )
    if timeline:
        _show_recorded(result.home, result.session)
    raise typer.Exit(result.exit_status)


@app.command()
def attach(
    container: Annotated[str, typer.Argument(help="The id of the sandbox's root container.")],
    root: Annotated[Path, typer.Option(help="runsc's state folder; containerd: /run/containerd/runsc/k8s.io.")],
    home: Home = None,
    name: Annotated[str, typer.Option(help="The session's id; default: a new one.")] = "",
    runsc: Annotated[str, typer.Option(help="The runsc that runs it.")] = "",
    force: Annotated[bool, typer.Option(help="Take the trace session away from another consumer.")] = False,
) -> None:
    """Record a sandbox that runs already, until it ends or Ctrl-C; what it did before stays unknown."""
    from sandtrail.collector.session.attach import AttachOptions
    from sandtrail.collector.session.attach import attach as run

    result = run(
        AttachOptions(home=home_folder(home), root=root, container=container, runsc=runsc, name=name, force=force)
    )
    _show_recorded(result.home, result.session)
    raise typer.Exit(result.exit_status)


@app.command(name="exec")
def execute(
    session: Annotated[str, typer.Argument(help="A session that is being recorded.")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARGUMENT]...", help="What to run in it.")],
    home: Home = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, or NAME for this process's own value.")] = None,
    workdir: Annotated[str, typer.Option(help="The command's working folder.")] = "",
    user: Annotated[str, typer.Option(help="UID[:GID] inside of the sandbox.")] = "",
    record_stdio: Annotated[
        bool, typer.Option("--record-stdio", help="Record what goes through the command's stdin, stdout and stderr.")
    ] = False,
) -> None:
    """Run a command inside a recorded sandbox; that it came from the operator is on the record."""
    from sandtrail.collector.session.inside import run_inside
    from sandtrail.collector.session.options import parse_environment

    given = parse_environment(env or [])
    told = {"workdir": workdir, "user": user}
    raise typer.Exit(run_inside(home_folder(home), session, command, env=given, record_stdio=record_stdio, **told))


@app.command()
def checkpoint(
    session: Annotated[str, typer.Argument(help="A session that is being recorded.")],
    folder: Annotated[Path, typer.Argument(help="Where the sandbox's state goes.")],
    home: Home = None,
    leave_running: Annotated[bool, typer.Option(help="Let the sandbox run on.")] = True,
) -> None:
    """Save a recorded sandbox whole, memory included; the act is on the record."""
    from sandtrail.collector.session.inside import checkpoint as run

    run(home_folder(home), session, folder, leave_running=leave_running)


def _upstreams(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        host, equals, url = item.partition("=")
        if not host or not equals or not url.startswith(("http://", "https://")):
            raise UsageError(f"--upstream {item}: write HOST=URL, for example api.openai.com=http://127.0.0.1:8080")
        found[host] = url
    return found


def _show_recorded(home: Path, session: str) -> None:
    """Print the timeline of a recording that has just ended, once all of it is signed."""
    from sandtrail.store.position import wait_sealed

    wait_sealed(home)
    _show_timeline(home, session, as_json=False)


@app.command()
def timeline(
    session: Annotated[str, typer.Argument(help="The session's id; default: the newest.")] = "",
    home: Home = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every event as CSV, for a spreadsheet.")] = False,
) -> None:
    """Print a session's timeline: input, decision and output of every turn."""
    if as_json and as_csv:
        raise UsageError("--json prints turns and --csv events: give one of them")
    if as_csv:
        from sandtrail.replay.timeline import read_events
        from sandtrail.replay.timeline_text import events_csv

        for piece in events_csv(read_events(home_folder(home), session)):
            sys.stdout.buffer.write(piece.encode())
    else:
        _show_timeline(home_folder(home), session, as_json=as_json)


def _show_timeline(home: Path, session: str, *, as_json: bool) -> None:
    from sandtrail.replay.timeline import read_timeline
    from sandtrail.replay.timeline_text import render

    found = read_timeline(home, session)
    if as_json:
        print_json(found)
    else:
        render(found, Console(soft_wrap=False, highlight=False))


@app.command()
def demo(
    serve: Annotated[bool, typer.Option(help="Then leave API and page up until Ctrl-C.")] = False,
    pace: Annotated[float, typer.Option(help="Seconds that the scripted model takes for an answer.")] = 1.0,
) -> None:
    """Record the demonstration: a public agent, a scripted model, an incident worth reviewing."""
    try:
        from deploy.demo.run import main as run
    except ModuleNotFoundError:
        raise UsageError(
            "the demonstration is part of a checkout, not of the package; run it there: make run"
        ) from None
    raise typer.Exit(run([*(["--serve"] if serve else []), f"--pace={pace}"]))


@app.command()
def up(home: Home = None) -> None:
    """Run the recorder, the HTTP API and the page until Ctrl-C."""
    from sandtrail.up import run_up

    raise typer.Exit(run_up(home_folder(home)))


@app.command()
def serve(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Follow the log and serve the HTTP API."""
    from sandtrail.replay.api import serve as run

    settings = load_settings()
    run(home_folder(home), host or settings.api_host, settings.api_port if port is None else port)


@app.command()
def ui(
    api_url: Annotated[str | None, typer.Option(help="Where the HTTP API is.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve the page."""
    from sandtrail.ui import launch

    settings = load_settings()
    url = api_url or settings.api_url or f"http://{settings.api_host}:{settings.api_port}"
    raise typer.Exit(launch(url, host or settings.ui_host, settings.ui_port if port is None else port))


@app.command(name="version")
def version() -> None:
    """Print the version, and whether hashing was compiled."""
    from sandtrail.store import native

    print(f"{__version__}\n{native.said}")


def main() -> None:
    """Run the command; an error of ours, or of the disk, is printed without a traceback and ends with status 2."""
    try:
        with disk.told():
            app(standalone_mode=True)
    except SandtrailError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]sandtrail:[/] {escape(str(error))}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _extra_for(error.name or "")
        if extra is None:
            raise
        print(
            f"sandtrail: this command needs more than is installed: pip install 'sandtrail[{extra}]'", file=sys.stderr
        )
        sys.exit(2)


def _extra_for(module: str) -> str | None:
    """The extra that brings a module, so that an installation without it says what to do."""
    extras = {
        "collector": {"mitmproxy"},
        "replay": {"fastapi", "uvicorn", "duckdb", "pyarrow", "sqlalchemy", "alembic", "google", "dns"},
        "ui": {"streamlit", "pandas"},
    }
    top = module.split(".")[0]
    return next((extra for extra, modules in extras.items() if top in modules), None)
