"""Rankings of several sources -> one ranking, by reciprocal ranks."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

_SCORE_CUTOFF = 0.7

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Fused:
    """An item of the fused ranking.

    Attributes:
        score: the sum, over the sources that found it, of weight / (k + rank).
        ranks: its rank in each of those sources, from 1.
    """

    item: Hashable
    score: float
    ranks: dict[str, int]


def score_cutoff(
    items: Sequence[Item], scores: Sequence[float], *, fraction: float = _SCORE_CUTOFF
) -> list[Item]:
    """Returns the items that score nearly as high as a source's best, for sources whose scores tell
    a good match from a poor one, as BM25's do.

    Ranks alone do not tell a match of one word from one of all words; and where only some videos
    have texts, even the best of them may be poor.

    Args:
        items: best first.
        scores: theirs, in falling order; those of 0 or less match nothing.
        fraction: of the best score, 0 to 1. Chosen in benchmarks/ranker.py.

    Raises:
        ValueError: as many scores as items are needed, in falling order; or the fraction is out of
            range.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction}: must be 0 to 1")
    if len(items) != len(scores) or any(a < b for a, b in pairwise(scores)):
        raise ValueError(
            f"{len(scores)} scores for {len(items)} items: must be as many, in falling order"
        )
    min_score = fraction * scores[0] if len(scores) else 0.0
    return [
        item for item, score in zip(items, scores, strict=True) if score > 0 and score >= min_score
    ]


def fuse_reciprocal_ranks(
    rankings: Mapping[str, Sequence[Hashable]],
    *,
    k: float = 60.0,
    weights: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
) -> list[Fused]:
    """Reciprocal rank fusion (Cormack et al. 2009, "Reciprocal Rank Fusion outperforms Condorcet
    and individual Rank Learning Methods", section 2).

    Scores of different sources, which have no common unit, are not compared: only ranks are.
    Items of the result that tie are ordered by their best rank, then by the order of the sources.

    Args:
        rankings: of each source its items, best first. An item that comes again in a source, as a
            video does with several of its moments, counts where it came first, and ranks count
            different items.
        k: at least 0; the greater, the smaller the advantage of the first ranks.
        weights: of sources, at least 0; 1 for those not named. A source of weight 0 is left out.
        scores: of the items of a source, which need not be among `scores`: those that follow each
            other and score the same share the best of their ranks, as the order of texts with the
            same words says nothing.

    Returns:
        Every item that any source found, best first.

    Raises:
        ValueError: k or a weight is out of range, a weight or a score is of no source, or a source
            has not as many scores as items.
    """
    if not (math.isfinite(k) and k >= 0):
        raise ValueError(f"k={k}: must be finite and at least 0; 60 is usual")
    weights = {} if weights is None else weights
    scores = {} if scores is None else scores
    _check_weights(weights, rankings)
    for source, given in scores.items():
        if source not in rankings or len(given) != len(rankings[source]):
            raise ValueError(f"scores[{source!r}]: must be as many as that source has items")
    totals: dict[Hashable, float] = {}
    ranks: dict[Hashable, dict[str, int]] = {}
    for source, items in rankings.items():
        weight = weights.get(source, 1.0)
        if weight == 0:
            continue
        for item, rank in _ranks(items, scores.get(source)).items():
            totals[item] = totals.get(item, 0.0) + weight / (k + rank)
            ranks.setdefault(item, {})[source] = rank
    # Sorting is stable, and items were first seen in the order of the sources.
    order = sorted(totals, key=lambda item: (-totals[item], min(ranks[item].values())))
    return [Fused(item, totals[item], ranks[item]) for item in order]


def _ranks(items: Sequence[Hashable], scores: Sequence[float] | None) -> dict[Hashable, int]:
    """Each item's rank where it first comes; the same one for items of the same score."""
    ranks: dict[Hashable, int] = {}
    rank, score = 0, None
    for index, item in enumerate(items):
        if item in ranks:
            continue
        if scores is None or scores[index] != score:
            rank, score = len(ranks) + 1, None if scores is None else scores[index]
        ranks[item] = rank
    return ranks


def _check_weights(weights: Mapping[str, float], rankings: Mapping[str, object]) -> None:
    for source, weight in weights.items():
        if source not in rankings:
            raise ValueError(
                f"weights names {source!r}, which is no source: must be of "
                f"{', '.join(map(repr, rankings)) or 'none'}"
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weights[{source!r}]={weight}: must be finite and at least 0")
