"""Segment scores of one video -> the moments that match: neighbours that both match are merged."""

import math
from collections.abc import Sequence
from itertools import accumulate
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
    """Cuts a video's segments into moments, best first, as `merge_moments_in_videos` does."""
    return merge_moments_in_videos(scores, spans, counts=[len(scores)], min_score=min_score)[0]


def merge_moments_in_videos(
    scores: np.ndarray,
    spans: np.ndarray,
    *,
    counts: Sequence[int],
    min_score: float = -math.inf,
    only_best: bool = False,
) -> list[list[Moment]]:
    """Cuts the segments of each video into moments, best first.

    From the best segment left, a moment grows over its neighbours as long as each matches: scores
    nearer to the peak than to the video's mean, or within a tenth of the peak. What it covers is
    then out of the game, so moments of one video do not overlap.

    Args:
        scores: `(S,)`, a query's similarity to each segment, in order of time, video after video.
        spans: `(S, 2)`, start and end seconds; consecutive segments may overlap.
        counts: segments of each video, at least 1, S in all.
        min_score: moments whose best segment scores less, before it is drawn, are left out.
        only_best: return one moment of each video.
    """
    seconds = np.maximum(spans[:, 1] - spans[:, 0], 1e-6)
    weighted = scores * seconds
    stops = list(accumulate(counts))
    slices = [slice(stop - count, stop) for stop, count in zip(stops, counts, strict=True)]
    # Sums of each video's own slice: it scores the same beside whatever others.
    means = [float(np.add.reduce(weighted[s]) / np.add.reduce(seconds[s])) for s in slices]
    mean = np.repeat(means, counts)
    drawn = mean + (scores - mean.astype(scores.dtype)) * (seconds / (seconds + _PRIOR_SECONDS))
    # A video has few segments: plain numbers are faster than arrays.
    plain, values = scores.tolist(), drawn.tolist()
    starts, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
    return [
        _moments_of(plain[s], values[s], starts[s], ends[s], mean, min_score, only_best)
        for s, mean in zip(slices, means, strict=True)
    ]


def _moments_of(
    plain: list[float],
    values: list[float],
    starts: list[float],
    ends: list[float],
    mean: float,
    min_score: float,
    only_best: bool,
) -> list[Moment]:
    """The moments of one video.

    Args:
        plain: scores of its segments.
        values: the same, drawn towards their mean.
    """
    free = [True] * len(values)
    moments: list[Moment] = []
    peaks = [number for number, score in enumerate(plain) if not score < min_score]
    peaks.sort(key=values.__getitem__, reverse=True)  # keeps the order of those that are equal
    for peak in peaks:
        if not free[peak]:
            continue
        top = values[peak]
        enough = min((top + mean) / 2, top - _EVEN_FRACTION * abs(top))
        first = last = peak
        while first > 0 and free[first - 1] and values[first - 1] >= enough:
            first -= 1
        while last + 1 < len(values) and free[last + 1] and values[last + 1] >= enough:
            last += 1
        moments.append(Moment(starts[first], ends[last], top, peak))
        if only_best:
            break
        while first > 0 and ends[first - 1] > moments[-1].start_seconds:
            first -= 1
        while last + 1 < len(values) and starts[last + 1] < moments[-1].end_seconds:
            last += 1
        free[first : last + 1] = [False] * (last + 1 - first)
    return moments
