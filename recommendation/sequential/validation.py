"""Sequences -> sequences without some users' last items, which tell how settings do."""

from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.data.sequences import Sequences

__all__ = ["HeldOutLast", "hold_out_last"]

_MAX_VALIDATION_FRACTION = 0.1  # of the users
_MIN_ITEMS = 3  # of a user whose last item is held out, so that something comes after something
_VALIDATION_STREAM = 2  # a stream of random numbers of its own


@dataclass(frozen=True)
class HeldOutLast:
    """Some users' last items, cut off.

    Attributes:
        learned: all users, without these items.
        histories: of the users who lost one, what is left.
        targets: `(n,)` what they lost.
    """

    learned: Sequences
    histories: list[np.ndarray]
    targets: np.ndarray


def hold_out_last(sequences: Sequences, max_users: int, *, seed: int) -> HeldOutLast:
    """Cuts off the last item of users drawn at random: at most `max_users`, a tenth of all, and
    only those with three items or more."""
    long_enough = np.flatnonzero(sequences.lengths >= _MIN_ITEMS)
    num = min(max_users, int(_MAX_VALIDATION_FRACTION * sequences.num_users), len(long_enough))
    random = np.random.default_rng([seed, _VALIDATION_STREAM])
    users = np.sort(random.permutation(long_enough)[:num])
    histories = sequences.histories()
    targets = np.array([histories[user][-1] for user in users], np.int64)
    for user in users:
        histories[user] = histories[user][:-1]
    learned = Sequences.of_histories(
        sequences.items, sequences.users, histories, is_ordered=sequences.is_ordered
    )
    return HeldOutLast(learned, [histories[user] for user in users], targets)
