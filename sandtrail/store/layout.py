"""Where things are under `SANDTRAIL_HOME`, and the few file operations that everything durable is made of."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Layout",
    "is_folder",
    "is_temporary",
    "listed",
    "present",
    "publish",
    "shred",
    "sweep",
    "sync_file",
    "sync_folder",
]


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one node's store."""

    home: Path

    @property
    def spool(self) -> Path:
        """Frames that no segment holds yet."""
        return self.home / "spool"

    @property
    def segments(self) -> Path:
        """The segments' blobs."""
        return self.home / "segments"

    @property
    def log(self) -> Path:
        """Tiles, entry bundles and the checkpoint."""
        return self.home / "log"

    @property
    def checkpoint(self) -> Path:
        """The log's signed head."""
        return self.log / "checkpoint"

    @property
    def damaged(self) -> Path:
        """Bytes of a spool that were no record, kept as they were."""
        return self.home / "damaged"

    @property
    def keys(self) -> Path:
        """The log's key and its public half."""
        return self.home / "keys"

    @property
    def epochs(self) -> Path:
        """The private keys of the current epoch and, in the middle of a change, of the next."""
        return self.keys / "epochs"

    @property
    def data_keys(self) -> Path:
        """The keys under which payloads are stored."""
        return self.keys / "data"

    @property
    def acts(self) -> Path:
        """Orders to the one who writes the log."""
        return self.home / "acts"

    @property
    def witnessed(self) -> Path:
        """Checkpoints that witnesses have cosigned."""
        return self.home / "witnessed"

    @property
    def vkey(self) -> Path:
        """The public halves: the log's identity and its first epoch."""
        return self.keys / "log.vkey"

    def segment(self, number: int) -> Path:
        """The blob of segment `number`; a thousand to a folder."""
        return self.segments / f"{number // 1000:06d}" / f"{number:09d}.seg"

    def make(self) -> Layout:
        """Create the folders (mode 0700) that do not exist yet; durable when it returns."""
        for folder in (
            self.home,
            self.spool,
            self.segments,
            self.log,
            self.keys,
            self.epochs,
            self.data_keys,
            self.acts,
        ):
            _make_folder(folder)
        return self

    def settle(self) -> None:
        """Make durable every name that a killed predecessor has left; for the one who writes the log, at its start.

        It may have died between a rename and the fsync behind it. Whoever goes on builds upon what is found, and
        removes what that replaces: so it must not be something that a power cut still takes away.
        """
        for folder in (self.home, self.spool, self.segments, *listed(self.segments)[-1:], self.damaged, self.acts):
            if present(folder):
                sync_folder(folder)
        for top in (self.keys, self.log):
            for path, _, _ in os.walk(top, onerror=_refuse):
                sync_folder(Path(path))


def publish(path: Path, data: bytes, *, mode: int = 0o600, new: bool = False) -> None:
    """Put `data` at `path` so that a reader or a crash sees the old file or the new one, whole.

    `new`: only where nothing is yet; else FileExistsError, and what is there stays as it is.
    Durable when it returns: the file's bytes and its name are on disk. After an error nobody knows which of the two is
    there, or what the disk holds of it: the caller must not go on, and must not sync again as if that told (Rebello
    et al., "Can Applications Recover from fsync Failures?", ATC 2020); whoever comes next writes the file anew. Killed
    in the middle it leaves a temporary file, see `is_temporary`. Raises OSError as the disk does.
    """
    folder = path.parent
    _make_folder(folder)
    temporary = folder / f".{path.name}.{threading.get_native_id()}.tmp"  # the process's own id in its first thread
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if new:
            os.link(temporary, path)
            with contextlib.suppress(OSError):  # the file is there; a second name of it is left to `sweep`
                temporary.unlink()
        else:
            temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(folder)


def shred(path: Path) -> None:
    """Overwrite a small file and remove it; its name is gone from the disk when this returns.

    What a journal, a copy-on-write file system or the flash below has kept of it is beyond our reach. No error where
    there is no such file.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(fd, bytes(os.fstat(fd).st_size))
        os.fsync(fd)
    finally:
        os.close(fd)
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def present(path: Path) -> bool:
    """Whether there is such a file or folder. Raises OSError where the disk does not say.

    `Path.exists` answers no to that, and whoever asks may go on to make a new one: a key, say, over the old one.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def is_folder(path: Path) -> bool:
    """Whether there is such a folder. Raises OSError where the disk does not say; `Path.is_dir` then answers no."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def listed(folder: Path, suffix: str = "", *, hidden: bool = False) -> list[Path]:
    """The paths in `folder` (none if it does not exist) that end in `suffix`, sorted; hidden ones only if asked for.

    Raises OSError where the disk does not say; `Path.glob` leaves out what it cannot read.
    """
    try:
        found = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in found if path.name.endswith(suffix) and (hidden or not path.name.startswith("."))]


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def is_temporary(path: Path) -> bool:
    """Whether `publish` may have left this file when it was killed; nobody ever reads such a file."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def sweep(folder: Path) -> None:
    """Remove what a killed `publish` has left in `folder`. Only for the one who alone publishes there."""
    for path in filter(is_temporary, listed(folder, ".tmp", hidden=True)):
        path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if is_folder(folder):
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Make the bytes of a file and its name durable."""
    _sync(path, os.O_NOFOLLOW)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    _sync(folder, os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
