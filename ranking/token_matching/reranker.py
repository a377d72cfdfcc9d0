"""The best videos of a search -> their order by token matching too."""

from collections.abc import Sequence

import numpy as np

from reelseek.ranking.evidence import Evidence
from reelseek.ranking.token_matching.matching import TokenMatchingWeights
from reelseek.ranking.visual import Match

TOKENS = "token_matching"
RERANKED = 50  # videos, at most


def rerank(
    matches: Sequence[Match], tokens: np.ndarray, weights: TokenMatchingWeights
) -> list[Match]:
    """Orders the first 50 videos by the mean of two scores, each in its standard deviations over
    them: their own, and that of token matching, told in the unit of their own. Videos without
    frames keep their score.

    Args:
        matches: whole videos, best first.
        tokens: `(L, D)`, L2-normalised.
        weights: of tokens and frames.
    """
    first, others = matches[:RERANKED], matches[RERANKED:]
    has_frames = np.array([len(match.video.frames) > 0 for match in first], dtype=bool)
    if has_frames.sum() < 2:
        return [*first, *others]
    shown = [match.video.frames for match in first if len(match.video.frames)]
    late = np.full(len(first), np.nan)
    late[has_frames] = weights.scores(
        tokens, np.concatenate(shown), counts=[len(frames) for frames in shown]
    )
    reranked = []
    for match, score, of_tokens in zip(
        first, combined([match.score for match in first], late), late.tolist(), strict=True
    ):
        evidence = () if np.isnan(of_tokens) else (Evidence(TOKENS, score=of_tokens),)
        reranked.append(match.with_evidence(*evidence)._replace(score=float(score)))
    return [*sorted(reranked, key=lambda match: -match.score), *others]


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
