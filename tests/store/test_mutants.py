"""More than a thousand damaged logs: `verify` finds and places each, verifiers of others all that is in their scope."""

from __future__ import annotations

import base64
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from sandtrail.cluster.log import ClusterLog
from sandtrail.cluster.verify import verify_cluster
from sandtrail.witness.protocol import encode_request
from tests.conftest import require
from tests.parts import CHECKOUT
from tests.store.authority import Authority
from tests.store.foreign_go import logcheck
from tests.store.mutants import attacks_time
from tests.store.mutants.__main__ import main
from tests.store.mutants.attacks import ATTACKS, NOT_HERE
from tests.store.mutants.attacks_proofs import ProofMutant, draw_proofs, entry_of, judge_proof, real_proofs
from tests.store.mutants.attacks_time import Tokens
from tests.store.mutants.base import Base, record_timed
from tests.store.mutants.corpus import COUNT, FAMILIES, SEED, draw, make_bases
from tests.store.mutants.edit import Copy, dump, load
from tests.store.mutants.judge import judge, judged_by_others, too_much, unmet
from tests.store.mutants.mutant import HEADS, NONE, Mutant

PROOFS = 300
EVERYTHING = frozenset({"head", "policy"})


@dataclass(frozen=True)
class World:
    base: Base
    other: Base
    mutants: list[Mutant]
    proofs: list[ProofMutant]
    head: Path


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder that is in memory where there is such a one: a thousand copies are many names, and little else."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def world(memory: Path) -> World:
    folder = memory / "world"
    folder.mkdir()
    base, other = make_bases(folder)
    head = folder / "head"
    head.write_bytes(base.head_file)
    return World(base, other, draw(base, other), draw_proofs(base, other, PROOFS, SEED), head)


@dataclass(frozen=True)
class Timed:
    base: Base
    authority: Authority
    mutants: list[Mutant]


@pytest.fixture(scope="module")
def timed(memory: Path) -> Timed:
    """As `world`, with tokens of an authority that is made for it."""
    require("openssl")
    real, stranger = Authority(memory / "authority"), Authority(memory / "stranger")
    base = record_timed(memory / "timed", SEED, real.token)
    tokens = Tokens(real.token, stranger.token)
    return Timed(base, real, list(attacks_time.timed(base, tokens, Random(SEED))))


def digest(home: Path) -> str:
    files = sorted(path for path in home.rglob("*") if path.is_file())
    parts = [str(path.relative_to(home)).encode() + b"\0" + path.read_bytes() for path in files]
    return sha256(b"\0".join(parts)).hexdigest()


# -- the corpus --------------------------------------------------------------------------------------------------------


def test_there_are_more_than_a_thousand_different_mutants_of_every_family(world: World, tmp_path: Path) -> None:
    assert len(world.mutants) >= COUNT >= 1000
    assert {mutant.family for mutant in world.mutants} == set(FAMILIES)
    assert min(Counter(mutant.family for mutant in world.mutants).values()) >= 4
    assert len({(mutant.family, mutant.name) for mutant in world.mutants}) == len(world.mutants)
    assert all(mutant.expect for mutant in world.mutants)
    real = digest(world.base.home)
    seen = set()
    for mutant in world.mutants[:: len(world.mutants) // 60]:
        copy = Copy(world.base, tmp_path / "copy")
        mutant.change(copy)
        seen.add(digest(copy.home))
        shutil.rmtree(copy.home)
    assert real not in seen
    assert digest(world.base.home) == real


def test_the_corpus_comes_out_the_same_from_the_same_seed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["--out", str(tmp_path / name), "--count", "100", "--seed", "7"]) == 0
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    main(["--out", str(tmp_path / "three"), "--count", "100", "--seed", "8"])
    assert digest(tmp_path / "three") != digest(tmp_path / "one")


