"""Secrets on their way from the operator to the gateway."""

from __future__ import annotations

import os
import re

import pytest

from sandtrail.collector.secrets import Secret, make_secret, read_handed, write_handed
from sandtrail.errors import UsageError

VALUE = "correct-horse-9-battery"


def test_a_placeholder_is_unmistakable_and_never_the_same() -> None:
    first, second = (make_secret("OPENAI_API_KEY", VALUE, ["api.test"]) for _ in range(2))
    assert re.fullmatch(r"sandtrail-secret-openai-api-key-[0-9a-f]{32}", first.placeholder)
    assert first.placeholder != second.placeholder
    assert first.core == first.placeholder[-32:]


@pytest.mark.parametrize(
    ("value", "prefix"),
    [
        ("sk-proj-" + "a1" * 20, "sk-proj-"),
        ("sk-ant-api03-" + "a1" * 20, "sk-ant-api03-"),
        ("ghp_" + "a1" * 18, "ghp_"),
        ("AIza" + "a1" * 18, "AIza"),
        ("hf_" + "a1" * 18, "hf_"),
        ("skip" + "a1" * 18, ""),
    ],
)
def test_a_placeholder_begins_as_its_vendors_keys_do(value: str, prefix: str) -> None:
    assert make_secret("KEY", value, ["api.test"]).placeholder.startswith(f"{prefix}sandtrail-secret-key-")


def test_what_is_handed_over_can_be_read_again_and_not_be_changed() -> None:
    secrets = [make_secret("A", VALUE, ["a.test", "*.b.test"]), make_secret("B", VALUE[::-1], ["c.test"])]
    fd = write_handed(secrets)
    try:
        assert read_handed(fd) == read_handed(fd) == secrets
        for change in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)


def test_what_is_no_such_file_is_refused_without_a_word_of_it() -> None:
    read, write = os.pipe()
    loose = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.write(loose, VALUE.encode())
    try:
        for fd in (read, loose):
            with pytest.raises(UsageError) as refused:
                read_handed(fd)
            assert VALUE not in str(refused.value)
    finally:
        for fd in (read, write, loose):
            os.close(fd)


@pytest.mark.parametrize(
    ("name", "value", "hosts"),
    [
        ("1X", VALUE, ["a.test"]),
        ("A-B", VALUE, ["a.test"]),
        ("A", "hunter2", ["a.test"]),
        ("A", "x" * 5000, ["a.test"]),
        ("A", VALUE + "\nmore", ["a.test"]),
        ("A", VALUE + "é", ["a.test"]),
        ("A", VALUE + " ", ["a.test"]),
        ("A", VALUE, []),
        ("A", VALUE, ["*"]),
        ("A", VALUE, ["a.test", "*.*"]),
    ],
)
def test_what_could_not_be_kept_apart_is_refused(name: str, value: str, hosts: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        make_secret(name, value, hosts)
    assert value not in str(refused.value)


def test_a_value_is_in_no_representation() -> None:
    assert VALUE not in repr(Secret("A", ("a.test",), "p" * 40, VALUE))
