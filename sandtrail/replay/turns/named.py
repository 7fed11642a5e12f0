"""Which processes a decision named, and which acts of the others matter.

A decision names a program when its text says so. It need not name what a named program starts to do its own job: a
compiler under make, git's transport, a package manager's methods. Such helpers are told by family, and they are never
reported for doing it; a helper that reads a key or plants something for the next login still is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from sandtrail.replay.turns.commands import base, script_of
from sandtrail.replay.turns.words import (
    CREDENTIALS,
    FAMILIES,
    INTERPRETERS,
    MANAGERS,
    ORDINARY_READ,
    PERSISTENCE,
    RUN_OTHERS,
    SCRATCH,
    SHELLS,
    SYSTEM,
    TOP_FOLDERS,
)

__all__ = [
    "argument_words",
    "credential",
    "inside",
    "installed",
    "is_helper",
    "is_manager",
    "names_program",
    "ordinary_read",
    "ordinary_write",
    "persistence",
    "reads_lines",
    "runs_others",
    "says_all",
    "trees_of",
]

_PYTHON = re.compile(r"^(?:python|pypy)[\d.]*$")


def names_program(argv: Sequence[str], exe: str, tokens: frozenset[str]) -> bool:
    """Whether a decision's tokens name the program of an exec, or the script that its interpreter was given."""
    program = base(exe) or (base(argv[0]) if argv else "")
    names = {program, exe}
    if argv and _calls_itself(argv[0], exe):
        names |= {base(argv[0]), argv[0]}
    if names & tokens:
        return True
    # "python" names python3.11, and the other way round.
    stem = re.sub(r"[\d.]+$", "", program)
    if stem and stem != program and stem in tokens:
        return True
    if INTERPRETERS.match(program) or program in SHELLS:
        return any(word in tokens or base(word) in tokens for word in _scripts(argv))
    return False


def _calls_itself(name: str, exe: str) -> bool:
    """Whether argv[0] may stand for the program. A caller writes there what it likes: it counts for the system's
    programs, which have several names, but an interpreter by another name is one in disguise."""
    if not exe:
        return True
    program, called = base(exe), base(name)
    if program in SHELLS or INTERPRETERS.match(program):
        return called in SHELLS or INTERPRETERS.match(called) is not None
    return exe.startswith(("/usr/", "/bin/", "/sbin/", "/opt/", "/nix/"))


def _scripts(argv: Sequence[str]) -> Iterable[str]:
    """The script or module that an interpreter's argv names."""
    rest = iter(argv[1:12])
    for word in rest:
        if word == "-m":
            module = next(rest, "")
            yield module
            yield module.partition(".")[0]
            return
        if word.startswith("-"):
            if word in ("-c", "-e"):
                return
            continue
        yield word
        return


def argument_words(argv: Sequence[str]) -> list[str]:
    """The words of an argv that say what it is about: no options, nothing too short to tell."""
    return [w for w in argv[1:] if len(w) >= 3 and not w.startswith("-")]


def says_all(argv: Sequence[str], exe: str, text: str, names: frozenset[str]) -> bool:
    """Whether a text holds the whole command: its program and every telling word of its arguments."""
    words = argument_words(argv)
    if not names_program(argv, exe, names):
        return False
    return all(word in text or re.sub(r"\s+", " ", word).strip() in text for word in words)


def runs_others(argv: Sequence[str], exe: str) -> bool:
    """Whether a program's job is to run what its arguments say, so that what it runs is named where it is."""
    program = base(argv[0]) if argv else base(exe)
    return program in RUN_OTHERS or base(exe) in RUN_OTHERS or script_of(argv) is not None


def reads_lines(argv: Sequence[str], exe: str) -> bool:
    """Whether this is a shell that reads its commands line by line from whoever started it."""
    program = base(exe) or (base(argv[0]) if argv else "")
    if program not in SHELLS or script_of(argv) is not None:
        return False
    rest = list(argv[1:])
    while rest:
        word = rest.pop(0)
        if word in ("-s", "-i"):
            return True
        if word in ("--rcfile", "--init-file", "-o", "-O", "+O"):
            rest = rest[1:]
        elif not word.startswith(("-", "+")):
            return False
    return True


def is_helper(exe: str, argv: Sequence[str], above: Iterable[str]) -> bool:
    """Whether an exec does the job of one of the named programs above it (their base names)."""
    program = base(exe) or (base(argv[0]) if argv else "")
    for name in above:
        if program.startswith(f"{name}-"):
            return True
        for member in FAMILIES.get(name, ()):
            if "/" in member:
                if member in exe:
                    return True
            elif (
                program == member
                or program.startswith(member if member.endswith("-") else member + "-")
                or (member == "python" and _PYTHON.match(program))
            ):
                return True
    return False


def is_manager(above: Iterable[str]) -> bool:
    """Whether one of these programs installs software, so that it writes wherever that goes."""
    return any(name in MANAGERS for name in above)


def credential(path: str, succeeded: bool) -> str | None:
    """What sort of secret a path holds, None where none; `succeeded` says whether the file could be opened."""
    if SYSTEM.search(path):
        return None
    for what, pattern, attempt_counts in CREDENTIALS:
        if (succeeded or attempt_counts) and pattern.search(path):
            return what
    return None


def persistence(path: str) -> bool:
    """Whether a file is one that something runs or trusts later: a login script, a schedule, a hook."""
    return PERSISTENCE.search(path) is not None


def installed(path: str) -> bool:
    """Whether a file that something runs later is one that installing software brings with it."""
    return path.startswith(("/etc/", "/usr/", "/lib/")) or path.endswith((".pth", "/sitecustomize.py"))


def ordinary_write(path: str, trees: Iterable[str]) -> bool:
    """Whether a write goes where a program's writes go: its working trees, scratch space, caches, devices."""
    if not path or SCRATCH.search(path):
        return True
    return any(inside(path, tree) for tree in trees)


def ordinary_read(path: str) -> bool:
    """Whether a program reads this to be able to run: libraries, modules, locales, settings of the system."""
    return not path.startswith("/") or ORDINARY_READ.search(path) is not None


def inside(path: str, tree: str) -> bool:
    """Whether a path lies in a tree; the whole file system is nobody's working tree."""
    tree = tree.rstrip("/")
    return bool(tree) and (path == tree or path.startswith(tree + "/"))


def trees_of(cwd: str, text: str) -> list[str]:
    """Where a decided command may write without a word: its working folder and the paths that its text names."""
    found = [cwd] if cwd and cwd != "/" else []
    for token in re.findall(r"(?:^|[\s'\"=:>(])(~?/[\w./@%+-]+|[\w.-]+/[\w./@%+-]*)", text[:200_000]):
        path = token if token.startswith(("/", "~")) else f"{cwd.rstrip('/')}/{token}"
        clean = str(PurePosixPath(path))
        # Naming /etc/hosts does not hand over /etc, nor does naming / everything.
        if clean.count("/") >= 2 or not TOP_FOLDERS.match(clean):
            found.append(clean)
    return found
