"""The catalog's schema: each step up and down, on SQLite and on PostgreSQL, and no drift from the code."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, select, text

import sandtrail.migrations
from sandtrail.errors import StoreError
from sandtrail.replay.follow import Follower
from sandtrail.replay.index.catalog import alembic_config, open_catalog
from sandtrail.replay.index.tables import REVISION, cursor, metadata
from tests.replay.index.recording import follow, indexed, unindexed

TABLES = {
    "sessions", "streams", "event_parts", "cursor", "decoder_state", "data_keys", "data_key_sessions", "removals",
}  # fmt: skip
SCRIPTS = Path(sandtrail.migrations.__file__).parent
STEPS = [step.revision for step in ScriptDirectory(str(SCRIPTS)).walk_revisions()][::-1]


def run(*arguments: str | Path, check: bool = True) -> None:
    subprocess.run(arguments, stdout=subprocess.DEVNULL, cwd="/", check=check)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A PostgreSQL of the tests' own, reached over a socket in its folder."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/st-pg-XXXXXX"], text=True).strip())
    data = folder / "data"
    user: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        run("chown", "postgres:postgres", folder)
    try:
        run(*user, binaries / "initdb", "-D", data, "-A", "trust", "-U", "test", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run(*user, binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start")
        yield folder
    finally:
        run(*user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop", check=False)
        run("rm", "-rf", folder)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'catalog.db'}"
        return
    yield create_database(request.getfixturevalue("cluster"), f"t{zlib.crc32(request.node.name.encode())}")


def create_database(cluster: Path, name: str) -> str:
    admin = create_engine(f"postgresql+psycopg://test@/postgres?host={cluster}")
    with admin.connect() as db:
        db.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return f"postgresql+psycopg://test@/{name}?host={cluster}"


@pytest.fixture
def engine(url: str, home: Path) -> Iterator[Engine]:
    made = open_catalog(home, url)
    yield made
    made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_the_schema_is_what_the_code_says(engine: Engine) -> None:
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_step_is_the_one_that_the_code_expects() -> None:
    assert STEPS[-1] == REVISION


def test_every_step_goes_down_and_up_again(engine: Engine) -> None:
    config = alembic_config(engine)
    assert tables(engine) == TABLES
    for step in reversed(STEPS[:-1]):
        command.downgrade(config, step)
    command.downgrade(config, "base")
    assert tables(engine) == set()
    for step in STEPS:
        command.upgrade(config, step)
    assert tables(engine) == TABLES


def test_opening_a_catalog_that_is_up_to_date_changes_nothing(engine: Engine, url: str, home: Path) -> None:
    open_catalog(home, url).dispose()
    assert tables(engine) == TABLES


def test_several_processes_may_open_a_new_catalog_at_once(url: str, home: Path) -> None:
    code = (
        "import sys, pathlib; from sandtrail.replay.index.catalog import open_catalog;"
        "open_catalog(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(home), url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0] * 3
    engine = create_engine(url)
    assert tables(engine) == TABLES
    engine.dispose()


def test_an_index_of_an_older_step_is_made_anew(recorded: Path, tmp_path: Path) -> None:
    home = unindexed(recorded, tmp_path / "home")
    before = indexed(follow(home).home)
    engine = open_catalog(home)
    command.downgrade(alembic_config(engine), "0001")
    with engine.connect() as db:
        assert db.scalar(select(cursor.c.decoder)) == -1
    engine.dispose()
    assert indexed(follow(home).home) == before


@pytest.mark.needs("postgresql")
def test_postgresql_holds_a_whole_index(
    recorded: Path, tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recording, followed in turns, once into SQLite and once into PostgreSQL."""
    one, other = unindexed(recorded, tmp_path / "one"), unindexed(recorded, tmp_path / "other")
    expected = indexed(follow(one).home)
    monkeypatch.setenv("SANDTRAIL_CATALOG", create_database(cluster, "whole"))
    monkeypatch.setattr("sandtrail.replay.follow._BATCH_ENTRIES", 2)
    read = 1
    while read:
        follower = Follower(other)
        read = follower.step()
        follower.close()
    assert not (other / "catalog.db").exists()
    assert indexed(other) == expected


def test_a_catalog_that_cannot_be_reached_is_said(home: Path) -> None:
    with pytest.raises(StoreError, match="cannot be used"):
        open_catalog(home, "postgresql+psycopg://test@/x?host=/nonexistent")
