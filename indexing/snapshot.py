"""A published state of an index, opened -> the videos, and the moments in them, that are nearest.

Its files are never changed: a writer publishes others, and what has been deleted since is left out
when the reader says so.
"""

import logging
import math
import threading
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.files import LexicalInfo, check_files
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.moments import merge_moments
from reelseek.indexing.publishing import EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.vectors.level import LevelSearcher
from reelseek.indexing.vectors.shard import TABLE_DTYPE, locations

logger = logging.getLogger(__name__)

_OPEN_ATTEMPTS = 20
# Segments looked at for each moment wanted: neighbours that merge, and several of one video.
_SEGMENTS_PER_MOMENT = 5
# Videos looked at for each moment wanted, of which the best are kept.
_VIDEOS_PER_MOMENT = 1.5
_Key = TypeVar("_Key", bound=Hashable)
_TOLERANCE = 1e-3  # of a score, which depends a little on what it is computed beside


@dataclass(frozen=True, eq=False)
class VideoSegments:
    """The segments of a video.

    Attributes:
        spans: `(S, 2)`, start and end seconds.
        embeddings: `(S, D)` float32, L2-normalised.
        whole: `(D,)`, likewise of the whole video.
    """

    spans: np.ndarray
    embeddings: np.ndarray
    whole: np.ndarray


@dataclass(frozen=True, eq=False)
class VideoSample:
    """Some videos, which tell what a phrase usually scores.

    Attributes:
        segments: `(S, D)` float32, L2-normalised, video after video.
        counts: `(N,)` int, segments of each video, at least 1, S in all.
        whole: `(N, D)`, the videos themselves.
    """

    segments: np.ndarray
    counts: np.ndarray
    whole: np.ndarray

    def best_of(self, phrases: np.ndarray) -> np.ndarray:
        """`(M, D)` -> `(M, N)`, of each phrase the best score in each video."""
        if not len(self.counts):
            return np.empty((len(phrases), 0), np.float32)
        return np.maximum.reduceat(
            phrases @ self.segments.T, np.cumsum(self.counts) - self.counts, axis=1
        )


class Found:
    """A hit before its entry is looked up."""

    __slots__ = ("best_seconds", "end", "score", "start", "video_id")

    def __init__(
        self, video_id: int, score: float, start: float, end: float, best_seconds: float
    ) -> None:
        self.video_id = video_id
        self.score = score
        self.start = start
        self.end = end
        self.best_seconds = best_seconds


