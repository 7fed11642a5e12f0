"""What a bench hands back: a table for people, figures for programs, and the targets with how they were met."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Figures", "Outcome", "Target", "machine", "number", "rotated", "show"]

Figures = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A promise and what was measured; `sign` is ">=" or "<=". Nothing real is above `possible`: a value that is was
    measured while the machine did something else, and keeps no promise."""

    what: str
    value: float
    sign: str
    limit: float
    form: str = ",.3g"
    possible: float = inf

    @property
    def met(self) -> bool:
        """Whether it is kept."""
        if self.value > self.possible:
            return False
        return self.value >= self.limit if self.sign == ">=" else self.value <= self.limit

    def __str__(self) -> str:
        text = f"{self.what}: {self.value:{self.form}} ({self.sign} {self.limit:{self.form}})"
        busy = "; faster than its floor, which cannot be: the machine was busy, measure again"
        return text + busy if self.value > self.possible else text


@dataclass
class Outcome:
    """One bench's result. `problems` are what makes it no result: something was lost, or a part is missing."""

    table: Table
    figures: Figures
    targets: list[Target] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> Figures:
        """The figures with the targets beside them."""
        targets = [
            {key: value for key, value in vars(target).items() if value != inf} | {"met": target.met}
            for target in self.targets
        ]
        return {**self.figures, "targets": targets, "problems": self.problems}


def show(outcome: Outcome, console: Console) -> None:
    """Print table, targets and problems."""
    console.print(outcome.table)
    for target in outcome.targets:
        style, mark = ("green", "✓") if target.met else ("bold red", "✗")
        console.print(Text(f"{mark} {target}", style=style))
    for problem in outcome.problems:
        console.print(Text(problem, style="red"))


def rotated(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Per round the names in another order: what grows or decays over a round then meets each of them in turn."""
    for turn in range(rounds):
        at = turn % len(names)
        yield [*names[at:], *names[:at]]


def machine() -> Figures:
    """What the figures were measured on."""
    model = ""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:  # noqa: PTH123  # a stream of lines
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {"kernel": platform.release(), "cpus": os.cpu_count(), "cpu": model, "python": platform.python_version()}


def number(value: float | None, form: str) -> str:
    """A figure for a cell; an empty one where there is none."""
    return "" if value is None else format(value, form)
