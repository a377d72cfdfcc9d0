"""Scores of a video's segments for the steps of a query -> where they happen in that order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Penalty for steps that would match better in another order, per unit of score.
_ORDER_WEIGHT = 1.0
_TOLERANCE_SECONDS = 1e-6  # of borders that are the same time, computed in two ways


@dataclass(frozen=True, eq=False)
class TemporalMatch:
    """The best segments of a video for a sequence of steps.

    Attributes:
        score: `ordered` less `order_weight` times (`unordered` - `ordered`).
        ordered: the mean of the steps' scores at their segments.
        unordered: the mean of each step's best score, in any segment.
        segments: `(E,)` int, the segment of each step.
        spans: `(E, 2)`, its start and end seconds; each step starts after the previous one ended.
    """

    score: float
    ordered: float
    unordered: float
    segments: np.ndarray
    spans: np.ndarray


def align_steps(
    scores: np.ndarray, spans: np.ndarray, *, order_weight: float = _ORDER_WEIGHT
) -> TemporalMatch | None:
    """Assigns each step a segment of its own, one after the other, for the highest mean score.

    Dynamic programming over the segments in order of their ends: a step's best total at a segment
    is its score there plus the best total of the previous step at a segment that has ended by its
    start. That alone would not tell a video with one step and not the other from one with both in
    the wrong order; so the gain of a free order is subtracted, `order_weight` times.

    The scores of different steps should have a common scale: subtract each step's mean over the
    collection, or a step whose phrase scores high everywhere decides alone.

    Args:
        scores: `(E, S)`, of each step at each segment.
        spans: `(S, 2)`, start and end seconds of the segments, which may overlap.
        order_weight: at least 0.

    Returns:
        The match; None where the video has too few segments one after the other.

    Raises:
        ValueError: shapes that do not fit, scores that are not finite, a weight out of range.
    """
    scores, spans = _checked(scores, spans, order_weight)
    num_steps, num_segments = scores.shape
    if num_segments < num_steps:
        return None
    by_end = np.argsort(spans[:, 1], kind="stable")
    # Of each segment, how many of `by_end` have ended by its start.
    num_before = np.searchsorted(spans[by_end, 1], spans[:, 0] + _TOLERANCE_SECONDS, side="right")
    # A segment shorter than the tolerance has not ended before itself.
    rank_by_end = np.empty(num_segments, np.int64)
    rank_by_end[by_end] = np.arange(num_segments)
    num_before = np.minimum(num_before, rank_by_end)

    total = scores[0].astype(np.float64)
    came_from = np.full((num_steps, num_segments), -1)
    for step in range(1, num_steps):
        best_index = _running_argmax(total[by_end])
        possible = num_before > 0
        source = by_end[best_index[num_before - 1]]
        came_from[step] = source
        total = np.where(possible, total[source], -np.inf) + scores[step]
    last = int(total.argmax())
    if total[last] == -np.inf:
        return None
    segments = [last]
    for step in range(num_steps - 1, 0, -1):
        segments.append(int(came_from[step, segments[-1]]))
    chosen = np.array(segments[::-1])
    ordered = float(total[last]) / num_steps
    unordered = float(scores.max(axis=1).mean(dtype=np.float64))
    score = ordered - order_weight * (unordered - ordered)
    return TemporalMatch(score, ordered, unordered, chosen, spans[chosen])


def align_steps_in_videos(
    scores: np.ndarray,
    spans: np.ndarray,
    *,
    counts: Sequence[int] | np.ndarray,
    order_weight: float = _ORDER_WEIGHT,
) -> list[TemporalMatch | None]:
    """`align_steps` for many videos, whose segments follow each other.

    Args:
        scores: `(E, S)`, of all segments.
        spans: `(S, 2)`.
        counts: `(N,)`, segments of each video, S in all.
        order_weight: at least 0.

    Returns:
        A match for each video; its `segments` count from the video's first.

    Raises:
        ValueError: as `align_steps`, or counts that do not add up to S.
    """
    scores, spans = _checked(scores, spans, order_weight)
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    if total != len(spans):
        raise ValueError(f"counts add up to {total}: must be {len(spans)}, the number of segments")
    starts = np.concatenate([[0], ends[:-1]])
    return [
        align_steps(scores[:, start:end], spans[start:end], order_weight=order_weight)
        for start, end in zip(starts, ends, strict=True)
    ]


def _running_argmax(values: np.ndarray) -> np.ndarray:
    """Returns for each index that of the greatest value up to it; the first of equal ones."""
    best = np.maximum.accumulate(values)
    is_new = np.empty(len(values), dtype=bool)
    is_new[0] = True
    is_new[1:] = values[1:] > best[:-1]
    return np.maximum.accumulate(np.where(is_new, np.arange(len(values)), 0))


def _checked(
    scores: np.ndarray, spans: np.ndarray, order_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    scores, spans = np.asarray(scores), np.asarray(spans, dtype=np.float64)
    if scores.ndim != 2 or not len(scores):
        raise ValueError(f"scores is {scores.shape}: must be (E, S), of at least one step")
    if spans.shape != (scores.shape[1], 2):
        raise ValueError(
            f"spans is {spans.shape}: must be ({scores.shape[1]}, 2), a start and an end in "
            "seconds for each segment that is scored"
        )
    if not (np.isfinite(scores).all() and np.isfinite(spans).all()):
        raise ValueError("scores or spans hold values that are not finite")
    if not order_weight >= 0:
        raise ValueError(f"order_weight={order_weight}: must be at least 0")
    return scores, spans
