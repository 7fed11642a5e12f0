"""The witness protocol as a dialogue without wires: every status code of the specification, and what it shows."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.store.cosignature import MLDSACosigner
from sandtrail.store.merkle import EMPTY
from sandtrail.store.note import Checkpoint, Signer, VerifierKey
from sandtrail.witness.protocol import MAX_BODY, Misconduct, Refused, encode_request, judge, parse_request
from tests.witness.a_log import ORIGIN, ALog


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> ALog:
    return ALog(tmp_path_factory.mktemp("log"))


def decide(log: ALog, body: bytes, held: int | None, keys: list[VerifierKey] | None = None) -> Checkpoint:
    known: list[VerifierKey] = [log.signer.verifier] if keys is None else keys
    return judge(parse_request(body), known, None if held is None else log.checkpoint(held))


def refusal(log: ALog, body: bytes, held: int | None, keys: list[VerifierKey] | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        decide(log, body, held, keys)
    return caught.value


@pytest.mark.parametrize(
    ("held", "size"),
    [(None, 0), (None, 1), (None, 600), (0, 5), (1, 2), (5, 5), (7, 8), (255, 256), (256, 257), (300, 600), (599, 600)],
)
def test_a_log_that_grew_is_accepted(log: ALog, held: int | None, size: int) -> None:
    assert decide(log, log.body(held or 0, size), held) == log.checkpoint(size)


def test_any_pair_of_sizes_is_proven(log: ALog) -> None:
    for old in range(40):
        for size in range(old, 40):
            assert decide(log, log.body(old, size), old or None).size == size


def test_an_unknown_origin_is_404(log: ALog) -> None:
    stranger = Signer("log.example/2", bytes(32)).verifier
    for keys in ([], [stranger]):
        assert refusal(log, log.body(0, 5), None, list(keys)).reply.status == 404


def test_a_head_without_the_logs_signature_is_403(log: ALog) -> None:
    forger = Signer(ORIGIN, bytes(32))
    body = log.checkpoint(5).body
    assert refusal(log, encode_request(0, [], forger.sign(body)), None).reply.status == 403
    # A signature that names the key and is not good is worse than none, whatever stands beside it.
    bad = log.head(6).rpartition(b"\n\n")[2]
    assert refusal(log, encode_request(0, [], log.head(5) + bad), None).reply.status == 403


def test_lines_of_strangers_do_not_matter(log: ALog) -> None:
    epoch = Signer(f"{ORIGIN}/epoch", bytes(32)).line(log.checkpoint(5).body.encode())
    assert decide(log, encode_request(0, [], log.head(5) + epoch), None).size == 5


def test_any_one_of_a_logs_keys_is_enough(log: ALog) -> None:
    text = log.checkpoint(5).body
    pq = MLDSACosigner(ORIGIN, bytes(32))
    keys: list[VerifierKey] = [log.signer.verifier, pq.verifier]
    assert decide(log, encode_request(0, [], log.head(5)), None, keys).size == 5
    assert decide(log, encode_request(0, [], text.encode() + b"\n" + pq.line(text.encode(), 0)), None, keys).size == 5


def test_a_bad_line_by_one_of_a_logs_keys_is_not_mended_by_another(log: ALog) -> None:
    other = Signer(ORIGIN, bytes(32))
    keys: list[VerifierKey] = [log.signer.verifier, other.verifier]
    text = log.checkpoint(5).body.encode()
    assert decide(log, encode_request(0, [], log.head(5) + other.line(text)), None, keys).size == 5
    bad = log.head(5) + other.line(log.checkpoint(6).body.encode())
    assert refusal(log, encode_request(0, [], bad), None, keys).reply.status == 403


def test_an_old_size_above_the_new_one_is_400(log: ALog) -> None:
    assert refusal(log, encode_request(6, [], log.head(5)), 6).reply.status == 400


@pytest.mark.parametrize(("old", "held"), [(0, 5), (4, 5), (6, 5), (5, None), (5, 0)])
def test_an_old_size_that_is_not_ours_is_409_with_ours(log: ALog, old: int, held: int | None) -> None:
    refused = refusal(log, log.body(old, 9), held)
    assert refused.reply.status == 409
    assert refused.reply.body == b"%d\n" % (held or 0)
    assert refused.reply.content_type == "text/x.tlog.size"
    assert refused.misconduct is None


def test_a_proof_that_does_not_hold_is_422(log: ALog) -> None:
    proof = log.reader(9).consistency(5)
    for wrong in ([], proof[:-1], [*proof, bytes(32)], proof[::-1], [bytes(32), *proof[1:]]):
        refused = refusal(log, encode_request(5, wrong, log.head(9)), 5)
        assert (refused.reply.status, refused.misconduct) == (422, Misconduct.UNPROVEN)


def test_a_proof_where_none_belongs_is_422(log: ALog) -> None:
    for held, size in ((None, 5), (5, 5)):
        refused = refusal(log, encode_request(held or 0, [bytes(32)], log.head(size)), held)
        assert (refused.reply.status, refused.misconduct) == (422, None)


def test_the_empty_tree_has_one_root(log: ALog) -> None:
    assert log.checkpoint(0).root == EMPTY
    body = encode_request(0, [], log.signer.sign(Checkpoint(ORIGIN, 0, bytes(32)).body))
    for held in (None, 0):
        refused = refusal(log, body, held)
        assert refused.reply.status == 422
        assert refused.misconduct in (Misconduct.EMPTY, Misconduct.FORK)


def test_another_root_at_the_same_size_is_a_fork_whatever_old_says(log: ALog, tmp_path: Path) -> None:
    fork = ALog(tmp_path, word="other")
    for old, status in ((5, 422), (0, 409), (4, 409), (6, 400)):
        refused = refusal(log, encode_request(old, [], fork.head(5)), 5)
        assert (refused.reply.status, refused.misconduct) == (status, Misconduct.FORK)


def test_a_rewritten_past_cannot_be_proven(log: ALog, tmp_path: Path) -> None:
    rewritten = ALog(tmp_path, word="other")
    refused = refusal(log, rewritten.body(5, 9), 5)
    assert (refused.reply.status, refused.misconduct) == (422, Misconduct.UNPROVEN)


HASH = base64.b64encode(bytes(32)) + b"\n"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"old\n",
        b"old \n",
        b"old 00\n",
        b"old -1\n",
        b"old 1 \n",
        b"old  1\n",
        b"Old 1\n",
        b"old 9223372036854775808\n",
        b"old \xd9\xa3\n",
        b"old 1\r\n",
        b"old 1\n" + HASH[:-5] + b"\n",
        b"old 1\n" + HASH[:-1] + b" \n",
        b"old 1\nnot base64\n",
        b"old 1\n" + HASH * 64,
    ],
)
def test_a_malformed_beginning_is_400(log: ALog, head: bytes) -> None:
    assert refusal(log, head + b"\n" + log.head(5), None).reply.status == 400


def test_a_malformed_checkpoint_is_400(log: ALog) -> None:
    for note in (b"", log.head(5)[:-1], log.checkpoint(5).body.encode(), log.signer.sign("no checkpoint\n")):
        assert refusal(log, b"old 0\n\n" + note, None).reply.status == 400
    many = b"old 0\n\n" + log.head(5) + log.head(5).rpartition(b"\n\n")[2] * (MAX_BODY // 80)
    assert refusal(log, many, None).reply.status == 400


def test_sixty_three_lines_of_proof_are_read(log: ALog) -> None:
    request = parse_request(b"old 1\n" + HASH * 63 + b"\n" + log.head(5))
    assert request.proof == (bytes(32),) * 63
    assert request.encode() == b"old 1\n" + HASH * 63 + b"\n" + log.head(5)


@given(st.binary(max_size=400))
def test_garbage_is_400_and_nothing_else(data: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(data)
    assert caught.value.reply.status == 400


@given(st.data())
def test_a_changed_byte_of_a_good_request_never_gets_another_head_accepted(log: ALog, data: st.DataObject) -> None:
    body = log.body(5, 9)
    at, value = data.draw(st.integers(0, len(body) - 1)), data.draw(st.integers(0, 255))
    try:
        accepted = decide(log, body[:at] + bytes([value]) + body[at + 1 :], 5)
    except Refused:
        return
    assert accepted == log.checkpoint(9)