class Generation:
    """One published state, opened.

    Args:
        folder: of the index.
        manifest: that names its files.
        before: an earlier one, whose files are used again where they are the same.

    Raises:
        FileNotFoundError: a writer has replaced it meanwhile.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, before: "Generation | None") -> None:
        self.manifest = manifest
        self._parts = EmbeddingParts(
            folder / EMBEDDINGS_NAME, embedding_dim=manifest.settings.embedding_dim
        )
        self._levels: dict[str, LevelSearcher] = {
            name: LevelSearcher(
                folder, info, self._parts, None if before is None else before._levels[name]
            )
            for name, info in manifest.levels.items()
        }
        self.lexical: LexicalIndex | None = _open_lexical(
            folder, manifest, None if before is None else before.lexical
        )
        self._samples: dict[int, VideoSample] = {}
        self._forgetting = threading.Lock()

    def mask_deleted(self, video_ids: list[int]) -> None:
        """Leaves out videos that have been deleted since."""
        with self._forgetting:
            for level in self._levels.values():
                level.mask_deleted(video_ids)
            if self.lexical is not None:
                self.lexical.mask_deleted(video_ids)

    def videos(self, query: np.ndarray, k: int, only: np.ndarray | None) -> list[Found]:
        """The best videos, each with its best second."""
        return self._with_best_seconds(query, *self._levels["video"].nearest(query, k=k, only=only))

    def of_videos(self, query: np.ndarray, video_ids: list[int], level: str) -> list[Found]:
        """All hits in these videos, best first."""
        if level == "moment":
            found = self._moments_of(query, video_ids, -math.inf)
        else:
            every = [self._levels["video"].rows_of(video_id) for video_id in video_ids]
            rows = np.concatenate([np.empty(0, TABLE_DTYPE), *every])
            scores = self._parts.read(locations(rows)) @ query
            found = self._with_best_seconds(query, rows, scores)
        return sorted(found, key=lambda hit: (-hit.score, hit.video_id, hit.start))

    def segments(self, video_ids: Sequence[int]) -> dict[int, VideoSegments]:
        """The segments of these videos, as far as they are there."""
        of_video = {}
        for video_id in video_ids:
            whole, own = (self._levels[name].rows_of(video_id) for name in ("video", "moment"))
            if len(whole) and len(own):
                of_video[video_id] = [whole, own]
        if not of_video:
            return {}
        positions, spans = _joined([rows for both in of_video.values() for rows in both])
        embeddings = self._parts.read(positions)
        found, first = {}, 0
        for video_id, (_, own) in of_video.items():
            own_rows = slice(first + 1, first + 1 + len(own))
            found[video_id] = VideoSegments(
                spans[own_rows], embeddings[own_rows], embeddings[first]
            )
            first = own_rows.stop
        return found

    def frames(self, records: Sequence[VideoRecord], max_frames: int) -> dict[int, np.ndarray]:
        """`(T, D)`, the embeddings of at most so many frames of each video that has any."""
        from reelseek.vision.sampling import subsample

        positions = {}
        for record in records:
            whole = self._levels["video"].rows_of(record.id)
            num_kept = len(record.frame_times)
            if not len(whole) or not num_kept:
                continue
            # A video's rows follow each other: the whole, its segments, its frames.
            first = int(whole["row"][0]) + 1 + len(record.spans)
            rows = first + subsample(np.arange(num_kept), max_frames)
            positions[record.id] = np.stack([np.full(len(rows), whole["part"][0]), rows], axis=1)
        if not positions:
            return {}
        every = self._parts.read(np.concatenate(list(positions.values())))
        ends = np.cumsum([len(each) for each in positions.values()])[:-1]
        return dict(zip(positions, np.split(every, ends), strict=True))

    def whole(self, video_ids: Sequence[int]) -> dict[int, np.ndarray]:
        """`(D,)` each, the embeddings of whole videos, as far as they are there."""
        of_each = {number: self._levels["video"].rows_of(number) for number in video_ids}
        return self._read_rows(of_each)

    def segments_at(
        self, positions: Sequence[tuple[int, float]]
    ) -> dict[tuple[int, float], np.ndarray]:
        """`(D,)` each: of a video the segment whose middle is nearest to a second, as far as the
        videos are there."""
        of_each = {}
        for video_id, second in positions:
            rows = self._levels["moment"].rows_of(video_id)
            if len(rows):
                middles = (rows["start"] + rows["end"]) / 2
                rows = rows[[np.abs(middles - second).argmin()]]
            of_each[video_id, second] = rows
        return self._read_rows(of_each)

    def _read_rows(self, of_each: dict[_Key, np.ndarray]) -> dict[_Key, np.ndarray]:
        """The embedding of each one's row of a table; without those that have none."""
        of_each = {key: rows for key, rows in of_each.items() if len(rows)}
        if not of_each:
            return {}
        positions, _ = _joined(list(of_each.values()))
        return dict(zip(of_each, self._parts.read(positions), strict=True))

    def video_ids(self) -> np.ndarray:
        """`(n,)`, ascending."""
        return self._levels["video"].video_ids()

    def sample(self, num: int) -> VideoSample:
        """So many videos, drawn at random."""
        if num not in self._samples:
            video_ids = self.video_ids()
            random = np.random.default_rng(0)
            chosen = random.choice(video_ids, min(num, len(video_ids)), replace=False)
            videos = list(self.segments(np.sort(chosen).tolist()).values())
            nothing = np.empty((0, self._parts.embedding_dim), np.float32)
            self._samples[num] = VideoSample(
                np.concatenate([nothing, *(video.embeddings for video in videos)]),
                np.array([len(video.spans) for video in videos], dtype=np.int64),
                np.concatenate([nothing, *(video.whole[None] for video in videos)]),
            )
        return self._samples[num]

    def moments(self, query: np.ndarray, k: int, only: np.ndarray | None) -> list[Found]:
        """The best moments: those of the videos of the nearest segments, and where these are too
        few, of the nearest videos."""
        num = _SEGMENTS_PER_MOMENT * k
        while True:
            rows, scores = self._levels["moment"].nearest(
                query, k=num // _SEGMENTS_PER_MOMENT, min_candidates=num, only=only
            )
            has_all = len(rows) < num
            # Below the last candidate, other videos may hold moments that were not looked at.
            min_score = -math.inf if has_all else float(scores[-1]) - _TOLERANCE
            found = self._best_of(query, k, rows["video"].tolist(), min_score)
            if len(found) >= k or has_all:
                break
            num *= 4  # a long video that matches evenly is many segments and one moment
        if len(found) < k:
            nearest, _ = self._levels["video"].nearest(query, k=k, only=only)
            others = set(nearest["video"].tolist()) - {hit.video_id for hit in found}
            found += self._moments_of(query, sorted(others), -math.inf)
        found.sort(key=lambda hit: (-hit.score, hit.video_id, hit.start))
        return found[:k]

    def _best_of(
        self, query: np.ndarray, k: int, videos: list[int], min_score: float
    ) -> list[Found]:
        """Moments of candidates that come best first, of enough videos."""
        found: list[Found] = []
        different = list(dict.fromkeys(videos))
        # Scores are drawn towards their video's mean, so a few more than k are looked at.
        at_once = math.ceil(_VIDEOS_PER_MOMENT * k)
        for first in range(0, len(different), at_once):
            found += self._moments_of(query, different[first : first + at_once], min_score)
            if len(found) >= k:
                break
        return found

    def _with_best_seconds(
        self, query: np.ndarray, rows: np.ndarray, scores: np.ndarray
    ) -> list[Found]:
        """Videos of the table's `(n,)` rows, each with the middle of its best segment."""
        if not len(rows):
            return []
        of_each = [self._levels["moment"].rows_of(video_id) for video_id in rows["video"].tolist()]
        positions, _ = _joined(of_each)
        every = self._parts.read(positions) @ query
        found, first = [], 0
        for row, score, own in zip(rows, scores, of_each, strict=True):
            best = 0.0
            if len(own):
                position = int(every[first : first + len(own)].argmax())
                best = float(own["start"][position] + own["end"][position]) / 2
            first += len(own)
            start, end = float(row["start"]), float(row["end"])
            found.append(Found(int(row["video"]), float(score), start, end, best))
        return found

    def _moments_of(self, query: np.ndarray, video_ids: list[int], min_score: float) -> list[Found]:
        if not video_ids:
            return []
        of_each = [self._levels["moment"].rows_of(video_id) for video_id in video_ids]
        positions, every_span = _joined(of_each)
        every_score = self._parts.read(positions) @ query
        found = []
        first = 0
        for video_id, rows in zip(video_ids, of_each, strict=True):
            last = first + len(rows)
            spans = every_span[first:last]
            found += [
                Found(
                    video_id,
                    moment.score,
                    moment.start_seconds,
                    moment.end_seconds,
                    float(spans[moment.best_segment].sum()) / 2,
                )
                for moment in merge_moments(every_score[first:last], spans, min_score=min_score)
            ]
            first = last
        return found


