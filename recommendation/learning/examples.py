"""Joined impressions of the log -> columns that the model takes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.learning.impressions import NO_ID, Impressions, Outcomes
from reelseek.recommendation.learning.joining import Joined

__all__ = ["UNKNOWN_VIDEO", "VideoFacts", "changes_of", "impressions_of", "outcomes_of"]

_LONG_WATCH_LOG = 5.0  # log(1 + seconds) that counts as 1: two and a half minutes


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video besides its id.

    Attributes:
        code: what it shows, see `content_codes`; empty where that is not known.
    """

    author: str | int = NO_ID
    tag: str = ""
    duration_ms: float = math.nan
    upload_day: float = math.nan
    code: bytes = b""


UNKNOWN_VIDEO = VideoFacts()


def impressions_of(joined: Sequence[Joined], facts_of: Callable[[str], VideoFacts]) -> Impressions:
    facts = [facts_of(each.video) for each in joined]

    def ids(values: list) -> np.ndarray:
        column = np.empty(len(values), object)
        column[:] = values
        return column

    return Impressions(
        user=ids([each.user for each in joined]),
        video=ids([each.video for each in joined]),
        time_ms=np.array([round(each.time_seconds * 1000) for each in joined], np.int64),
        tab=ids([each.surface for each in joined]),
        author=ids([each.author for each in facts]),
        tag=ids([each.tag for each in facts]),
        duration_ms=np.array([each.duration_ms for each in facts], np.float64),
        upload_day=np.array([each.upload_day for each in facts], np.float64),
        position=np.array([each.position for each in joined], np.int64),
        query=ids([each.query for each in joined]),
    )


def outcomes_of(joined: Sequence[Joined]) -> Outcomes:
    """Returns the labels in the order of `HEADS`."""
    return _outcomes([each.outcome for each in joined])


def changes_of(corrections: Sequence[Joined]) -> Outcomes:
    """Returns what corrections change: their labels less those that were learned."""
    new = outcomes_of(corrections)
    old = _outcomes([each.corrects or (False, False, False, 0.0) for each in corrections])
    return Outcomes(new.labels - old.labels, new.watched - old.watched)


def _outcomes(found: Sequence[tuple[bool, bool, bool, float]]) -> Outcomes:
    labels = [(long_view, clicked, liked) for clicked, liked, long_view, _ in found]
    seconds = np.array([each[3] for each in found], np.float64)
    watched = np.minimum(np.log1p(seconds) / _LONG_WATCH_LOG, 1.0)
    return Outcomes(np.array(labels, np.float64).reshape(len(found), 3), watched)
