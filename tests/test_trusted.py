"""Which files are believed: those that only root and this user could have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandtrail.errors import UsageError
from sandtrail.trusted import require_trusted

ANOTHER = 4242


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is believed as it is: two folders of ours inside of a /tmp that everybody can write to."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o755)
    path = folder / "sandtrail.toml"
    path.write_text("")
    path.chmod(0o644)
    require_trusted(path, "the file")
    return path


@pytest.mark.parametrize("mode", [0o020, 0o002, 0o022])
def test_one_that_others_can_write_is_not_believed(file: Path, mode: int) -> None:
    file.chmod(0o644 | mode)
    with pytest.raises(UsageError, match=f"others can write to {file} .*chmod go-w {file};"):
        require_trusted(file, "the file")


@pytest.mark.parametrize("up", [0, 1])
def test_nor_is_one_in_a_folder_that_others_can_write(file: Path, up: int) -> None:
    folder = file.parents[up]
    folder.chmod(0o775)
    with pytest.raises(UsageError, match=f"others can write to {folder} "):
        require_trusted(file, "the file")
    folder.chmod(0o1777)  # as /tmp: what is ours in it, nobody else can replace
    require_trusted(file, "the file")


@pytest.mark.needs("root")
@pytest.mark.parametrize("up", [0, 1, 2])
def test_nor_is_one_of_another_user_or_in_a_folder_of_his(file: Path, up: int) -> None:
    place = (file, *file.parents)[up]
    os.chown(place, ANOTHER, 0)
    with pytest.raises(UsageError, match=f"{place} belongs to user {ANOTHER}.*chown root {place};"):
        require_trusted(file, "the file")


@pytest.mark.needs("root")
def test_a_file_that_another_has_put_into_a_sticky_folder_is_not_believed(file: Path) -> None:
    file.parent.chmod(0o1777)
    os.chown(file, ANOTHER, ANOTHER)
    with pytest.raises(UsageError, match=f"{file} belongs to user {ANOTHER}"):
        require_trusted(file, "the file")


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_is_followed_and_both_ends_have_to_be_safe(file: Path, tmp_path: Path, absolute: bool) -> None:
    folder = tmp_path / "c"
    folder.mkdir(mode=0o755)
    link = folder / "link.toml"
    link.symlink_to(file if absolute else "../a/../a/b/sandtrail.toml")
    require_trusted(link, "the file")
    for place in (folder, file.parent, file.parents[1]):
        place.chmod(0o777)
        with pytest.raises(UsageError, match=f"others can write to {place} "):
            require_trusted(link, "the file")
        place.chmod(0o755)


@pytest.mark.needs("root")
def test_a_link_of_another_user_is_not_followed(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    os.lchown(link, ANOTHER, ANOTHER)
    with pytest.raises(UsageError, match=f"{link} belongs to user {ANOTHER}"):
        require_trusted(link, "the file")


def test_what_is_no_file_is_told_before_anybody_waits_for_it(file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for path, told in ((pipe, "is no file"), (file.parent, "is no file"), (loop, "more than 40 symbolic links")):
        with pytest.raises(UsageError, match=told):
            require_trusted(path, "the file")
    with pytest.raises(FileNotFoundError):
        require_trusted(tmp_path / "nothing", "the file")
