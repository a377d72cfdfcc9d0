"""The order of the pairs in each epoch -> batches, the same for every run with the same seed.

The indices of a batch depend on the seed, the epoch and the batch's number in it, never on the
batches before: a run that was stopped inside an epoch continues with exactly the batches that it
would have seen, and several processes share one global batch.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np


class BatchOrder(Protocol):
    """The batches of each epoch as pairs of indices, the same in each run with the same seed."""

    def __len__(self) -> int: ...

    def of_epoch(self, epoch: int, *, first: int = 0) -> Iterator[list[tuple[int, int]]]: ...


class EpochBatches:
    """The order of the pairs in each epoch, cut into batches.

    Pairs that do not fill the last batch are left out; another epoch's order has them.

    Args:
        num_pairs: of the dataset.
        weights: `(num_pairs,)` how often each pair is seen in an epoch, on average; default: once.
        batch_size: pairs of the global batch, over all processes.
        seed: of the order.
        rank, world_size: each process takes an equal, consecutive part of each global batch.
        of: what a pair is, for errors.

    Raises:
        ValueError: too few pairs to fill a batch, or a batch that the processes do not divide.
    """

    def __init__(
        self,
        num_pairs: int,
        *,
        batch_size: int,
        seed: int,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
        of: str = "a video and a caption",
    ) -> None:
        if batch_size % world_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: must be a multiple of the {world_size} processes"
            )
        self._weights = np.ones(num_pairs) if weights is None else weights
        self._num_seen = int(self._weights.sum() + 1e-6)
        if self._num_seen < batch_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: there are only {self._num_seen} pairs of "
                f"{of} in an epoch; make it smaller"
            )
        self._batch_size = batch_size
        self._seed = seed
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __len__(self) -> int:
        """Returns the number of batches an epoch."""
        return self._num_seen // self._batch_size

    def of_epoch(self, epoch: int, *, first: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yields this process's `(epoch, pair)` indices for each batch, from batch `first` on."""
        order = self._order(np.random.default_rng([self._seed, epoch])).tolist()
        for batch in range(first, len(self)):
            start = batch * self._batch_size
            whole = order[start : start + self._batch_size]
            yield [(epoch, number) for number in whole[self._part]]

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """Returns the epoch's pairs, each as often as its weight, rounded up or down by systematic
        resampling (Kitagawa 1996, appendix): so all epochs have the same number of pairs."""
        shuffled = random.permutation(len(self._weights))
        # Each pair covers an interval as long as its weight; it appears once for each whole number
        # within the interval.
        ends = np.floor(self._weights[shuffled].cumsum() + 1e-6).astype(int)
        counts = np.diff(ends, prepend=0)
        return random.permutation(np.repeat(shuffled, counts))
