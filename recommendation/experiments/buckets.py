"""Pseudonyms -> arms of an experiment, always the same, and independent from other experiments."""

import hashlib
from collections.abc import Sequence

__all__ = ["arm_of", "check_shares"]

_BUCKETS = 1 << 64


def check_shares(shares: Sequence[float]) -> None:
    """Raises a ValueError where the shares of the arms are none."""
    if len(shares) < 2 or any(not share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares={list(shares)}: must be two or more above 0 that add up to 1")


def arm_of(experiment: str, pseudonym: str, shares: Sequence[float] = (0.5, 0.5)) -> int:
    """Returns the number of the arm of a user.

    The name of the experiment salts the hash, so that who was together in one experiment is spread
    over the arms of the next (Kohavi, Tang and Xu 2020, section 4).

    Args:
        shares: of the arms, which add up to 1.
    """
    check_shares(shares)
    salted = f"{len(experiment)}:{experiment}:{pseudonym}".encode()
    bucket = int.from_bytes(hashlib.sha256(salted).digest()[:8], "big") / _BUCKETS
    above = 0.0
    for arm, share in enumerate(shares):
        above += share
        if bucket < above:
            return arm
    return len(shares) - 1