@pytest.mark.needs("openssl")
def test_every_attack_on_the_log_in_the_threat_model_is_tried_or_said_not_to_be(world: World, timed: Timed) -> None:
    text = (CHECKOUT / "docs" / "threat-model.md").read_text()
    rows = dict.fromkeys(re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE))
    assert not {*ATTACKS.values(), *NOT_HERE} - rows.keys(), "rows that are not in docs/threat-model.md"
    about = ("Somebody who can change files", "Cutting back", "A thief of keys", "Erasure, retention, hold")
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        if section.startswith(about):
            told = set(re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)) - {"attack", "stolen"}
            assert not told - {*ATTACKS.values(), *NOT_HERE}, "rows without a mutant, or a reason why there is none"
    tried = {mutant.attack for mutant in (*world.mutants, *timed.mutants)} | {one.attack for one in world.proofs}
    assert tried == set(ATTACKS)


# -- controls: what is found is the attack, and not how it was carried out ---------------------------------------------


def _lay_again(copy: Copy) -> None:
    copy.lay(copy.entries)


def _reseal_unchanged(copy: Copy) -> None:
    copy.reseal(copy.entries, copy.base.epochs, copy.base.identity)


def _tell_another_story(copy: Copy) -> None:
    entries = copy.entries
    entries[5] = dump({**load(entries[5]), "run": "0" * 16})
    copy.reseal(entries, copy.base.epochs, copy.base.identity)


@pytest.mark.needs("foreign-go")
@pytest.mark.parametrize("change", [lambda _copy: None, _lay_again, _reseal_unchanged])
def test_an_unharmed_copy_is_good_for_everybody(
    world: World, tmp_path: Path, change: partial[None], foreign_python: Path
) -> None:
    copy = Copy(world.base, tmp_path / "copy")
    change(copy)
    report = judge(world.base, copy.home, EVERYTHING, world.head)
    assert report.ok, report.findings
    assert report.skipped == {}
    assert set(judged_by_others(world.base, [copy.home], foreign_python)[0].values()) == {""}


def test_with_the_keys_of_every_epoch_only_others_can_tell(world: World, tmp_path: Path) -> None:
    """Why old keys are erased, and heads kept elsewhere: this one is told without a fault."""
    copy = Copy(world.base, tmp_path / "copy")
    _tell_another_story(copy)
    copy.remove("witnessed")
    assert judge(world.base, copy.home, NONE, world.head).ok
    for knows in ("head", "policy"):
        assert not judge(world.base, copy.home, frozenset({knows}), world.head).ok


# -- verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_verify_finds_and_places_every_mutant(world: World, tmp_path: Path, family: str) -> None:
    wrong = []
    for mutant in world.mutants:
        if mutant.family == family:
            copy = Copy(world.base, tmp_path / "copy")
            mutant.change(copy)
            report = judge(world.base, copy.home, mutant.knows, world.head)
            if lacking := unmet(mutant, copy.home, report):
                found = [(finding.step, finding.type, finding.place) for finding in report.findings[:5]]
                wrong.append(f"{mutant.name}: not found: {lacking}; found: {found}")
            if surplus := too_much(mutant, copy.home, report):
                wrong.append(f"{mutant.name}: blamed without a reason: {surplus}")
            shutil.rmtree(copy.home)
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.needs("foreign-go")
def test_verifiers_of_others_find_every_mutant_in_their_scope(
    world: World, tmp_path: Path, foreign_python: Path
) -> None:
    missed: list[str] = []
    found: Counter[str] = Counter()
    for part in _parts(world.mutants, 200):
        homes = [tmp_path / str(number) for number in range(len(part))]
        for mutant, home in zip(part, homes, strict=True):
            mutant.change(Copy(world.base, home))
        for mutant, said in zip(part, judged_by_others(world.base, homes, foreign_python), strict=True):
            missed += [f"{who}: {mutant.family}: {mutant.name}" for who in mutant.foreign if not said[who]]
            found.update(who for who in mutant.foreign if said[who])
        for home in homes:
            shutil.rmtree(home)
    assert not missed, "\n".join(missed[:20])
    assert found["tlog"] > 600
    assert found["aics"] > 600
    assert found["fsck"] > 300
    assert found["policy"] > 30


