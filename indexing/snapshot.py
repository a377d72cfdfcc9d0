"""A published state of an index, opened: the nearest videos, and their embeddings.

Its files never change: a writer publishes others, and the reader masks what has been deleted since.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from reelseek.indexing.candidates import (
    SAMPLE_VIDEOS,
    CandidateVideo,
    CollectionStatistics,
    VideoSample,
)
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.files import LexicalInfo, check_files
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.publishing import EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.vectors.level import EmbeddingReads, LevelSearcher, Neighbours
from reelseek.indexing.vectors.shard import locations

logger = logging.getLogger(__name__)

T = TypeVar("T")

_OPEN_ATTEMPTS = 20
# Segments to look at for each video: a video that matches has several near ones.
_SEGMENTS_PER_VIDEO = 3.5


class Snapshot:
    """One published state, opened.

    Args:
        folder: of the index.
        manifest: that names its files.
        before: an earlier one, whose files are used again where they are the same.

    Raises:
        FileNotFoundError: a writer has replaced it meanwhile.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, before: "Snapshot | None") -> None:
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
        self._masking = threading.Lock()
        self._measuring = threading.Lock()
        self._statistics: CollectionStatistics | None = None

    def statistics(self, measure: Callable[[], CollectionStatistics]) -> CollectionStatistics:
        """Returns its statistics, which the first thread measures that asks for them. They live as
        long as the snapshot does, however many others are in use."""
        with self._measuring:
            if self._statistics is None:
                self._statistics = measure()
            return self._statistics

    def mask_deleted(self, video_ids: list[int]) -> None:
        """Leaves out videos that have been deleted since."""
        with self._masking:
            for level in self._levels.values():
                level.mask_deleted(video_ids)
            if self.lexical is not None:
                self.lexical.mask_deleted(video_ids)

    def reads(self) -> EmbeddingReads:
        """Returns what reads each embedding once for a query."""
        return EmbeddingReads(self._parts)

    def neighbours(
        self,
        query: np.ndarray,
        reads: EmbeddingReads,
        *,
        level: str,
        num: int,
        only: np.ndarray | None,
    ) -> Neighbours:
        """Finds the vectors among which are the `num` nearest videos: by the whole video, or at
        level `moment` by each video's best segment."""
        searcher = self._levels[level]
        if level == "video":
            return searcher.neighbours(query, reads, k=num, only=only)
        num_segments = math.ceil(_SEGMENTS_PER_VIDEO * num)
        while True:
            found = searcher.neighbours(query, reads, k=num, min_candidates=num_segments, only=only)
            if len(found.videos) < num_segments or len(np.unique(found.videos)) >= num:
                return found
            num_segments *= 4  # a long video that matches evenly has very many near segments

    def candidates(
        self, records: Mapping[int, VideoRecord], reads: EmbeddingReads, *, num_frames: int = 0
    ) -> list[CandidateVideo]:
        """Reads the embeddings of videos, as far as they are there.

        Args:
            records: entries of the catalogue by id.
            num_frames: at most, of each video; 0 for none.
        """
        (whole, num_whole), (segments, num_segments) = (
            self._levels[name].rows_of(list(records)) for name in ("video", "moment")
        )
        is_there = (num_whole > 0) & (num_segments > 0)
        if not is_there.any():
            return []
        found = [r for r, there in zip(records.values(), is_there.tolist(), strict=True) if there]
        whole = whole[(np.cumsum(num_whole) - num_whole)[is_there]]  # the first of each
        segments, counts = segments[np.repeat(is_there, num_segments)], num_segments[is_there]
        # Each video's own row goes before those of its segments.
        rows = np.insert(segments, np.cumsum(counts) - counts, whole)
        frames = {
            record.id: reads.read(_frame_locations(record, row, num_frames))
            for record, row in zip(found, whole, strict=True)
            if num_frames and len(record.frame_times)
        }
        embeddings = reads.read(locations(rows))
        spans = np.stack([rows["start"], rows["end"]], axis=1)
        no_frames = embeddings[:0]
        candidates, first = [], 0
        for record, count in zip(found, counts.tolist(), strict=True):
            last = first + 1 + count
            own = frames.get(record.id, no_frames)
            candidates.append(
                CandidateVideo(record, spans[first + 1 : last], embeddings[first:last], own)
            )
            first = last
        return candidates

    def video_embeddings(self, video_ids: np.ndarray) -> np.ndarray:
        """Returns `(n, D)` float32, the embedding of each whole video; zeros where it is not there.

        Args:
            video_ids: `(n,)`.
        """
        rows, counts = self._levels["video"].rows_of(video_ids.tolist())
        found = np.zeros((len(video_ids), self._parts.embedding_dim), np.float32)
        is_there = counts > 0
        first = (np.cumsum(counts) - counts)[is_there]
        if len(first):
            found[is_there] = self._parts.read(locations(rows[first]))
        return found

    def video_ids(self) -> np.ndarray:
        """`(n,)`, ascending."""
        return self._levels["video"].video_ids()

    def sample(self, in_order: Iterable[tuple[str, int]]) -> VideoSample:
        """Reads the first videos of a list that are there.

        Args:
            in_order: public id and id of the catalogue's videos, by public id.
        """
        reads = self.reads()
        ids: list[str] = []
        whole: list[np.ndarray] = []
        segments: list[np.ndarray] = []
        for public_id, video_id in in_order:
            of_each = [self._levels[name].rows_of([video_id])[0] for name in ("video", "moment")]
            if not all(map(len, of_each)):
                continue  # not published yet
            own = reads.read(np.concatenate([locations(rows) for rows in of_each]))
            ids.append(public_id)
            whole.append(own[:1])
            segments.append(own[1:])
            if len(ids) == SAMPLE_VIDEOS:
                break
        nothing = np.empty((0, self._parts.embedding_dim), np.float32)
        return VideoSample(
            ids,
            np.concatenate([nothing, *whole]),
            np.concatenate([nothing, *segments]),
            np.array([len(each) for each in segments], dtype=np.int64),
        )


