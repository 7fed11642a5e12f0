"""What every client does with the model's tool call. Runs inside of the sandbox; imports nothing of Sandtrail."""

from __future__ import annotations

import json
import subprocess

TASK = "Which files are there?"
SYSTEM = "You run commands."
TOOL_NAME = "bash"
PARAMETERS = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
DESCRIPTION = "Runs a shell command."


def run(command: str) -> str:
    """Run a command; what it printed and how it ended."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    return f"exit code: {done.returncode}\n{done.stdout}{done.stderr}"


def run_json(arguments: str) -> str:
    """The same for arguments as the model wrote them."""
    return run(json.loads(arguments)["command"])
