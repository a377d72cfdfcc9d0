"""Videos and a query's embedding -> how well every part of them matches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.indexing.candidates import CandidateVideo
from reelseek.ranking.confidence import Background, Calibration


@dataclass(frozen=True, eq=False)
class SegmentMatches:
    """The segments of one video, in order of time.

    Attributes:
        spans: `(S, 2)`, start and end seconds.
        scores: `(S,)`, cosine similarity to the query.
        probabilities: `(S,)`, that each matches, 0 to 1; None where the index keeps no sentences to
            compare with.
    """

    spans: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray | None


def segment_matches(
    videos: Sequence[CandidateVideo],
    embedding: np.ndarray,
    *,
    background: Background | None,
    calibration: Calibration,
) -> list[SegmentMatches]:
    """Scores all segments of each video.

    Args:
        embedding: `(D,)`, of the query.
        background: of moments.
    """
    found = []
    for video in videos:
        segments = video.embeddings[1:]
        probabilities = None
        if background is not None:
            probabilities = calibration.probability(background.features(embedding, segments))
        found.append(SegmentMatches(video.spans, video.scores(embedding)[1:], probabilities))
    return found