def _parts(mutants: list[Mutant], size: int) -> Iterator[list[Mutant]]:
    for first in range(0, len(mutants), size):
        yield mutants[first : first + size]


def test_the_cluster_shows_every_log_that_is_another_than_it_was_told_of(world: World, tmp_path: Path) -> None:
    """It knows the newest head of each node, so its scope is what a remembered head shows, and logs that are gone."""
    base, place = world.base, "copy/log/checkpoint"
    cluster = ClusterLog(tmp_path / "cluster", "sandtrail.example/fleet")
    cluster.register([pin.vkey for pin in base.pins])
    cluster.submit(encode_request(0, [], base.heads[max(base.heads)]))
    assert verify_cluster(cluster.home, homes=[base.home]).ok
    judged: Counter[str] = Counter()
    for mutant in world.mutants:
        if "fsck" in mutant.foreign or not mutant.foreign >= HEADS:
            continue
        copy = Copy(base, tmp_path / "copy")
        mutant.change(copy)
        report = verify_cluster(cluster.home, homes=[copy.home])
        shutil.rmtree(copy.home)
        found = [finding for finding in report.findings if finding.place.endswith(place)]
        assert {finding.type for finding in found} & {"node-log-rolled-back", "node-log-forked"}, mutant.name
        judged[found[0].type] += 1
    assert judged["node-log-rolled-back"] > 50
    assert judged["node-log-forked"] > 200
    copy = Copy(base, tmp_path / "copy")
    copy.remove("log/checkpoint")
    gone = [finding.type for finding in verify_cluster(cluster.home, homes=[copy.home]).findings]
    assert set(gone) == {"node-log-missing"}
    assert [finding.place for finding in verify_cluster(cluster.home, homes=[world.other.home]).findings][
        -1
    ] == copy.origin


@pytest.mark.needs("openssl")
def test_verify_finds_and_places_forged_times_and_tokens(timed: Timed, tmp_path: Path) -> None:
    base = timed.base
    report = judge(base, base.home, NONE, tmp_path, timed.authority.roots)
    assert report.ok, report.findings
    assert report.tokens == 2
    for mutant in timed.mutants:
        copy = Copy(base, tmp_path / "copy")
        mutant.change(copy)
        report = judge(base, copy.home, NONE, tmp_path, timed.authority.roots)
        assert not unmet(mutant, copy.home, report), (mutant.name, report.findings[:5])
        shutil.rmtree(copy.home)


# -- proofs ------------------------------------------------------------------------------------------------------------


def test_no_proof_for_another_place_passes(world: World) -> None:
    for proof in real_proofs(world.base):
        assert judge_proof(world.base, proof) == ""
    for mutant in world.proofs:
        said = judge_proof(world.base, mutant.data, witnesses=mutant.witnesses)
        assert said, f"{mutant.name} was accepted"
        assert any(part in said for part in mutant.says.split("|")), f"{mutant.name}: {said}"


@pytest.mark.needs("foreign-go")
def test_torchwood_refuses_every_proof_in_its_scope(world: World, tmp_path: Path) -> None:
    real = real_proofs(world.base)
    asked = [(proof, entry_of(proof)) for proof in real]
    asked += [(mutant.data, entry_of(mutant.data) or entry_of(real[0])) for mutant in world.proofs]
    requests = []
    for number, (proof, entry) in enumerate(asked):
        path = tmp_path / str(number)
        path.write_bytes(proof)
        request = {"proof": str(path), "entry": base64.b64encode(entry).decode(), "policy": world.base.policy}
        requests.append(request)
    said = [answer["proof"] for answer in logcheck(requests)]
    assert set(said[: len(real)]) == {""}
    refused = zip(world.proofs, said[len(real) :], strict=True)
    assert not [mutant.name for mutant, why in refused if mutant.foreign and not why]
    assert sum(mutant.foreign for mutant in world.proofs) > 80
