"""What the sources say of each video -> one score: a weighted sum.

The weights are options. Each part is between 0 and 1: of `co_watch`, `factors`, `sequence` and
`content`, the score divided by the best of the request; of `popularity`, the logarithm of one more
than its watchers lately, likewise; `freshness` halves every two weeks; `shown` is taken off: a
third for each time the video was shown to the user and not opened, at most three. `personal` is -1
to 1, what the learned model says of the user and the video; 0 where it says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reelseek.recommendation.feed.candidates import SOURCES, CandidateTable

__all__ = ["DEFAULT_WEIGHTS", "FeedWeights", "rank"]

DEFAULT_WEIGHTS = {
    **{"co_watch": 1.0, "factors": 0.5, "sequence": 1.0, "content": 0.4},
    **{"popularity": 0.2, "freshness": 0.15, "personal": 0.5, "shown": 0.3},
}
_MAX_SHOWN = 3


@dataclass(frozen=True)
class FeedWeights:
    """
    Attributes:
        by_name: of each source, of `personal` and `shown`; those that are missing are 0.

    Raises:
        ValueError: a name is unknown.
    """

    by_name: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)

    def __post_init__(self) -> None:
        known = (*SOURCES, "personal", "shown")
        unknown = sorted(set(self.by_name) - set(known))
        if unknown:
            raise ValueError(f"weights.{unknown[0]}: is unknown; known are {', '.join(known)}")


def rank(
    table: CandidateTable,
    weights: FeedWeights,
    *,
    shown: np.ndarray,
    personal: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Scores the candidates.

    Args:
        shown: `(n,)`, how often each was shown to the user.
        personal: `(n,)`, -1 to 1, how much the user is for each; None where nothing is known.

    Returns:
        `(n,)` scores, and what each part adds to them.
    """
    parts = {name: weights.by_name.get(name, 0.0) * table.scores[name] for name in SOURCES}
    if personal is not None:
        parts["personal"] = weights.by_name.get("personal", 0.0) * personal
    penalty = np.minimum(shown, _MAX_SHOWN) / _MAX_SHOWN
    parts["shown"] = -weights.by_name.get("shown", 0.0) * penalty
    return np.sum(list(parts.values()), axis=0), parts
