"""The online model: an impression -> probabilities of a long view, a click, a like.

A linear model of each head over two kinds of inputs, learned by FTRL-proximal:

- dense features: by how much the log-odds of each running counter differ from those of its parent,
  what a history says of the user and the video, and how much what the video shows is to the user's
  taste;
- one weight for each key of `NAMESPACES` and for each value of the tables of users and videos.

So what only depends on the user adds the same to all videos of a session and cannot change their
order; following a user's mood costs nothing there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from reelseek.recommendation.learning import counters
from reelseek.recommendation.learning.counters import COUNTED
from reelseek.recommendation.learning.ftrl import Rates, gradient_step, weights_of
from reelseek.recommendation.learning.groups import Groups
from reelseek.recommendation.learning.id_table import IdTable, Key
from reelseek.recommendation.learning.impressions import HEADS, Impressions, Outcomes, Profiles
from reelseek.recommendation.learning.namespaces import NAMESPACES, Namespace, keys_of
from reelseek.recommendation.learning.prior import Prior
from reelseek.recommendation.learning.row_table import RowTable
from reelseek.recommendation.learning.tastes import NUM_TASTE_FEATURES, Tastes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RATES_USED", "ROOT_RATES", "ModelSettings", "OnlineModel", "Scored"]

_DAY_MS = 86_400_000.0
ROOT_RATES = np.array([0.3, 0.4, 0.02, 0.5])  # before the first event: long views, clicks, ...
RATES_USED = [0, 1, 3]  # likes are too rare for a rate of each counter
_MAX_AGE_DAYS = 30.0
_ROWS_OF_USER = 20  # of the table, for each user whose taste is kept
_NUM_PRIOR = 7  # features of a history


def _no_code(_: object) -> bytes:
    """Nothing is known of what videos show."""
    return b""


@dataclass(frozen=True)
class ModelSettings:
    """What the model is made with; the defaults are chosen by a split in time.

    Attributes:
        capacity: rows of the table, some 450 bytes each.
        max_candidates: keys that wait for their admission.
        min_sightings: before a key of several columns, or of a video, gets a row.
        expire_days: without an event, after which a key loses its row.
        dense: learning rates of dense features.
        sparse: learning rates of the weights of keys.
        profile: learning rates of the values of tables.
    """

    capacity: int = 1_000_000
    max_candidates: int = 1_000_000
    min_sightings: int = 1
    expire_days: float = 90.0
    dense: Rates = field(default_factory=lambda: Rates(alpha=0.02, beta=1.0, l2=1.0))
    sparse: Rates = field(default_factory=lambda: Rates(alpha=0.02, beta=1.0, l2=5.0))
    profile: Rates = field(default_factory=lambda: Rates(alpha=0.02, beta=1.0, l2=1.0))


@dataclass(frozen=True)
class Scored:
    """Predictions, and the inputs that a later step learns from.

    Attributes:
        probabilities: `(k, len(HEADS))`.
        dense: `(k, num_features)`.
        profile: `(k, num_columns)` positions among the weights of tables; -1 for none.
        keys: of all namespaces, one after another; None where they are not kept.
        found: the rows of the keys.
        version: of the model; as long as it has not changed, probabilities and rows hold.
    """

    probabilities: np.ndarray
    dense: np.ndarray
    profile: np.ndarray
    keys: list[Key | None] | None = None
    found: list[int] | None = None
    version: int = -1

    def take(self, index: np.ndarray | slice) -> "Scored":
        return Scored(self.probabilities[index], self.dense[index], self.profile[index])


class OnlineModel(RowTable):
    """See the top of this module. Deterministic: the same calls give the same bits.

    Args:
        prior: of users and videos, from a history.
        users, videos: tables of features.

    Attributes:
        code_of: gives the code of what a video shows, empty where that is not known; to be set by
            who knows.
    """

    ROW_ARRAYS = ("counts", "counted_ms", "row_z", "row_n")

    def __init__(
        self,
        settings: ModelSettings | None = None,
        *,
        prior: Prior | None = None,
        users: Profiles | None = None,
        videos: Profiles | None = None,
        namespaces: tuple[Namespace, ...] = NAMESPACES,
    ) -> None:
        self.settings = settings or ModelSettings()
        self.prior = prior or Prior()
        self.users, self.videos = users or Profiles.empty(), videos or Profiles.empty()
        self.namespaces = namespaces
        self.table = IdTable(
            capacity=self.settings.capacity, max_candidates=self.settings.max_candidates
        )
        self.tastes = Tastes(max_users=max(1, self.settings.capacity // _ROWS_OF_USER))
        self.code_of: Callable[[Any], bytes] = _no_code
        self.clock_ms = -np.inf  # the latest event time that was learned
        self.next_expiry_ms = -np.inf
        self.num_learned = 0
        self._version = 0
        self._prepare_namespaces()
        size, heads = self.table.size, len(HEADS)
        self.counts = np.zeros((size, len(COUNTED)))
        self.counted_ms = np.zeros(size)
        self.is_changed = np.zeros(size, bool)  # rows since the state was last stored
        self.row_z, self.row_n = np.zeros((size, heads)), np.zeros((size, heads))
        num_values = self.users.num_values + self.videos.num_values
        self.profile_z, self.profile_n = (
            np.zeros((num_values, heads)),
            np.zeros((num_values, heads)),
        )
        self.first_weights = self._first_weights()
        self.dense_z, self.dense_n = (np.zeros_like(self.first_weights) for _ in range(2))

    def predict(self, impressions: Impressions, now_ms: np.ndarray | None = None) -> Scored:
        """Predicts without learning.

        Args:
            now_ms: `(k,)`, up to when counters decay; default: the times of the impressions.
        """
        now_ms = impressions.time_ms if now_ms is None else now_ms
        keys = self._keys_of(impressions)
        found = self.table.find(keys)
        rows = self._rows_of(found)
        dense = self._dense_features(impressions, rows, now_ms=now_ms)
        profile = self._profile_positions(impressions)
        probabilities = _sigmoid(self._logits(dense, rows, profile=profile))
        return Scored(probabilities, dense, profile, keys, found, self._version)

    def learn(self, scored: Scored, impressions: Impressions, *, outcomes: Outcomes) -> None:
        """Learns a batch, as one step of all its weights and counters.

        Args:
            scored: what `predict` returned for these impressions, at whatever time.
        """
        if not len(impressions):
            return
        self.clock_ms = max(self.clock_ms, float(impressions.time_ms.max()))
        keys = self._keys_of(impressions) if scored.keys is None else scored.keys
        rows = self._observe(keys, scored)
        probabilities = scored.probabilities
        if scored.version != self._version:  # rows that are new have no weights yet
            probabilities = _sigmoid(self._logits(scored.dense, rows, profile=scored.profile))
        self._version += 1
        gradient = probabilities - outcomes.labels
        self._step_dense(scored.dense, gradient)
        self._step_profile(scored.profile, gradient)
        self._step_rows(rows, impressions, gradient=gradient, outcomes=outcomes)
        self._add_to_tastes(impressions, -gradient)
        self.num_learned += len(impressions)
        self._expire()

    def correct(self, scored: Scored, impressions: Impressions, *, change: Outcomes) -> None:
        """Corrects labels that were learned too early.

        The gradient of the logistic loss is (p - y) x, so the gradients of a wrong label and of the
        right one differ by the change of y times x, whatever p was: one more step with this
        difference leads to the sum of gradients that the right label alone would have given.
        Counters get the difference too, as of the time of the impression.

        Args:
            scored: what was learned from then. Inputs of now would not do: they know of the wrong
                label, and weights would learn to turn them around (AUC falls by .08).
            change: right labels, and seconds, less those that were learned.
        """
        if not len(impressions):
            return
        self._version += 1
        gradient = -change.labels
        self._step_dense(scored.dense, gradient)
        self._step_profile(scored.profile, gradient)
        self._step_rows(
            self._rows_of(self.table.find(self._keys_of(impressions))),
            impressions,
            gradient=gradient,
            outcomes=change,
            num_events=0.0,
        )
        self._add_to_tastes(impressions, change.labels, num_events=0.0)

    def new(self) -> "OnlineModel":
        """Returns a model that has learned nothing, else like this one."""
        made = OnlineModel(
            self.settings,
            prior=self.prior,
            users=self.users,
            videos=self.videos,
            namespaces=self.namespaces,
        )
        made.code_of = self.code_of
        return made

    def become(self, other: "Self") -> None:
        """Takes over an earlier state of the same model, which is used up by it.

        Rows that were given out since are free then; all count as changed.
        """
        version, tastes = self._version + 1, self.tastes
        tastes.become(other.tastes)
        super().become(other)
        self._version, self.tastes = version, tastes

    def forget(self, is_deleted: Callable[[object], bool]) -> int:
        """Removes the counters, weights and tastes of users; returns how many keys they had.
        What they have changed in counters and weights that are not theirs stays."""
        self.tastes.forget(is_deleted)
        return self.remove_keys(lambda key: self._is_of_user(key) and is_deleted(key[1]))

    def _is_of_user(self, key: Key) -> bool:
        return self.namespaces[key[0]].columns[:1] == ("user",)

    def _prepare_namespaces(self) -> None:
        names = [namespace.name for namespace in self.namespaces]
        self.parents = np.array([names.index(n.parent or n.name) for n in self.namespaces])
        self.half_lives = np.array([n.half_life_days for n in self.namespaces])
        self.smoothing = np.array([n.smoothing for n in self.namespaces])
        distance = np.zeros(len(names), np.int64)
        for index, parent in enumerate(self.parents):
            distance[index] = 0 if parent == index else distance[parent] + 1
        self._levels = [np.flatnonzero(distance == d) for d in range(distance.max() + 1)]
        self.children = np.flatnonzero(distance > 0)
        self._num_rates = len(self.children) * len(RATES_USED)
        self._recent = [i for i, name in enumerate(names) if name.startswith("user")][:4]
        first = self._num_rates + len(self._recent)
        self.taste_features = slice(first, first + NUM_TASTE_FEATURES)  # among the dense ones

    def _first_weights(self) -> np.ndarray:
        """A history's effects and the tab's rate count fully before anything is learned."""
        weights = np.zeros((self.taste_features.stop + _NUM_PRIOR, len(HEADS)))
        for column, used in enumerate(RATES_USED):
            first = column * len(self.children)
            if used < len(HEADS):
                weights[first, used] = 1.0  # the tab, which is the first child
        weights[-_NUM_PRIOR : 2 - _NUM_PRIOR, :2] = 1.0
        return weights

    def _keys_of(self, impressions: Impressions) -> list[Key | None]:
        return [key for each in keys_of(impressions, self.namespaces) for key in each]

    def _rows_of(self, found: list[int]) -> np.ndarray:
        """`(k, num_namespaces)`, of rows of keys as `_keys_of` orders them."""
        return np.array(found, np.int64).reshape(len(self.namespaces), -1).T

    def _observe(self, keys: list[Key | None], scored: Scored) -> np.ndarray:
        """Returns the rows after one more sighting of each key; new rows begin empty.

        Args:
            scored: whose rows are taken, where they still hold.
        """
        if len(keys) > self.table.capacity - len(self.table):
            self.clear(self.table.reclaim(len(keys), self.counts[:, 0] <= 1))
        needed: int | list[int] = 1
        if self.settings.min_sightings > 1:
            num = len(keys) // len(self.namespaces)
            needed = [
                self.settings.min_sightings if len(namespace.columns) > 1 else 1
                for namespace in self.namespaces
                for _ in range(num)
            ]
        known = scored.found if scored.version == self._version else None
        found = self.table.observe(keys, min_sightings=needed, now_ms=self.clock_ms, found=known)
        self.grow()
        return self._rows_of(found)

    def clear(self, rows: np.ndarray) -> None:
        self._version += 1
        super().clear(rows)

    def _expire(self) -> None:
        """Looks once a day of event time for what has not been seen for long."""
        if self.clock_ms >= self.next_expiry_ms:
            before_ms = self.clock_ms - self.settings.expire_days * _DAY_MS
            self.clear(self.table.expire(before_ms))
            self.tastes.expire(before_ms)
            self.next_expiry_ms = self.clock_ms + _DAY_MS

    def _dense_features(
        self, impressions: Impressions, rows: np.ndarray, *, now_ms: np.ndarray
    ) -> np.ndarray:
        left = counters.decay(now_ms[:, None] - self.counted_ms[rows], self.half_lives)
        counts = self.counts[rows] * np.where(rows >= 0, left, 0.0)[:, :, None]
        rates = counters.shrunken_rates(
            counts,
            levels=self._levels,
            parents=self.parents,
            smoothing=self.smoothing,
            root=ROOT_RATES,
        )
        odds = counters.log_odds(rates[:, :, RATES_USED])
        differences = odds[:, self.children] - odds[:, self.parents[self.children]]
        return np.concatenate(
            [
                differences.transpose(0, 2, 1).reshape(len(rows), self._num_rates),
                np.log1p(counts[:, self._recent, 0]),
                self._taste_features(impressions, now_ms),
                self._prior_features(impressions, now_ms),
            ],
            axis=1,
        )

    def _taste_features(self, impressions: Impressions, now_ms: np.ndarray) -> np.ndarray:
        if not len(self.tastes):
            return np.zeros((len(impressions), NUM_TASTE_FEATURES))
        codes = [self.code_of(video) for video in impressions.video.tolist()]
        return self.tastes.features(impressions.user.tolist(), codes, now_ms)

    def _add_to_tastes(
        self, impressions: Impressions, residuals: np.ndarray, *, num_events: float = 1.0
    ) -> None:
        if self.code_of is _no_code:
            return
        self.tastes.add(
            impressions.user.tolist(),
            [self.code_of(video) for video in impressions.video.tolist()],
            times_ms=impressions.time_ms,
            residuals=residuals,
            now_ms=self.clock_ms,
            num_events=num_events,
        )

    def _prior_features(self, impressions: Impressions, now_ms: np.ndarray) -> np.ndarray:
        """`(k, 7)`: effects of user and video, logarithms of their counts, whether each is unknown,
        and the video's age."""
        none = (0.0, 0.0)
        user = [self.prior.user.get(each, none) for each in impressions.user.tolist()]
        ids = zip(
            impressions.video.tolist(),
            impressions.author.tolist(),
            impressions.tag.tolist(),
            strict=True,
        )
        video = [self.prior.of_video(each, author, tag=tag) for each, author, tag in ids]
        effects = np.array([user, video]).reshape(2, len(impressions), 2)
        known = effects[:, :, 1].T
        age = now_ms / _DAY_MS - impressions.upload_day
        age = np.clip(np.nan_to_num(age / _MAX_AGE_DAYS, nan=0.5), 0.0, 1.0)
        return np.concatenate(
            [effects[:, :, 0].T, np.log1p(known) / 4, known == 0, age[:, None]], axis=1
        )

    def _profile_positions(self, impressions: Impressions) -> np.ndarray:
        found = []
        for table, ids, first in (
            (self.users, impressions.user, 0),
            (self.videos, impressions.video, self.users.num_values),
        ):
            none = np.full(table.num_columns, -1 - first)
            codes = [table.codes.get(each, none) for each in ids.tolist()]
            found.append(
                np.array(codes, np.int64).reshape(len(impressions), table.num_columns) + first
            )
        return np.concatenate(found, axis=1)

    def _logits(self, dense: np.ndarray, rows: np.ndarray, *, profile: np.ndarray) -> np.ndarray:
        weights = self.first_weights + weights_of(self.dense_z, self.dense_n, self.settings.dense)
        # Sums of products by einsum do not depend on the size of the batch, unlike those of BLAS.
        logits = np.einsum("kf,fh->kh", dense, weights)
        of_rows = weights_of(self.row_z[rows], self.row_n[rows], self.settings.sparse)
        logits += np.where(rows[:, :, None] >= 0, of_rows, 0.0).sum(axis=1)
        if profile.shape[1]:
            state = self.profile_z[profile], self.profile_n[profile]
            of_values = weights_of(*state, self.settings.profile)
            logits += np.where(profile[:, :, None] >= 0, of_values, 0.0).sum(axis=1)
        return logits

    def _step_dense(self, dense: np.ndarray, gradient: np.ndarray) -> None:
        self.dense_z, self.dense_n = gradient_step(
            self.dense_z,
            self.dense_n,
            gradient=np.einsum("kf,kh->fh", dense, gradient),
            squared=np.einsum("kf,kh->fh", dense**2, gradient**2),
            weights=weights_of(self.dense_z, self.dense_n, self.settings.dense),
            rates=self.settings.dense,
        )

    def _step_profile(self, profile: np.ndarray, gradient: np.ndarray) -> None:
        if profile.shape[1]:
            per_value = np.repeat(gradient, profile.shape[1], axis=0)
            _step(
                self.profile_z,
                self.profile_n,
                groups=Groups(profile.ravel()),
                gradient=per_value,
                rates=self.settings.profile,
            )

    def _step_rows(
        self,
        rows: np.ndarray,
        impressions: Impressions,
        *,
        gradient: np.ndarray,
        outcomes: Outcomes,
        num_events: float = 1.0,
    ) -> None:
        num = len(self.namespaces)
        groups = Groups(rows.ravel())
        _step(
            self.row_z,
            self.row_n,
            groups=groups,
            gradient=np.repeat(gradient, num, axis=0),
            rates=self.settings.sparse,
        )
        events = np.full((len(rows), 1), num_events)
        counted = np.concatenate([events, outcomes.labels, outcomes.watched[:, None]], axis=1)
        elapsed = self.clock_ms - impressions.time_ms
        late = counters.decay(elapsed[:, None].astype(np.float64), self.half_lives)
        added = (counted[:, None, :] * late[:, :, None]).reshape(rows.size, -1)
        unique, sums = groups.unique, groups.sums(added)
        half_life = self.half_lives[groups.first % num]
        left = counters.decay(self.clock_ms - self.counted_ms[unique], half_life)
        self.counts[unique] = self.counts[unique] * left[:, None] + sums
        self.counted_ms[unique] = self.clock_ms
        self.is_changed[unique] = True


def _step(
    z: np.ndarray, n: np.ndarray, *, groups: Groups, gradient: np.ndarray, rates: Rates
) -> None:
    """A step of weights that appear several times in a batch, in place."""
    unique, sums = groups.unique, groups.sums(np.concatenate([gradient, gradient**2], axis=1))
    old_z, old_n = z[unique], n[unique]
    heads = gradient.shape[1]
    z[unique], n[unique] = gradient_step(
        old_z,
        old_n,
        gradient=sums[:, :heads],
        squared=sums[:, heads:],
        weights=weights_of(old_z, old_n, rates),
        rates=rates,
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -30.0, 30.0)))
