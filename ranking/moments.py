"""Segment scores of one video -> the moments that match: neighbours that both match are merged."""

import math
from typing import NamedTuple

import numpy as np

# A neighbour whose score is within this share of the peak's matches as well as the peak does;
# without it, noise would cut a video that matches evenly into pieces.
_EVEN_FRACTION = 0.1
# A short segment is the mean of few frames, and scores high by chance more often than a long one:
# each is scored as if so much that is like its video's mean had been added to it.
_PRIOR_SECONDS = 1.0


class Moment(NamedTuple):
    """A stretch of a video, with the score of its best segment (and which that is).

    The score is the segment's similarity to the query, drawn towards the mean of its video by as
    much as one second has of its length and one second more.
    """

    start_seconds: float
    end_seconds: float
    score: float
    best_segment: int


def merge_moments(
    scores: np.ndarray, spans: np.ndarray, *, min_score: float = -math.inf
) -> list[Moment]:
    """Cuts a video's segments into moments, best first.

    From the best segment left, a moment grows over its neighbours as long as each matches: scores
    nearer to the peak than to the video's mean, or within a tenth of the peak. What it covers is
    then out of the game, so moments of one video do not overlap.

    Args:
        scores: `(S,)`, a query's similarity to each segment, in order of time.
        spans: `(S, 2)`, start and end seconds; consecutive segments may overlap.
        min_score: moments whose best segment scores less, before it is drawn, are left out.
    """
    seconds = np.maximum(spans[:, 1] - spans[:, 0], 1e-6)
    mean = float((scores * seconds).sum() / seconds.sum())
    plain = scores
    scores = mean + (plain - mean) * (seconds / (seconds + _PRIOR_SECONDS))
    is_below = (plain < min_score).tolist()
    values = scores.tolist()  # a video has few segments: plain numbers are faster than arrays
    starts, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
    free = [True] * len(values)
    moments = []
    for peak in np.argsort(-scores, kind="stable").tolist():
        if not free[peak] or is_below[peak]:
            continue
        top = values[peak]
        enough = min((top + mean) / 2, top - _EVEN_FRACTION * abs(top))
        first = last = peak
        while first > 0 and free[first - 1] and values[first - 1] >= enough:
            first -= 1
        while last + 1 < len(values) and free[last + 1] and values[last + 1] >= enough:
            last += 1
        moments.append(Moment(starts[first], ends[last], top, peak))
        while first > 0 and ends[first - 1] > moments[-1].start_seconds:
            first -= 1
        while last + 1 < len(values) and starts[last + 1] < moments[-1].end_seconds:
            last += 1
        free[first : last + 1] = [False] * (last + 1 - first)
    return moments
