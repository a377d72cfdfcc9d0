"""Cuts what may be learned from off what is asked, so that nothing of the second is in reach.

What is returned for learning is a copy without views of the whole, and its numbers of users and
items tell nothing about what was cut off: after a split by time they are given anew, and a
catalogue with items that are only asked for is sorted by their ids (`sorted_catalogue`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.data.interactions import InteractionLog
from reelseek.recommendation.data.sequences import Sequences, Vocabulary

__all__ = ["HeldOut", "held_out_items", "last_items", "sorted_catalogue", "split_by_time"]


@dataclass(frozen=True)
class HeldOut:
    """Users who are asked about.

    Attributes:
        histories: of each user what is known, in order; it is masked.
        targets: of each user the right items, at least one, each once.
    """

    histories: list[np.ndarray]
    targets: list[np.ndarray]


def last_items(sequences: Sequences) -> HeldOut:
    """Asks each user for the last item; what comes before it is known."""
    asked = np.flatnonzero(sequences.lengths)
    known = sequences.without_last()
    last = sequences.last_items()
    return HeldOut(known.histories(asked), [last[user : user + 1] for user in asked])


def held_out_items(known: Sequences, test: Sequences) -> HeldOut:
    """Asks for the items of `test`; users who have none are left out, and users who are not in
    `known` have no history."""
    row_by_user = {user: row for row, user in enumerate(known.users)}
    nothing = np.zeros(0, np.int32)
    histories, targets = [], []
    for user, items in zip(test.users, test.histories(), strict=True):
        if len(items):
            row = row_by_user.get(user)
            histories.append(nothing if row is None else known.history(row))
            targets.append(np.unique(items))
    return HeldOut(histories, targets)


def split_by_time(log: InteractionLog, at_seconds: float) -> tuple[InteractionLog, InteractionLog]:
    """Returns what happened before a time, and what happened then or later.

    Raises:
        ValueError: an interaction has no time, so that it cannot be told which side it is on.
    """
    if np.isnan(log.times_seconds).any():
        raise ValueError("interactions without a time cannot be split by time; split by last item")
    is_before = log.times_seconds < at_seconds
    return log.only(is_before), log.only(~is_before)


def sorted_catalogue(parts: Sequence[Sequences]) -> list[Sequences]:
    """Returns the same sequences with numbers of items that go by their ids.

    Numbers in the order of a file would tell whose last item is new: its number lies between those
    of the user's other new items.

    Args:
        parts: that share a catalogue.
    """
    old = parts[0].items if parts else Vocabulary()
    assert all(part.items is old for part in parts)
    ids = old.ids()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    items = Vocabulary(ids[index] for index in order)
    new_by_old = np.empty(len(ids), np.int32)
    new_by_old[order] = np.arange(len(ids), dtype=np.int32)
    return [
        Sequences(
            items,
            part.users,
            part.offsets.copy(),
            new_by_old[part.item_indices],
            part.is_ordered,
        )
        for part in parts
    ]
