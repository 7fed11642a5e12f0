"""The checkout itself: locks, extras, what the wheel carries, what an ordinary user is told."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sandtrail
from tests.parts import CHECKOUT, RUNSC_LABELS, built_runsc

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
LOCKS = sorted(
    [*CHECKOUT.glob("requirements/*.lock"), *CHECKOUT.glob("deploy/**/*.lock"), *CHECKOUT.glob("tests/**/*.lock")]
)
# What each lock has to satisfy: extras and dependency groups of pyproject.toml.
ROOTS = {
    "collector": (["collector"], ["build"]),
    "all": (["collector", "replay", "ui"], ["build"]),
    "dev": (["pkcs11", "collector", "replay", "ui"], ["build", "dev"]),
}


def locked(path: Path) -> dict[str, list[tuple[Requirement, int]]]:
    """Every pin of a lock, with the number of its hashes: one name may have several, for different Pythons."""
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if entry.startswith("#"):
            continue
        lines = [line.rstrip(" \\") for line in entry.splitlines()]
        requirement = Requirement(lines[0])
        hashes = [line for line in lines[1:] if re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line)]
        assert len(hashes) == len(lines) - 1, f"{path.name}: {entry[:80]}"
        pins.setdefault(canonicalize_name(requirement.name), []).append((requirement, len(hashes)))
    return pins


def wanted(extras: list[str], groups: list[str]) -> list[Requirement]:
    found = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        found += PROJECT["project"]["optional-dependencies"][extra]
    for group in groups:
        found += [one for one in PROJECT["dependency-groups"][group] if isinstance(one, str)]
    return [Requirement(one) for one in found]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_lock_pins_every_file_and_names_no_registry(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(index|extra-index|find-links)", text, re.MULTILINE)
    pins = locked(path)
    assert pins
    for requirements in pins.values():
        for requirement, hashes in requirements:
            assert [one.operator for one in requirement.specifier] == ["=="], requirement
            assert hashes, requirement


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_lock_satisfies_pyproject(name: str, python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    pins = locked(CHECKOUT / "requirements" / f"{name}.lock")
    for requirement in wanted(*ROOTS[name]):
        versions = [
            str(next(iter(pin.specifier)).version)
            for pin, _ in pins.get(canonicalize_name(requirement.name), [])
            if pin.marker is None or pin.marker.evaluate(environment)
        ]
        assert len(versions) == 1, f"{requirement} has {versions or 'no version'} in {name}.lock: run tools/lock"
        assert requirement.specifier.contains(versions[0], prereleases=True), f"{requirement}: run tools/lock"


def test_smaller_locks_are_parts_of_the_largest() -> None:
    def lines(name: str) -> set[str]:
        return {str(pin) for pins in locked(CHECKOUT / "requirements" / f"{name}.lock").values() for pin, _ in pins}

    assert lines("collector") < lines("all") < lines("dev")


def test_collector_brings_neither_index_nor_page() -> None:
    pins = locked(CHECKOUT / "requirements" / "collector.lock")
    assert not {"streamlit", "pandas", "duckdb", "pyarrow", "fastapi", "sqlalchemy"} & set(pins)


def imported(source: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"sandtrail"}


@pytest.mark.parametrize("room", ["", "store", "witness", "cluster", "collector", "replay", "migrations", "ui"])
def test_what_a_room_imports_its_extra_declares(room: str) -> None:
    extra = {"": [], "store": ["pkcs11"], "witness": [], "cluster": [], "migrations": ["replay"]}.get(room, [room])
    declared = {canonicalize_name(one.name) for one in wanted(extra, [])}
    # Who asks for pydantic-settings gets pydantic: the one is part of the other's interface.
    declared.add(canonicalize_name("pydantic"))
    brought_by = packages_distributions()
    folder = CHECKOUT / "sandtrail" / room
    for source in folder.rglob("*.py") if room else folder.glob("*.py"):
        # A namespace such as `google` has many owners, and `demo` reaches for the checkout it is in.
        for name in imported(source) - {"deploy"}:
            owners = {canonicalize_name(one) for one in brought_by.get(name, [])}
            assert owners & declared, (
                f"{source.relative_to(CHECKOUT)} imports {name}, which {extra or 'core'} does not declare"
            )


def test_versions_agree() -> None:
    chosen = (CHECKOUT / ".python-version").read_text().strip()
    assert PROJECT["project"]["requires-python"] == ">=3.12"
    assert tuple(map(int, chosen.split("."))) >= (3, 12)
    # What is not released yet stands above, and says so.
    newest = re.search(r"^## (\S+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == sandtrail.__version__


@pytest.mark.parametrize("label", [label for label in RUNSC_LABELS if label != "distribution"])
def test_pinned_runsc_is_what_its_module_file_says(label: str) -> None:
    pins = CHECKOUT / "tools" / "runsc" / label
    pinned = re.findall(
        r"^require gvisor\.dev/gvisor v0\.0\.0-(\d{4})(\d\d)\d+-[0-9a-f]{12}$", (pins / "go.mod").read_text(), re.M
    )
    assert ["-".join(month) for month in pinned] == [label]
    assert built_runsc(label).parent.name.startswith(f"{label}-")


@pytest.mark.needs("runsc-2025-02", "runsc-2026-09")
@pytest.mark.parametrize("label", [label for label in RUNSC_LABELS if label != "distribution"])
def test_built_runsc_names_its_pin(label: str) -> None:
    said = subprocess.run([str(built_runsc(label)), "--version"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0] == f"runsc version {label}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=CHECKOUT, check=True
    )
    [made] = folder.glob("*.whl")
    return made


def test_wheel_carries_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "sandtrail"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if not name.startswith("sandtrail-")}
    assert set(tracked.stdout.split()) <= carried
    assert all(name.startswith("sandtrail/") for name in carried)
    assert not any(name.endswith(".pyc") for name in carried)


@pytest.mark.needs("hashing-in-c")
def test_wheel_with_c_in_it_names_its_platform_and_serves_every_python(wheel: Path) -> None:
    assert "-cp312-abi3-linux_" in wheel.name
    assert "sandtrail/store/_hashing.abi3.so" in zipfile.ZipFile(wheel).namelist()


def test_without_a_compiler_the_wheel_is_for_every_machine_and_it_is_said_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=CHECKOUT,
        env={**os.environ, "CC": "/nowhere/cc"},
        capture_output=True,
        text=True,
        check=True,
    )
    [made] = tmp_path.glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(made).namelist())
    assert "_hashing.c was not compiled; Python goes on without it" in done.stdout + done.stderr


@pytest.mark.needs("index")
def test_collector_installs_and_records_without_the_page(wheel: Path, tmp_path: Path) -> None:
    """From the lock alone, as on a node: what is missing there is named by the extra that brings it."""
    uv, python = str(CHECKOUT / "tools" / "uv"), tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "--require-hashes", "-r", str(CHECKOUT / "requirements/collector.lock")], check=True)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    modules = ["keeper", "receiver", "gateway", "session"]
    code = "; ".join(f"import sandtrail.collector.{module}" for module in modules)
    subprocess.run([str(python), "-c", f"{code}; import sandtrail.store.sealer"], cwd=tmp_path, check=True)
    page = subprocess.run(
        [str(python.with_name("sandtrail")), "ui"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert page.returncode == 2
    assert "pip install 'sandtrail[ui]'" in page.stderr


@pytest.mark.needs("make", "userns")
@pytest.mark.parametrize("target", ["run", "demo", "bench"])
def test_ordinary_user_is_told_what_needs_root(target: str) -> None:
    # A user namespace of its own: for `id`, and for every check of ours, this is user 1000.
    done = subprocess.run(
        ["unshare", "--map-user=1000", "--map-group=1000", "make", target],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"sudo make {target}" in done.stdout
    assert "network namespace" in done.stdout
