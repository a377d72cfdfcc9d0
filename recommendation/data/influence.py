"""Bounds how much one user counts in what is learned, whatever the user does.

A robot with a million events would otherwise fill the co-occurrences (their number grows with the
square of a user's items) and the popularity of what it visits.
"""

import numpy as np

from reelseek.recommendation.data.sequences import Sequences

__all__ = ["bound_influence"]


def bound_influence(sequences: Sequences, max_items: int, *, seed: int = 0) -> Sequences:
    """Returns the sequences with at most so many events of each user.

    An item that follows itself counts once. Of ordered items the last ones are kept, of others a
    random choice.

    Args:
        max_items: of a user, at least 1.

    Raises:
        ValueError: `max_items` is below 1.
    """
    if max_items < 1:
        raise ValueError(f"max_items={max_items}: must be at least 1")
    is_first = np.ones(sequences.num_events, bool)
    users, items = sequences.user_indices, sequences.item_indices
    is_first[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    if is_first.all() and (not sequences.num_users or sequences.lengths.max() <= max_items):
        return sequences
    rng = np.random.default_rng(seed)
    kept = []
    for user, history in enumerate(sequences.histories()):
        start = sequences.offsets[user]
        distinct = history[is_first[start : start + len(history)]]
        if len(distinct) > max_items:
            if sequences.is_ordered:
                distinct = distinct[-max_items:]
            else:
                distinct = rng.permutation(distinct)[:max_items]
        kept.append(distinct)
    return Sequences.of_histories(
        sequences.items, sequences.users, kept, is_ordered=sequences.is_ordered
    )
