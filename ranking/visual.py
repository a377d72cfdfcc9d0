"""Candidates and a query embedding -> the videos or moments nearest to it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from reelseek.indexing.candidates import CandidateVideo
from reelseek.indexing.store.dates import date_of
from reelseek.ranking.evidence import Evidence
from reelseek.ranking.hits import SearchHit
from reelseek.ranking.moments import merge_moments_in_videos

# Videos to gather for each moment: a moment's score is drawn towards its video's mean, so the best
# moments are not just those of the best segments.
_VIDEOS_PER_MOMENT = 1.5
# Their best segments, around which moments are looked for.
_SEGMENTS_PER_MOMENT = 5


class Match(NamedTuple):
    """A video or a moment of it that may become a hit; see `SearchHit` for the fields."""

    video: CandidateVideo
    score: float
    start_seconds: float
    end_seconds: float
    best_seconds: float
    evidence: tuple[Evidence, ...] = ()
    confidence: float | None = None

    @property
    def dedup_key(self) -> tuple[str, float, float]:
        """The same for two matches of one content at the same seconds."""
        return self.video.content, self.start_seconds, self.end_seconds

    def with_evidence(self, *evidence: Evidence) -> "Match":
        return self._replace(evidence=(*self.evidence, *evidence))

    def hit(self, rank: int) -> SearchHit:
        record = self.video.record
        date, date_source = date_of(record.metadata, record.signature.modified_ns)
        return SearchHit(
            rank=rank,
            id=record.public_id,
            video=record.path,
            score=self.score,
            start_seconds=self.start_seconds,
            end_seconds=self.end_seconds,
            best_seconds=self.best_seconds,
            duration_seconds=record.duration_seconds,
            key=record.key,
            metadata=dict(record.metadata),
            confidence=self.confidence,
            evidence=self.evidence,
            date=date,
            date_source=date_source,
        )


def num_videos_for(num: int, level: str) -> int:
    """Returns how many nearest videos to gather for so many matches."""
    return num if level == "video" else math.ceil(_VIDEOS_PER_MOMENT * num)


def nearest(
    videos: Iterable[CandidateVideo],
    scores: Mapping[str, np.ndarray],
    *,
    num: int,
    num_gathered: int,
    level: str,
) -> tuple[list[Match], bool]:
    """Finds the best matches among the gathered videos, copies of one content once.

    Args:
        videos: at least the `num_gathered` nearest videos of the collection, or all.
        scores: by public id, of the whole video and of each segment.
        num: matches to return.

    Returns:
        The matches, best first, and whether gathering more videos could not change them.
    """
    by_score = []
    for video in videos:
        own = scores[video.id]
        by_score.append((-float(own[0] if level == "video" else own[1:].max()), video.id, video))
    by_score.sort()
    has_all = len(by_score) < num_gathered
    different: dict[str, tuple[CandidateVideo, np.ndarray]] = {}
    for _, id, video in by_score[:num_gathered]:
        different.setdefault(video.content, (video, scores[id]))
    num_needed = num_videos_for(num, level)
    chosen = list(different.values())[:num_needed]
    if level == "video":
        matches = [whole_match(video, scores) for video, scores in chosen]
    else:
        sees_all = has_all and len(different) <= num_needed
        matches = _best_moments(chosen, num=num, sees_all=sees_all)
    matches.sort(key=lambda match: (-match.score, match.video.id, match.start_seconds))
    return matches[:num], has_all or len(different) >= num_needed


def _best_moments(
    chosen: Sequence[tuple[CandidateVideo, np.ndarray]], *, num: int, sees_all: bool
) -> list[Match]:
    """Moments around the best segments: other videos may hold better ones than poor segments do.

    Args:
        chosen: videos with their scores.
        sees_all: whether there are no other videos.
    """
    if not chosen:
        return []
    segments = np.sort(np.concatenate([scores[1:] for _, scores in chosen]))
    best = [float(scores[1:].max()) for _, scores in chosen]
    num_segments = len(segments) if sees_all else _SEGMENTS_PER_MOMENT * num
    while True:
        has_all = num_segments >= len(segments)
        min_score = -math.inf if has_all else float(segments[-num_segments])
        reaching = [pair for pair, score in zip(chosen, best, strict=True) if score >= min_score]
        matches = list(chain.from_iterable(moment_matches(reaching, min_score=min_score)))
        if has_all or len(matches) >= num:
            return matches
        num_segments *= 4  # a long video that matches evenly is many segments and one moment


def whole_match(video: CandidateVideo, scores: np.ndarray) -> Match:
    """The whole video, with the middle of its best segment."""
    start, end = video.spans[scores[1:].argmax()].tolist()
    duration = video.record.duration_seconds
    return Match(video, float(scores[0]), 0.0, duration, (start + end) / 2)


def moment_matches(
    videos: Sequence[tuple[CandidateVideo, np.ndarray]],
    *,
    min_score: float = -math.inf,
    only_best: bool = False,
) -> list[list[Match]]:
    """The moments of each video, best first, the earlier of those that score the same.

    Args:
        videos: with their scores.
        min_score, only_best: as of `merge_moments_in_videos`.
    """
    if not videos:
        return []
    merged = merge_moments_in_videos(
        np.concatenate([scores[1:] for _, scores in videos]),
        np.concatenate([video.spans for video, _ in videos]),
        counts=[len(video.spans) for video, _ in videos],
        min_score=min_score,
        only_best=only_best,
    )
    found = []
    for (video, _), moments in zip(videos, merged, strict=True):
        middles = [sum(video.spans[moment.best_segment].tolist()) / 2 for moment in moments]
        found.append(
            [
                Match(video, moment.score, moment.start_seconds, moment.end_seconds, middle)
                for moment, middle in zip(moments, middles, strict=True)
            ]
        )
    return found


def embedding_at(match: Match, level: str) -> np.ndarray:
    """The whole video's, or that of the segment whose middle is nearest to the best second."""
    if level == "video":
        return match.video.embeddings[0]
    nearest_segment = np.abs(_middles(match.video.spans) - match.best_seconds).argmin()
    return match.video.embeddings[1 + int(nearest_segment)]


def _middles(spans: np.ndarray) -> np.ndarray:
    return (spans[:, 0] + spans[:, 1]) / 2
