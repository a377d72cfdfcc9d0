"""Sequences -> batches of histories of about the same length, the same in each run with a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["SequenceBatch", "SequenceBatches", "pad_histories"]


@dataclass(frozen=True)
class SequenceBatch:
    """Histories, and what came after each of their items.

    Attributes:
        items: `(B, L)` int64, padded at the end with item 0.
        targets: `(B, L)` int64, the item after each.
        is_event: `(B, L)` bool, false for padding.
        num_events: of the batch over all processes.
    """

    items: torch.Tensor
    targets: torch.Tensor
    is_event: torch.Tensor
    num_events: int


class SequenceBatches:
    """Cuts each sequence to its last items and gathers sequences of about equal length: less
    padding, and most catalogues of users have few long ones.

    An epoch's batches depend on the seed and the epoch alone, and their number is the same in each
    epoch: a run that was stopped continues with exactly the batches that it would have seen.
    Several processes each take a part of every batch.

    Args:
        histories: of users, the oldest item first; those with fewer than two items teach nothing.
        max_length: L, most positions of a history.
        batch_events: positions of a batch over all processes, padding included.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.

    Raises:
        ValueError: no history has two items.
    """

    def __init__(
        self,
        histories: Sequence[np.ndarray],
        *,
        max_length: int,
        batch_events: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._histories = [each[-max_length - 1 :] for each in histories if len(each) > 1]
        if not self._histories:
            raise ValueError(
                "no sequence has two items or more, so nothing comes after anything; give more"
            )
        self._lengths = np.array([len(each) - 1 for each in self._histories])
        self._seed, self._part = seed, slice(rank, None, world_size)
        # Cut where the sorted lengths say, so every epoch has the same batches of lengths.
        self._cuts = _cut_by_events(np.sort(self._lengths), batch_events)

    def __len__(self) -> int:
        """Returns the number of batches an epoch."""
        return len(self._cuts) - 1

    def indices(self, epoch: int) -> list[np.ndarray]:
        """Returns the sequences of each batch of an epoch, over all processes."""
        random = np.random.default_rng([self._seed, epoch])
        shuffled = random.permutation(len(self._lengths))
        order = shuffled[np.argsort(self._lengths[shuffled], kind="stable")]
        batches = [order[a:b] for a, b in zip(self._cuts[:-1], self._cuts[1:], strict=True)]
        return [batches[number] for number in random.permutation(len(batches))]

    def make(self, indices: np.ndarray) -> SequenceBatch:
        """Returns this process's part of a batch; it may be empty."""
        own = [self._histories[index] for index in indices[self._part]]
        items, is_event = pad_histories([each[:-1] for each in own])
        targets, _ = pad_histories([each[1:] for each in own])
        num_events = int(self._lengths[indices].sum())
        return SequenceBatch(items, targets, is_event, num_events)


def pad_histories(histories: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns `(B, L)` int64 items, padded at the end with 0, and `(B, L)` bool: what is no
    padding. L is the longest length, at least 1."""
    lengths = np.array([len(each) for each in histories], np.int64)
    is_item = np.arange(max(1, lengths.max(initial=0)))[None, :] < lengths[:, None]
    items = np.zeros(is_item.shape, np.int64)
    items[is_item] = np.concatenate([np.zeros(0, np.int64), *histories])
    return torch.from_numpy(items), torch.from_numpy(is_item)


def _cut_by_events(sorted_lengths: np.ndarray, batch_events: int) -> np.ndarray:
    """Returns where batches begin and end: as many sequences as, padded to their longest, have at
    most `batch_events` positions; at least one."""
    cuts, first = [0], 0
    for index, length in enumerate(sorted_lengths):
        if index > first and (index - first + 1) * length > batch_events:
            cuts.append(index)
            first = index
    return np.array([*cuts, len(sorted_lengths)])
