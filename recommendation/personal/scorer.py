"""What the model has learned of a user -> how much the user is for each of some videos.

The model is linear in its logits, so what a user's own counters and weights of authors, tags and
durations, and the user's taste for what videos show add to a video's logit is a part of it that can
be named. It is 0 for a video of which nothing of this kind is known, and for a user who is not
known. All else in the logit is left out: it is the same for all videos of a list, or the same for
all users.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.learning import counters
from reelseek.recommendation.learning.counters import COUNTED
from reelseek.recommendation.learning.examples import VideoFacts
from reelseek.recommendation.learning.ftrl import weights_of
from reelseek.recommendation.learning.impressions import HEADS, NO_ID
from reelseek.recommendation.learning.model import RATES_USED, ROOT_RATES, OnlineModel
from reelseek.recommendation.learning.namespaces import duration_bins

__all__ = ["ASPECTS", "PersonalScorer", "PersonalScores"]

_COUNTED_ASPECTS = ("author", "tag", "duration")
ASPECTS = (*_COUNTED_ASPECTS, "content")
# Whoever is shown a list wants to open a video and to watch it: both count the same.
_SCORED_HEADS = ("long_view", "click")
_NOT_KNOWN = object()  # is in no key


@dataclass(frozen=True, eq=False)
class PersonalScores:
    """
    Attributes:
        logits: `(n, len(ASPECTS))`, what each aspect adds, the mean over the heads that count.
        num_chosen: `(n, len(ASPECTS))`, how often the user has opened such videos, or watched them
            for long, as far as it has not decayed; of the content, any videos.
    """

    logits: np.ndarray
    num_chosen: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """`(n,)`, above -1 and below 1; 0 where nothing is known."""
        return np.tanh(self.logits.sum(axis=1))

    @classmethod
    def nothing(cls, num: int) -> "PersonalScores":
        return cls(np.zeros((num, len(ASPECTS))), np.zeros((num, len(ASPECTS))))


class PersonalScorer:
    """Scores videos for a user by the state that the model has at the time of the call.

    Args:
        model: whose namespaces include those of a user, and of a user and each aspect.
    """

    def __init__(self, model: OnlineModel) -> None:
        self._model = model
        by_columns: dict[tuple[str, ...], int] = {}
        for number, namespace in enumerate(model.namespaces):
            by_columns.setdefault(namespace.columns, number)
        user = by_columns["user",]
        own = [by_columns["user", aspect] for aspect in _COUNTED_ASPECTS]
        root = int(model.parents[user])
        if any(model.parents[number] != user for number in own) or model.parents[root] != root:
            raise ValueError("the parent of a user's namespaces must be the user, below the root")
        self._used = np.array([root, user, *own])
        self._parents = np.array([0, 0, *(1 for _ in own)])
        self._levels = [np.array([0]), np.array([1]), np.arange(2, len(self._used))]
        self._half_lives = model.half_lives[self._used]
        self._smoothing = model.smoothing[self._used]
        children = model.children.tolist()
        self._features = np.array(
            [
                [rate * len(children) + children.index(number) for rate in range(len(RATES_USED))]
                for number in own
            ]
        )
        self._heads = [HEADS.index(head) for head in _SCORED_HEADS]
        self._chosen = [COUNTED.index(name) for name in _SCORED_HEADS]

    def score(self, user: str, videos: Sequence[VideoFacts], *, now_ms: float) -> PersonalScores:
        """Scores videos.

        Args:
            now_ms: Unix time up to which counters decay.
        """
        model = self._model
        root, of_user, *own = self._used.tolist()
        common = model.table.find([(root,), (of_user, user)])
        if common[1] < 0 or not videos:  # has done nothing yet, or is forgotten
            return PersonalScores.nothing(len(videos))
        rows = np.empty((len(videos), len(self._used)), np.int64)
        rows[:, :2] = common
        for column, (namespace, values) in enumerate(zip(own, _values(videos), strict=True), 2):
            rows[:, column] = model.table.find([(namespace, user, value) for value in values])

        left = counters.decay(now_ms - model.counted_ms[rows], self._half_lives)
        is_counted = rows >= 0
        counts = model.counts[rows] * np.where(is_counted, left, 0.0)[:, :, None]
        rates = counters.shrunken_rates(
            counts,
            levels=self._levels,
            parents=self._parents,
            smoothing=self._smoothing,
            root=ROOT_RATES,
        )
        odds = counters.log_odds(rates[:, :, RATES_USED])
        differences = odds[:, 2:] - odds[:, 1:2]  # (n, aspects, rates)
        weights = model.first_weights + weights_of(
            model.dense_z, model.dense_n, model.settings.dense
        )
        by_rate = np.einsum("nar,arh->nah", differences, weights[self._features])
        own_rows = rows[:, 2:]
        by_row = weights_of(model.row_z[own_rows], model.row_n[own_rows], model.settings.sparse)
        logits = by_rate + np.where(is_counted[:, 2:, None], by_row, 0.0)
        tastes = self._model.tastes.features(
            [user] * len(videos),
            [video.code for video in videos],
            np.full(len(videos), now_ms, np.float64),
        )
        by_taste = np.einsum("nf,fh->nh", tastes, weights[model.taste_features])
        logits = np.concatenate([logits, by_taste[:, None]], axis=1)
        num_chosen = counts[:, [*range(2, counts.shape[1]), 1]][:, :, self._chosen].sum(axis=2)
        return PersonalScores(logits[:, :, self._heads].mean(axis=2), num_chosen)


def _values(videos: Sequence[VideoFacts]) -> list[list[Hashable]]:
    """The value of each aspect of each video; one that is in no key where it is not known, as
    videos that lack an author have nothing in common."""
    durations = np.array([video.duration_ms for video in videos], np.float64)
    bins = duration_bins(durations).tolist()
    return [
        [_NOT_KNOWN if video.author == NO_ID else video.author for video in videos],
        [video.tag or _NOT_KNOWN for video in videos],
        [
            _NOT_KNOWN if is_unknown else each
            for each, is_unknown in zip(bins, np.isnan(durations).tolist(), strict=True)
        ],
    ]
