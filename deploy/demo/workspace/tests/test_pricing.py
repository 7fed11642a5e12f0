"""Prices add up."""

from shop.pricing import total, with_tax  # type: ignore[import-not-found]


def test_sums_the_basket() -> None:
    """Without a voucher."""
    assert total([1999, 500]) == 2499


def test_subtracts_a_voucher() -> None:
    """With one."""
    assert total([1999], [500]) == 1499


def test_is_never_negative() -> None:
    """With more vouchers than goods."""
    assert total([1999], [1999, 1250]) == 0


def test_adds_tax() -> None:
    """At the usual rate."""
    assert with_tax(1000) == 1190