def _frame_locations(record: VideoRecord, whole: np.void, num_frames: int) -> np.ndarray:
    """`(T, 2)`, of evenly spread frames."""
    from reelseek.vision.sampling import subsample  # which loads PyTorch

    # A video's rows follow each other: the whole, its segments, its frames.
    first = int(whole["row"]) + 1 + len(record.spans)
    rows = first + subsample(np.arange(len(record.frame_times)), num_frames)
    return np.stack([np.full(len(rows), whole["part"]), rows], axis=1)


def open_latest(folder: Path, open_files: Callable[[Manifest], T]) -> T:
    """Reads the manifest and opens the files it names; again, if a writer replaced them between.

    Raises:
        ValueError: the folder is not an index, or is damaged.
    """
    for attempt in range(_OPEN_ATTEMPTS):
        manifest = Manifest.read(folder)
        try:
            return open_files(manifest)
        except FileNotFoundError as error:
            missing = error.filename
        except ValueError:
            if attempt == _OPEN_ATTEMPTS - 1 or Manifest.read(folder) == manifest:
                raise
        time.sleep(0.01 * (attempt + 1))
    raise ValueError(f"index={folder}: lacks {missing}; run reelseek repair --index {folder}")


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
    if not documents.is_readable(info.analysis):
        logger.warning(
            "texts are not searched by their words: the index is of an earlier version; run "
            "reelseek repair --upgrade --index %s",
            folder,
        )
        return None
    remedy = "the index was made with other packages; run reelseek index again"
    try:
        opened = LexicalIndex(folder, info)
    except ValueError:
        logger.warning("texts are not searched by their words: %s", remedy)
        return None
    logger.warning("words of some languages are found less surely: %s", remedy)
    return opened
