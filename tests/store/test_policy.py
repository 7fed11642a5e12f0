"""Trust policies: what the file may say, and what it makes of checkpoints."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.errors import NotFoundError, UsageError
from sandtrail.store.cosignature import Cosigner, Ed25519Cosigner, MLDSACosigner
from sandtrail.store.note import Checkpoint, Signer
from sandtrail.store.policy import Policy, State, load_policy, parse_policy

LOG = Signer("log.example/1", bytes(range(32)))
WITNESSES: list[Cosigner] = [Ed25519Cosigner(f"w{n}.example", bytes([n]) * 32) for n in range(6)]
PQ = MLDSACosigner("pq.example", bytes(32))
CHECKPOINT = Checkpoint("log.example/1", 5, bytes(range(32)))
TEXT = CHECKPOINT.body.encode()
NOTE = LOG.sign(CHECKPOINT.body)
NOW = 1_700_000_000
X, Y = "X1 X2 X3", "Y1 Y2 Y3"
NAMES = [*X.split(), *Y.split()]


def policy(*lines: str, log: bool = True, witnesses: bool = True) -> Policy:
    head = [f"log {LOG.verifier.vkey}"] if log else []
    if witnesses:
        head += [f"witness {name} {one.verifier.vkey}" for name, one in zip(NAMES, WITNESSES, strict=True)]
    return parse_policy(("\n".join([*head, *lines]) + "\n").encode())


def cosigned(*who: str, at: int = NOW) -> bytes:
    return NOTE + b"".join(WITNESSES[NAMES.index(name)].line(TEXT, at) for name in who)


# The specification's example: two of the first three, and any of the second three.
EXAMPLE = policy(f"group X 2 {X}", f"group Y any {Y}", "group both all X Y", "quorum both")


@pytest.mark.parametrize(
    ("who", "enough"),
    [
        ("X1 X2 Y1", True),
        ("X2 X3 Y3", True),
        ("X1 X2 X3 Y1 Y2 Y3", True),
        ("X1 X2", False),
        ("X1 Y1 Y2 Y3", False),
        ("Y1 Y2 Y3", False),
        ("X1 X2 X3", False),
        ("", False),
    ],
)
def test_nested_groups_count_as_the_specification_says(who: str, enough: bool) -> None:
    verdict = EXAMPLE.judge(cosigned(*who.split()), now=NOW)
    assert verdict.ok is enough
    assert verdict.checkpoint == CHECKPOINT
    expected = [State.GOOD if name in who.split() else State.MISSING for name in NAMES]
    assert [one.state for one in verdict.witnesses] == expected
    if not enough:
        assert "quorum" in verdict.reason
    else:
        assert verdict.reason == ""


def test_the_quorum_may_be_one_witness_or_none() -> None:
    assert policy("quorum X2").judge(cosigned("X2"), now=NOW).ok
    assert not policy("quorum X2").judge(cosigned("X1"), now=NOW).ok
    assert policy("quorum none").judge(NOTE, now=NOW).ok
    assert policy("quorum none", witnesses=False).judge(NOTE, now=NOW).ok


def test_none_of_the_cosignatures_helps_without_the_logs_signature() -> None:
    others = Signer("log.example/1", bytes(32)).sign(CHECKPOINT.body)
    full = cosigned(*NAMES).removeprefix(NOTE)
    for note in (others + full, TEXT + b"\n" + full):
        verdict = EXAMPLE.judge(note, now=NOW)
        assert not verdict.ok
        assert "no good signature" in verdict.reason


def test_without_a_log_nothing_is_good() -> None:
    nameless = policy("quorum none", log=False)
    assert not nameless.judge(NOTE, now=NOW).ok
    assert nameless.judge(NOTE, now=NOW, log=LOG.verifier).ok


def test_another_log_is_not_taken_for_the_one_that_was_asked_for() -> None:
    other = Signer("log.example/2", bytes(32))
    both = parse_policy(f"log {LOG.verifier.vkey}\nlog {other.verifier.vkey}\nquorum none\n".encode())
    assert both.judge(NOTE, now=NOW).ok
    verdict = both.judge(NOTE, now=NOW, log=other.verifier)
    assert not verdict.ok
    assert "not one of those asked for" in verdict.reason


def test_a_log_may_change_its_key_under_one_origin() -> None:
    new = Signer("log.example/1", bytes(32))
    both = parse_policy(f"log {LOG.verifier.vkey}\nlog {new.verifier.vkey}\nquorum none\n".encode())
    assert both.judge(NOTE, now=NOW).ok
    assert both.judge(new.sign(CHECKPOINT.body), now=NOW).ok


def test_a_log_may_sign_with_ml_dsa() -> None:
    log = MLDSACosigner("log.example/1", bytes(32))
    alone = parse_policy(f"log {log.verifier.vkey}\nquorum none\n".encode())
    assert alone.judge(TEXT + b"\n" + log.line(TEXT, 0), now=NOW).ok
    assert not alone.judge(NOTE, now=NOW).ok


def test_an_old_cosignature_does_not_count() -> None:
    note = cosigned("X1", "X2") + cosigned("Y1", at=NOW - 3601).removeprefix(NOTE)
    assert EXAMPLE.judge(note, now=NOW).ok
    assert EXAMPLE.judge(note, now=NOW - 1, max_age=3600).ok
    verdict = EXAMPLE.judge(note, now=NOW, max_age=3600)
    assert not verdict.ok
    assert [(one.name, one.at) for one in verdict.witnesses if one.state is State.OLD] == [("Y1", NOW - 3601)]


def test_a_cosignature_from_the_future_does_not_count() -> None:
    note = cosigned("X1", at=NOW + 301)
    assert policy("quorum X1").judge(note, now=NOW + 1).ok
    verdict = policy("quorum X1").judge(note, now=NOW)
    assert not verdict.ok
    assert verdict.witnesses[0].state is State.FUTURE


def test_a_witness_that_does_not_say_when_has_not_witnessed() -> None:
    pq = parse_policy(f"log {LOG.verifier.vkey}\nwitness pq {PQ.verifier.vkey}\nquorum pq\n".encode())
    assert pq.judge(NOTE + PQ.line(TEXT, NOW), now=NOW).ok
    verdict = pq.judge(NOTE + PQ.line(TEXT, 0), now=NOW)
    assert not verdict.ok
    assert verdict.witnesses[0].state is State.BAD


def test_a_forged_cosignature_makes_the_note_bad_even_where_it_is_not_needed() -> None:
    other = Checkpoint("log.example/1", 6, bytes(32)).body.encode()
    forged = cosigned("Y1") + WITNESSES[5].line(other, NOW)
    verdict = policy("quorum Y1").judge(forged, now=NOW)
    assert not verdict.ok
    assert verdict.reason == "the cosignature by 'Y3' is not genuine"
    assert not policy("quorum none").judge(forged, now=NOW).ok


def test_what_is_no_checkpoint_is_not_good() -> None:
    for note in (b"", TEXT, LOG.sign("something else\n"), NOTE[:-1]):
        assert not policy("quorum none").judge(note, now=NOW).ok


VKEY = [one.verifier.vkey for one in WITNESSES]
# One public key under another name: the same key all the same.
ALIAS = Ed25519Cosigner("alias.example", bytes(32)).verifier.vkey


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no quorum"),
        (f"witness a {VKEY[0]}\n", "no quorum"),
        ("quorum none", "newline"),
        ("quorum none\nquorum none\n", "second quorum"),
        ("quorum a\n", "line 1: 'a' is not defined"),
        (f"quorum a\nwitness a {VKEY[0]}\n", "not defined above"),
        (f"witness a {VKEY[0]}\nwitness b {ALIAS}\nquorum a\n", "line 2: this witness's key was there"),
        (f"log {LOG.verifier.vkey}\nlog {LOG.verifier.vkey} https://x\nquorum none\n", "this log's key was there"),
        (f"witness a {VKEY[0]}\nwitness a {VKEY[1]}\nquorum a\n", "taken"),
        (f"witness none {VKEY[0]}\nquorum none\n", "taken"),
        (f"witness a {VKEY[0]}\ngroup a any a\nquorum a\n", "taken"),
        (f"witness a {VKEY[0]}\ngroup g any a a\nquorum g\n", "only once"),
        (f"witness a {VKEY[0]}\ngroup g any a\ngroup h any a\nquorum h\n", "only once"),
        (f"witness a {VKEY[0]}\ngroup g any a g\nquorum g\n", "not defined above"),
        (f"witness a {VKEY[0]}\ngroup g any none\nquorum g\n", "not defined above"),
        (f"witness a {VKEY[0]}\ngroup g 2 a\nquorum g\n", "more than there are"),
        (f"witness a {VKEY[0]}\ngroup g 0 a\nquorum g\n", "all, any or a number"),
        (f"witness a {VKEY[0]}\ngroup g -1 a\nquorum g\n", "all, any or a number"),
        (f"witness a {VKEY[0]}\ngroup g 01 a\nquorum g\n", "all, any or a number"),
        (f"witness a {VKEY[0]}\ngroup g most a\nquorum g\n", "all, any or a number"),
        ("group g all\nquorum g\n", "items"),
        ("quorum\n", "items"),
        ("quorum none none\n", "items"),
        (f"log {LOG.verifier.vkey} url more\nquorum none\n", "items"),
        (f"witness a {LOG.verifier.vkey}\nquorum a\n", "type 04 or 06"),
        (f"witness a {VKEY[0][:-4]}\nquorum a\n", "verifier key"),
        ("log nonsense\nquorum none\n", "verifier key"),
        ("Quorum none\n", "a line begins with"),
        ("quorum none\r\n", "control characters"),
        ("quorum\vnone\n", "control characters"),
        ("quorum none\0\n", "control characters"),
        (f"witness a {VKEY[0]}\nquorum\N{NO-BREAK SPACE}a\n", "a line begins with"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_policy(text.encode())


def test_blanks_comments_and_order_do_not_matter() -> None:
    witness = f"\t witness \t a  {VKEY[0]}   https://w.example/sub "
    text = f"\n \t\n  # witness a\n{witness}\n#\nquorum a\nlog {LOG.verifier.vkey}\n"
    found = parse_policy(text.encode())
    assert found.quorum == "a"
    assert found.witnesses[0].url == "https://w.example/sub"
    assert found.judge(NOTE + WITNESSES[0].line(TEXT, NOW), now=NOW).ok


def test_names_are_bytes() -> None:
    kelvin, latin = "\N{KELVIN SIGN}".encode(), b"\xe9"
    keys = [vkey.encode() for vkey in VKEY]
    text = b"witness K %b\nwitness %b %b\nwitness %b %b\nquorum %b\n" % (
        keys[0],
        kelvin,
        keys[1],
        latin,
        keys[2],
        latin,
    )
    found = parse_policy(text)
    assert len({one.name for one in found.witnesses}) == 3
    assert found.judge(NOTE + WITNESSES[2].line(TEXT, NOW), now=NOW, log=LOG.verifier).ok
    assert not found.judge(NOTE + WITNESSES[1].line(TEXT, NOW), now=NOW, log=LOG.verifier).ok


def test_thirty_two_of_everything_and_more_are_taken() -> None:
    lines, names = [], []
    for n in range(40):
        lines.append(f"log {Signer(f'log.example/{n}', n.to_bytes(32)).verifier.vkey}")
        lines.append(f"witness w{n} {Ed25519Cosigner(f'w{n}', bytes([1]) + n.to_bytes(31)).verifier.vkey}")
        lines.append(f"group g{n} all w{n}")
        names.append(f"g{n}")
    lines += [f"group all {len(names)} {' '.join(names)}", "quorum all"]
    assert len(parse_policy(("\n".join(lines) + "\n").encode()).groups) == 41


def test_a_file_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with pytest.raises(NotFoundError, match="policy"):
        load_policy(path)
    path.write_text("quorum x\n")
    with pytest.raises(UsageError, match=r"policy: line 1: 'x'"):
        load_policy(path)
    path.write_text("quorum none\n")
    assert load_policy(path).quorum == "none"
    path.write_bytes(b"#" * (1 << 20) + b"\nquorum none\n")
    with pytest.raises(UsageError, match="1 MiB"):
        load_policy(path)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_policy(data)


WORDS = st.sampled_from(
    ["log", "witness", "group", "quorum", "none", "a", "b", "g", "any", "all", "1", "2", "#", *VKEY[:2]]
)


@given(st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), max_size=8))
@settings(max_examples=300)
def test_lines_in_any_order_make_a_policy_or_a_usage_error(lines: list[str]) -> None:
    try:
        found = parse_policy(("\n".join(lines) + "\n").encode())
    except UsageError:
        return
    assert found.judge(NOTE, now=NOW, log=LOG.verifier).ok is (found.quorum == "none")


@given(st.data())
def test_quorum_is_the_threshold_of_a_naive_count(data: st.DataObject) -> None:
    least = data.draw(st.integers(1, 6))
    who = data.draw(st.sets(st.sampled_from(NAMES)))
    judged = policy(f"group g {least} {X} {Y}", "quorum g").judge(cosigned(*who), now=NOW)
    assert judged.ok is (len(who) >= least)


def test_base64_of_a_key_has_one_spelling() -> None:
    encoded = VKEY[0].rpartition("+")[2]
    assert base64.b64encode(base64.b64decode(encoded)).decode() == encoded
    with pytest.raises(UsageError):
        parse_policy(f"witness a {VKEY[0].rstrip('=')}=\nwitness b {VKEY[0]}=\nquorum a\n".encode())
