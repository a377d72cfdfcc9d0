"""What the videos show that a user watches and passes over -> how much a video is like it.

A taste is the sum of what a user's videos show, each counted by how much more it was watched than
predicted: the step that a linear model of the content, of this user alone, would take first. One
sum has a half-life of 30 days; the other, of the last watches, of an hour. What is corrected later
adds the difference, as with counters.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reelseek.recommendation.learning import counters
from reelseek.recommendation.learning.content_codes import CODE_LENGTH, directions_of
from reelseek.recommendation.learning.groups import Groups
from reelseek.recommendation.learning.id_table import IdTable
from reelseek.recommendation.learning.row_table import RowTable

__all__ = ["NUM_TASTE_FEATURES", "Tastes"]

_HALF_LIVES_DAYS = np.array([30.0, 1 / 24])
_NUM_HEADS = 2  # long views and clicks
NUM_TASTE_FEATURES = len(_HALF_LIVES_DAYS) * _NUM_HEADS

_SMOOTHING = 500.0  # videos that tell nothing, that each mean begins with
_SCALE = 250.0  # so that features are some tenths, as differences of log-odds are


class Tastes(RowTable):
    """Tastes of users, in rows of a table of their own; those seen last are kept.

    Attributes:
        table: of keys `(user,)`.
        vectors: `(size, half-lives, heads, CODE_LENGTH)` float32.
        num_seen: `(size, half-lives)`, videos.
        summed_ms: `(size,)`, event time up to which both have decayed.
    """

    ROW_ARRAYS = ("vectors", "num_seen", "summed_ms")

    def __init__(self, *, max_users: int) -> None:
        self.table = IdTable(capacity=max_users, max_candidates=1)
        size, num = self.table.size, len(_HALF_LIVES_DAYS)
        self.vectors = np.zeros((size, num, _NUM_HEADS, CODE_LENGTH), np.float32)
        self.num_seen = np.zeros((size, num))
        self.summed_ms = np.zeros(size)
        self.is_changed = np.zeros(size, bool)

    def __len__(self) -> int:
        return len(self.table)

    def has(self, user: Any) -> bool:
        return self.table.find([(user,)])[0] >= 0

    def features(
        self, users: Sequence[Any], codes: Sequence[bytes], now_ms: np.ndarray
    ) -> np.ndarray:
        """Compares videos with what users are for.

        Args:
            users: `n` ids.
            codes: of what the videos show; empty where that is not known.
            now_ms: `(n,)`, up to when tastes decay.

        Returns:
            `(n, NUM_TASTE_FEATURES)`; 0 where nothing is known.
        """
        rows = np.array(self.table.find([(user,) for user in users]), np.int64)
        features = np.zeros((len(rows), len(_HALF_LIVES_DAYS), _NUM_HEADS))
        is_known = (rows >= 0) & np.array([len(code) > 0 for code in codes], bool)
        if is_known.any():
            known = rows[is_known]
            directions = directions_of([codes[row] for row in np.flatnonzero(is_known)])
            elapsed = now_ms[is_known] - self.summed_ms[known]
            left = counters.decay(elapsed[:, None], _HALF_LIVES_DAYS)
            # Not by BLAS, whose sums depend on how many there are.
            likeness = np.einsum("nthd,nd->nth", self.vectors[known].astype(np.float64), directions)
            weight = _SCALE * left / (left * self.num_seen[known] + _SMOOTHING)
            features[is_known] = likeness * weight[:, :, None]
        return features.reshape(len(rows), NUM_TASTE_FEATURES)

    def add(
        self,
        users: Sequence[Any],
        codes: Sequence[bytes],
        *,
        times_ms: np.ndarray,
        residuals: np.ndarray,
        now_ms: float,
        num_events: float = 1.0,
    ) -> None:
        """Adds videos.

        Args:
            times_ms: `(n,)`, of the impressions.
            residuals: `(n, >= _NUM_HEADS)`, labels less what was predicted, or changes of
                labels.
            num_events: 0 for changes.
        """
        told = [index for index, code in enumerate(codes) if code]
        if not told:
            return
        keys = [(users[index],) for index in told]
        if len(keys) > self.table.capacity - len(self.table):
            self.clear(self.table.reclaim(len(keys)))
        rows = np.array(self.table.observe(keys, min_sightings=1, now_ms=now_ms), np.int64)
        self.grow()
        directions = directions_of([codes[index] for index in told])
        late = counters.decay((now_ms - times_ms[told])[:, None], _HALF_LIVES_DAYS)
        residuals = residuals[told, :_NUM_HEADS]
        added = late[:, :, None, None] * residuals[:, None, :, None] * directions[:, None, None, :]
        groups = Groups(rows)
        unique = groups.unique
        left = counters.decay((now_ms - self.summed_ms[unique])[:, None], _HALF_LIVES_DAYS)
        self.vectors[unique] = self.vectors[unique] * left[:, :, None, None] + groups.sums(added)
        self.num_seen[unique] = self.num_seen[unique] * left + groups.sums(num_events * late)
        self.summed_ms[unique] = now_ms
        self.is_changed[unique] = True

    def expire(self, before_ms: float) -> None:
        """Drops the users of whom nothing was heard since a time."""
        self.clear(self.table.expire(before_ms))

    def forget(self, is_deleted: Callable[[Any], bool]) -> None:
        self.remove_keys(lambda key: is_deleted(key[0]))
