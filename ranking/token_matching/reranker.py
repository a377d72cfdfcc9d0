"""The best videos of a search -> their order by late interaction too."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reelseek.indexing.hits import SearchHit
from reelseek.indexing.reader import IndexReader
from reelseek.ranking.evidence import Evidence
from reelseek.ranking.token_matching.matching import MAX_FRAMES, TokenMatchingWeights

TOKENS = "token_matching"
RERANKED = 50  # videos, at most


class Reranker:
    """Reorders videos by how well a sentence's tokens find their frames.

    Args:
        reader: of an index that keeps frames; videos without them keep their place among the rest.
        weights: of tokens and frames.
    """

    def __init__(self, reader: IndexReader, weights: TokenMatchingWeights) -> None:
        self._reader = reader
        self._weights = weights

    def rerank(self, hits: Sequence[SearchHit], tokens: np.ndarray) -> list[SearchHit]:
        """The hits, the first 50 in the order of the mean of two scores, each in its standard
        deviations over them: their own, and that of late interaction. It is told in the unit of
        their own.

        Args:
            hits: whole videos, best first.
            tokens: `(L, D)`, L2-normalised.
        """
        hits, others = hits[:RERANKED], hits[RERANKED:]
        frames = self._reader.frames([hit.video_id for hit in hits], max_frames=MAX_FRAMES)
        shown = [frames[hit.video_id] for hit in hits if hit.video_id in frames]
        if len(shown) < 2:
            return [*hits, *others]
        found = self._weights.scores(
            tokens, np.concatenate(shown), counts=[len(each) for each in shown]
        )
        late = np.full(len(hits), np.nan)
        late[[hit.video_id in frames for hit in hits]] = found
        scores = combined([hit.score for hit in hits], late)
        reranked = []
        for hit, score, of_tokens in zip(hits, scores.tolist(), late.tolist(), strict=True):
            evidence = () if np.isnan(of_tokens) else (Evidence(TOKENS, score=of_tokens),)
            reranked.append(replace(hit, score=score, evidence=(*hit.evidence, *evidence)))
        return [*sorted(reranked, key=lambda hit: -hit.score), *others]


def combined(scores: Sequence[float], others: np.ndarray) -> np.ndarray:
    """`(n,)` float64: the mean of two scores, the other one brought to the mean and the spread that
    the first has where both are known; the first alone where the other is NaN."""
    first = np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(others)
    spread = others[known].std()
    if spread == 0:
        return first
    brought = (others - others[known].mean()) / spread * first[known].std() + first[known].mean()
    return np.where(known, (first + brought) / 2, first)
