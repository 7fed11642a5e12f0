"""What a power cut may leave on a disk: everything that an fsync has covered, and any part of the rest.

The model is that of Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014), at its weakest:

- the bytes of a file are on the disk once it was fsynced; later writes are there whole, in part, or not at all, and
  where a later page is there and an earlier one is not, the earlier one reads as zeros;
- a name is on the disk (or gone from it) once its folder was fsynced; until then each name of a folder is any of
  those things that it has been since, whatever became of other names; a rename may leave both names, but one of them;
- an fsync of a file says nothing of its name, and one of a folder nothing of the folder's own name.

Not modelled: a disk that says that it has written what it has not, sectors that are torn within themselves or rot.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.store.faults_os import Op


class _File:
    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[Op] = []

    def synced(self) -> None:
        self.durable, self.pending = _applied(self.durable, self.pending), []

    def left(self, chance: random.Random, keep: float) -> bytes:
        """What the disk has: a part of what is pending, chosen at random; `keep` is how much of it."""
        survive = [op for op in self.pending if chance.random() < keep]
        if not survive:
            return self.durable
        last = survive[-1]
        # A sector is written whole, so only what grows the file can be torn.
        if last.name != "truncate" and last.at >= len(self.durable):
            survive[-1] = last._replace(data=last.data[: chance.choice((1, 63, 70, len(last.data)))])
        return _applied(self.durable, survive)


def _applied(data: bytes, ops: Sequence[Op]) -> bytes:
    content = bytearray(data)
    for op in ops:
        if op.name == "truncate":
            del content[op.at :]
        else:
            content.extend(bytes(max(0, op.at - len(content))))
            content[op.at : op.at + len(op.data)] = op.data
    return bytes(content)


class _Folder:
    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        # Of each name that has changed since the last fsync, what it was: a node, or 0 for nothing.
        self.was: dict[str, list[int]] = {}
        self.moved: list[tuple[str, str, int]] = []

    def synced(self) -> None:
        self.was.clear()
        self.moved.clear()

    def put(self, name: str, node: int) -> None:
        self.was.setdefault(name, [self.names.get(name, 0)])
        self.was[name].append(node)
        if node:
            self.names[name] = node
        else:
            self.names.pop(name, None)

    def left(self, chance: random.Random, keep: float) -> dict[str, int]:
        names = dict(self.names)
        for name, was in self.was.items():
            names[name] = was[-1] if chance.random() < keep else chance.choice(was[:-1]) if keep else was[0]
        for old, new, node in self.moved:
            was = self.was[new]
            if was.index(names[new]) < was.index(node) and not names.get(old):
                names[old] = node
        return {name: node for name, node in names.items() if node}


class Disk:
    """A disk that has been through some calls. The home itself (".") is there from the first moment on."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {0: _Folder()}
        self._paths: dict[str, int] = {".": 0}
        for op in ops:
            self._apply(op)

    def _folder(self, path: str) -> tuple[_Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._folders[self._paths[parent or "."]], name

    def _apply(self, op: Op) -> None:
        match op.name:
            case "create":
                self._files[op.node] = _File()
                self._name(op.path, op.node)
            case "mkdir" if op.path != ".":
                self._folders[op.node] = _Folder()
                self._paths[op.path] = op.node
                self._name(op.path, op.node)
            case "write" | "pwrite" | "truncate":
                self._files[op.node].pending.append(op)
            case "fsync":
                self._files[op.node].synced()
            case "fsync folder":
                self._folders[self._paths[op.path]].synced()
            case "rename":
                self._name(op.to, op.node)
                self._name(op.path, 0)
                folder, old = self._folder(op.path)
                folder.moved.append((old, op.to.rpartition("/")[2], op.node))
            case "link":
                self._name(op.to, op.node)
            case "unlink" | "rmdir":
                self._name(op.path, 0)

    def _name(self, path: str, node: int) -> None:
        folder, name = self._folder(path)
        folder.put(name, node)

    def shows(self, path: str) -> bytes | None:
        """What a process sees at `path` while the power is still on."""
        folder, name = self._folder(path) if path.rpartition("/")[0] in self._paths else (_Folder(), path)
        file = self._files.get(folder.names.get(name, 0))
        return None if file is None else _applied(file.durable, file.pending)

    def leave(self, folder: Path, chance: random.Random, *, names: float, data: float) -> None:
        """Write what a power cut leaves into an empty folder; `names`, `data`: how much survives that need not."""
        self._leave(folder, 0, chance, names, data)

    def _leave(self, folder: Path, node: int, chance: random.Random, names: float, data: float) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, child in self._folders[node].left(chance, names).items():
            if child in self._folders:
                self._leave(folder / name, child, chance, names, data)
            else:
                path = folder / name
                path.write_bytes(self._files[child].left(chance, data))
                path.chmod(0o600)
