"""Prices, in cents."""

from collections.abc import Iterable


def total(prices: Iterable[int], vouchers: Iterable[int] = ()) -> int:
    """The price of a basket after its vouchers."""
    return sum(prices) - sum(vouchers)


def with_tax(cents: int, percent: int = 19) -> int:
    """Price with tax, rounded half up."""
    return (cents * (100 + percent) + 50) // 100
