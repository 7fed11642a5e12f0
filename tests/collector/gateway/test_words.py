"""Many words looked for at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway import words
from sandtrail.collector.gateway.words import Words

LETTERS = st.binary(min_size=1, max_size=4).map(lambda data: bytes(b"aAb\0"[byte % 4] for byte in data))
SETS = st.lists(st.tuples(LETTERS, st.booleans()), max_size=8)
TEXTS = st.binary(max_size=60).map(lambda data: bytes(b"aAb\0"[byte % 4] for byte in data))


def stands(word: bytes, any_case: bool, text: bytes, place: int) -> bool:
    there = text[place : place + len(word)]
    return there.lower() == word.lower() if any_case else there == word


@given(SETS, TEXTS)
def test_each_place_is_found_with_the_longest_word_that_stands_there(
    those: list[tuple[bytes, bool]], text: bytes
) -> None:
    found = [(place, len(word)) for place, word in Words(those).find(text)]
    standing = {
        place: max((len(word) for word, any_case in those if stands(word, any_case, text, place)), default=0)
        for place in range(len(text))
    }
    assert found == [(place, size) for place, size in standing.items() if size]


@given(SETS, TEXTS, st.integers(0, 60))
def test_a_beginning_at_the_end_of_a_text_is_seen(those: list[tuple[bytes, bool]], text: bytes, start: int) -> None:
    begun = [
        place
        for place in range(start, len(text))
        if any(word.lower().startswith(text[place:].lower()) for word, _ in those)
    ]
    assert Words(those).begun(text, start) == min(begun, default=len(text))


def test_a_word_across_the_border_of_what_is_read_at_once_is_found_once() -> None:
    size = words._WINDOW
    for place in (*range(size - 7, size + 2), 2 * size - 3):
        text = b"." * place + b"needle" + b"." * size
        assert list(Words([(b"needle", False), (b"need", False)]).find(text)) == [(place, b"needle")]


def test_any_byte_can_be_part_of_a_word() -> None:
    every = bytes(range(256))
    assert list(Words([(every, False)]).find(b"before" + every)) == [(6, every)]
