"""A seed -> the order of the samples in each epoch, as a pure function: nothing needs to be kept
to continue inside a shard, and the processes of a run share one global order."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from reelseek.training.batches import step_seed

# Parts of a seed, so that no two choices draw the same numbers.
_SHARDS, _SAMPLES, _SUBSTITUTES = range(3)


class ShardOrder:
    """Shards in random order; the samples of each group of them in random order, too.

    An epoch has a slot for each sample. Only the shards of one or two groups are read at a time, so
    the operating system's cache serves them.

    Args:
        shard_sizes: `(num_shards,)` samples of each shard.
        batch_size: samples of the global batch, over all processes.
        seed: of the order.
        shards_per_group: shards whose samples are mixed.
        rank, world_size: each process takes an equal, consecutive part of each global batch.

    Raises:
        ValueError: too few samples to fill a batch, or a batch that the processes do not divide.
    """

    def __init__(
        self,
        shard_sizes: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        shards_per_group: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: must be a multiple of the {world_size} processes"
            )
        self._sizes = np.asarray(shard_sizes, np.int64)
        self._firsts = self._sizes.cumsum() - self._sizes  # number of each shard's first sample
        self._num_samples = int(self._sizes.sum())
        if self._num_samples < batch_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: the shards hold only {self._num_samples} "
                "captioned samples; make it smaller"
            )
        self._batch_size = batch_size
        self._seed = seed
        self._per_group = shards_per_group
        self._part = range(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
        self._epoch_shards = lru_cache(2)(self._shuffled_shards)
        self._group_samples = lru_cache(3)(self._shuffled_group)

    def __len__(self) -> int:
        """Returns the number of batches an epoch; slots that fill no batch are left out."""
        return self._num_samples // self._batch_size

    def of_epoch(self, epoch: int, *, first: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yields this process's `(epoch, slot)` pairs for each batch, from batch `first` on."""
        for batch in range(first, len(self)):
            yield [(epoch, batch * self._batch_size + place) for place in self._part]

    def sample(self, epoch: int, slot: int, *, attempt: int = 0) -> int:
        """Returns the number of the sample in a slot.

        Args:
            epoch: from 0.
            slot: of the epoch, from 0.
            attempt: more than 0 for a substitute from the same group, where the samples of all
                attempts before are broken. All processes find the same one.
        """
        _, group_ends = self._epoch_shards(epoch)
        group = int(np.searchsorted(group_ends, slot, side="right"))
        samples = self._group_samples(epoch, group)
        if attempt:
            random = self._random(_SUBSTITUTES, epoch, slot, attempt)
            return int(samples[random.integers(len(samples))])
        return int(samples[slot - group_ends[group] + len(samples)])

    def _shuffled_shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the epoch's order of the shards, and the slot at which each group ends."""
        shards = self._random(_SHARDS, epoch).permutation(len(self._sizes))
        ends = self._sizes[shards].cumsum()
        lasts = np.arange(self._per_group - 1, len(shards) + self._per_group - 1, self._per_group)
        return shards, ends[np.minimum(lasts, len(shards) - 1)]

    def _shuffled_group(self, epoch: int, group: int) -> np.ndarray:
        """Returns the numbers of a group's samples in their order."""
        shards, _ = self._epoch_shards(epoch)
        own = shards[group * self._per_group : (group + 1) * self._per_group]
        numbers = [self._firsts[shard] + np.arange(self._sizes[shard]) for shard in own]
        return self._random(_SAMPLES, epoch, group).permutation(np.concatenate(numbers))

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng(step_seed(self._seed, *numbers))
