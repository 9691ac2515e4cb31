"""How many tokens a cache makes room for: by their number alone, so that it can be told before."""

FIRST_CAPACITY = 512
"""Tokens that a fresh buffer holds."""


def capacity_of(length: int) -> int:
    """Tokens that a buffer has room for which must hold `length` of them: a power of two.

    In whatever pieces a text is read and decoded, the last capacity is the same, and the one before
    at most half of it.
    """
    return max(FIRST_CAPACITY, 1 << (length - 1).bit_length()) if length else 0
