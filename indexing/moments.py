"""Segment scores of one video -> the moments that match: neighbours that both match are merged."""

from dataclasses import dataclass

import numpy as np

# A neighbour whose score is within this share of the peak's matches as well as the peak does;
# without it, noise would cut a video that matches evenly into pieces.
_EVEN_SHARE = 0.1


@dataclass(frozen=True)
class Moment:
    """A stretch of a video, with the score of its best segment (and which that is)."""

    start_seconds: float
    end_seconds: float
    score: float
    best_segment: int


def merge_moments(scores: np.ndarray, spans: np.ndarray) -> list[Moment]:
    """Cuts a video's segments into moments, best first.

    From the best segment left, a moment grows over its neighbours as long as each matches: scores
    nearer to the peak than to the video's mean, or within a tenth of the peak. What it covers is
    then out of the game, so moments of one video do not overlap.

    Args:
        scores: `(S,)`, a query's similarity to each segment, in order of time.
        spans: `(S, 2)`, start and end seconds; consecutive segments may overlap.
    """
    mean = float(scores.mean())
    free = np.ones(len(scores), dtype=bool)
    moments = []
    for peak in np.argsort(-scores, kind="stable").tolist():
        if not free[peak]:
            continue
        top = float(scores[peak])
        enough = min((top + mean) / 2, top - _EVEN_SHARE * abs(top))
        matches = free & (scores >= enough)
        first = last = peak
        while first > 0 and matches[first - 1]:
            first -= 1
        while last + 1 < len(scores) and matches[last + 1]:
            last += 1
        start, end = float(spans[first, 0]), float(spans[last, 1])
        free &= (spans[:, 1] <= start) | (spans[:, 0] >= end)
        free[first : last + 1] = False
        moments.append(Moment(start, end, top, peak))
    return moments
