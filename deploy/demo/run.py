"""Runs the demonstration: scripted servers up, the agent recorded as any user would record it, its timeline printed.

`sandtrail demo` calls `main`; `record` is what the tests use too. With `SANDTRAIL_DEMO_MODEL=https://…/v1` the agent
talks to that model instead of the scripted one (`SANDTRAIL_DEMO_KEY` is its key, `SANDTRAIL_DEMO_MODEL_NAME` its name):
then nothing is known beforehand, and the story is the model's own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deploy.demo import agent, scene, story
from deploy.demo.scripted_model import ScriptedModel
from deploy.demo.scripted_web import ScriptedWeb
from sandtrail.errors import UsageError

PACE_S = 1.0
"""What the scripted model takes for an answer. It gives the process that setup.sh leaves behind the time to act: it
waits a second, and three more answers follow the turn that started it."""


def sandtrail(*arguments: str) -> list[str]:
    """The command line of our own front door, run by this interpreter."""
    return [sys.executable, "-m", "sandtrail", *arguments]


@contextmanager
def _served(server: ScriptedModel | ScriptedWeb) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    with server:
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def _model(stack: ExitStack, pace_s: float) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """The model's name and host, the variables that tell of it, and the names that the gateway sends elsewhere."""
    base = os.environ.get("SANDTRAIL_DEMO_MODEL", "")
    if not base:
        url = stack.enter_context(_served(ScriptedModel(pace_s=pace_s)))
        return story.MODEL, story.MODEL_HOST, {"OPENAI_API_KEY": "sk-demo-0000"}, {story.MODEL_HOST: url}
    if urlsplit(base).scheme not in ("https", "http") or not os.environ.get("SANDTRAIL_DEMO_KEY"):
        raise UsageError(
            "SANDTRAIL_DEMO_MODEL is the base address of an OpenAI-compatible API (https://host/v1) and needs its key "
            "in SANDTRAIL_DEMO_KEY"
        )
    name = os.environ.get("SANDTRAIL_DEMO_MODEL_NAME", "gpt-5-mini")
    parts = urlsplit(base)
    # A key goes out over plain HTTP only where the operator has named the address.
    upstreams = {} if parts.scheme == "https" else {parts.hostname or "": f"http://{parts.netloc}"}
    key = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": os.environ["SANDTRAIL_DEMO_KEY"]}
    return name, parts.hostname or "", key, upstreams


@contextmanager
def stage(pace_s: float = PACE_S) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Everything that the recording needs, while it runs: yields the arguments of `sandtrail record` and an environment
    for it, which holds the model's key so that no command line does."""
    installed = agent.install()
    with ExitStack() as stack:
        web = stack.enter_context(_served(ScriptedWeb()))
        model, host, surroundings, upstreams = _model(stack, pace_s)
        upstreams[story.DOCS_HOST] = web
        if story.MODEL_HOST in upstreams:
            # The price list is answered from here too: a scripted demonstration talks to nobody outside.
            upstreams[story.PRICES_HOST] = web
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandtrail-demo-"))
        built = scene.build(Path(folder))
        environment = {
            "PATH": f"{installed.venv}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": story.HOME,
            "LANG": "C.UTF-8",
            "MSWEA_CONFIGURED": "true",  # no questions at the first start
            "MSWEA_COST_TRACKING": "ignore_errors",  # nobody knows what a scripted model costs
            "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "2",
        }
        arguments = [
            *(f"--mount={path}:{path}:ro" for path in installed.folders()),
            *(f"--mount={path}:{place}:rw" for path, place in built.mounts()),
            *(f"--env={name}={value}" for name, value in environment.items()),
            *(f"--env={name}" for name in surroundings if name != "OPENAI_API_KEY"),
            f"--secret=OPENAI_API_KEY@{host}",
            *(f"--upstream={host}={url}" for host, url in upstreams.items()),
            f"--workdir={story.WORKSPACE}",
        ]
        task = ["--yolo", "--exit-immediately", "--cost-limit=0", f"--model=openai/{model}", f"--task={story.TASK}"]
        yield [*arguments, "--", str(installed.program(agent.COMMAND)), *task], surroundings


def record(*options: str, environment: Mapping[str, str] | None = None, pace_s: float = PACE_S) -> int:
    """Record the demonstration once, on the caller's terminal; `options` go to `sandtrail record` before its own.

    Returns its exit status. From the main thread only: Ctrl-C and SIGTERM are left to the recorder, which ends the
    agent and cleans up, while the scripted servers stay up for it.
    """
    with stage(pace_s) as (arguments, more):
        surroundings = {**(os.environ if environment is None else environment), **more}
        command = sandtrail("record", *options, *arguments)
        with subprocess.Popen(command, env=surroundings, stdin=subprocess.DEVNULL) as recorder, _left_to(recorder):
            return recorder.wait()


@contextmanager
def _left_to(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """A terminal sends Ctrl-C to both of us, so it is not passed on; SIGTERM comes to this process alone."""
    handlers = {signal.SIGINT: lambda *_: None, signal.SIGTERM: lambda *_: child.terminate()}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: list[str]) -> int:
    """`sandtrail demo [--serve]`: the exit status of the recorded agent, or of what failed before it.

    With `--serve`, and if the agent ended well, this process becomes `sandtrail up` and stays until Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="sandtrail demo", description="Record the demonstration and show it.")
    parser.add_argument("--serve", action="store_true", help="then leave the API and the page up until Ctrl-C")
    parser.add_argument(
        "--pace", type=float, default=PACE_S, help="seconds that the scripted model takes for an answer"
    )
    given = parser.parse_args(argv)
    status = record(pace_s=given.pace)
    if status == 0 and given.serve:
        sys.stdout.flush()
        command = sandtrail("up")
        os.execv(command[0], command)
    return status