def _joined(of_each: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table, of at least one video -> `(n, 2)` locations and `(n, 2)` spans; by field,
    which is five times as fast as to join the rows."""
    part, row, start, end = (
        np.concatenate([rows[name] for rows in of_each]) for name in ("part", "row", "start", "end")
    )
    return np.stack([part, row], axis=1), np.stack([start, end], axis=1)


def open_generation(folder: Path, before: Generation | None) -> Generation:
    """Reads the manifest and the files it names; again, if a writer replaced them between."""
    for attempt in range(_OPEN_ATTEMPTS):
        manifest = Manifest.read(folder)
        try:
            return Generation(folder, manifest, before)
        except FileNotFoundError as error:
            missing = error.filename
        except ValueError:
            if attempt == _OPEN_ATTEMPTS - 1 or Manifest.read(folder) == manifest:
                raise
        time.sleep(0.01 * (attempt + 1))
    raise ValueError(
        f"index={folder}: lacks {missing}; run python -m indexing.repair index={folder}"
    )


def _open_lexical(
    folder: Path, manifest: Manifest, before: LexicalIndex | None
) -> LexicalIndex | None:
    """None where there is none, or no tantivy to open it with."""
    info = manifest.lexical
    if info is None or not documents.is_installed():
        return None
    if before is not None and before.info == info:
        return before
    try:
        return _opened_lexical(folder, info)
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.warning("texts are not searched by their words: %s", error)
        return None


def _opened_lexical(folder: Path, info: LexicalInfo) -> LexicalIndex | None:
    if info.analysis == documents.analysis():
        return LexicalIndex(folder, info)
    check_files(folder, info)
    remedy = "the index was made with other packages; run python -m indexing again"
    try:
        opened = LexicalIndex(folder, info)
    except ValueError:
        logger.warning("texts are not searched by their words: %s", remedy)
        return None
    logger.warning("words of some languages are found less surely: %s", remedy)
    return opened
