"""The embeddings of an index -> how alike videos look, and which are nearest."""

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import Protocol

import numpy as np

from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.recommendation.catalogue import ItemCatalogue

__all__ = ["Content", "IndexContent"]

_SAMPLE = 256  # videos, whose likeness to each other is what is usual
_MAX_KEPT = 20_000  # videos whose nearest are kept


class Content(Protocol):
    """How N videos look, by the rows of a catalogue.

    Attributes:
        baseline: the mean cosine of two videos.
    """

    baseline: float

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """`(n,)` -> `(n, D)` float32, L2-normalised."""
        ...

    def nearest(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns about k other videos that look most like one, and their cosines."""
        ...


class IndexContent:
    """The videos of an index, found by its own FAISS indexes. Threads may share it."""

    def __init__(self, catalogue: ItemCatalogue, *, max_kept: int = _MAX_KEPT) -> None:
        self._catalogue = catalogue
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._lock = Lock()
        # Rows of a shard stand by ascending id, one shard after the other.
        positions = catalogue.shard_positions
        self._starts = np.searchsorted(positions, np.arange(len(catalogue.shards) + 1))
        self.baseline = self._measured()

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        found = []
        positions = self._catalogue.shard_positions[rows]
        order = []
        for position in np.unique(positions).tolist():
            here = np.flatnonzero(positions == position)
            snapshot = self._catalogue.shards[position].snapshot
            ids = self._catalogue.video_ids[rows[here]]
            found.append(snapshot.video_embeddings(ids))
            order.append(here)
        if not found:
            return np.zeros((0, 0), np.float32)
        back = np.argsort(np.concatenate(order))
        return np.concatenate(found)[back]

    def nearest(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        key = row, k
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        (own,) = self.embeddings(np.array([row]))
        rows, scores = self.nearest_to(own, k + 1, level="video")
        found = rows[rows != row][:k], scores[rows != row][:k]
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return found

    def nearest_to(
        self, embedding: np.ndarray, k: int, *, level: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the videos that are most like an embedding, or whose best segment is, and their
        cosines, the best first."""
        rows: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        for position, shard in enumerate(self._catalogue.shards):
            found = shard.snapshot.neighbours(
                embedding, shard.snapshot.reads(), level=level, num=k, only=None
            )
            at, is_known = self._rows_of(position, found.videos)
            rows.append(at[is_known])
            scores.append(found.scores[is_known])
        joined, values = np.concatenate(rows), np.concatenate(scores)
        order = np.lexsort((joined, -values))
        joined, values = joined[order], values[order]
        _, first = np.unique(joined, return_index=True)  # of a video's segments, the best
        first = np.sort(first)[:k]
        return joined[first], values[first]

    def best_seconds(
        self, records: Mapping[int, VideoRecord], embedding: np.ndarray
    ) -> dict[int, float]:
        """Returns the middle of the segment of each video that is most like an embedding.

        Args:
            records: entries by row.
        """
        found: dict[int, float] = {}
        for position, shard in enumerate(self._catalogue.shards):
            row_by_id = {
                record.id: row
                for row, record in records.items()
                if self._catalogue.shard_positions[row] == position
            }
            if not row_by_id:
                continue
            here = {records[row].id: records[row] for row in row_by_id.values()}
            for video in shard.snapshot.candidates(here, shard.snapshot.reads()):
                start, end = video.spans[int(np.argmax(video.scores(embedding)[1:]))]
                found[row_by_id[video.record.id]] = float(start + end) / 2
        return found

    def _rows_of(self, position: int, video_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a shard's videos, and which of them the catalogue has."""
        start, end = self._starts[position], self._starts[position + 1]
        known = self._catalogue.video_ids[start:end]
        if not len(known):
            return np.zeros(len(video_ids), np.int64), np.zeros(len(video_ids), bool)
        at = np.minimum(np.searchsorted(known, video_ids), len(known) - 1)
        return at + start, known[at] == video_ids

    def _measured(self) -> float:
        num = len(self._catalogue)
        if num < 2:
            return 0.0
        # The smallest ids, which are hashes: the same however the index is divided.
        ids = self._catalogue.ids
        rows = np.array(heapq.nsmallest(_SAMPLE, range(num), key=ids.__getitem__), np.int64)
        sample = self.embeddings(rows)
        cosines = sample @ sample.T
        others = ~np.eye(len(rows), dtype=bool)
        return float(np.clip(cosines[others].mean(), 0.0, 0.95))
