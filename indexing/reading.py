"""An index on disk -> the videos or moments nearest to an embedding."""

import time
from pathlib import Path

import numpy as np

from indexing.catalogue import Catalogue, SegmentRecord
from indexing.embeddings import EmbeddingParts
from indexing.faiss_index import nearest, read_faiss
from indexing.hits import SearchHit
from indexing.manifest import Manifest
from indexing.moments import merge_moments
from indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME, LEVELS, faiss_path

_OPEN_ATTEMPTS = 5
# Segments looked at for each moment wanted: neighbours that merge, and several of one video.
_SEGMENTS_PER_MOMENT = 20


class IndexReader:
    """A published generation of an index, opened for searching.

    Args:
        folder: of the index.

    Raises:
        ValueError: the folder is not an index, is damaged, or nothing in it is searchable yet.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest, self._faiss = _open_generation(folder)
        if not self.manifest.num_videos:
            raise ValueError(
                f"index={folder}: nothing in it can be searched yet; run python -m indexing again"
            )
        self._catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
        self._parts = EmbeddingParts(
            folder / EMBEDDINGS_NAME, embedding_dim=self.manifest.settings.embedding_dim
        )

    def search(self, query: np.ndarray, *, k: int, level: str = "video") -> list[SearchHit]:
        """The best matches for a query embedding.

        Args:
            query: `(D,)` float32, L2-normalised.
            k: hits to return; fewer come back where there are fewer.
            level: `video` or `moment`.

        Raises:
            ValueError: k or level is out of range.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        if level not in LEVELS:
            raise ValueError(f"level={level}: must be one of {', '.join(LEVELS)}")
        return self._videos(query, k) if level == "video" else self._moments(query, k)

    def close(self) -> None:
        self._catalogue.close()

    def _videos(self, query: np.ndarray, k: int) -> list[SearchHit]:
        scores, ids = nearest(self._faiss["video"], query, k=k)
        records = self._catalogue.videos(ids.tolist())
        segments = self._catalogue.segments_of_videos(list(records))
        hits: list[SearchHit] = []
        for score, video_id in zip(scores.tolist(), ids.tolist(), strict=True):
            # It may have been deleted since this generation was published, or a moment ago.
            if video_id not in records or not segments[video_id]:
                continue
            record = records[video_id]
            best = segments[video_id][int(self._scores(query, segments[video_id]).argmax())]
            hits.append(
                SearchHit(
                    rank=len(hits) + 1,
                    video=record.path,
                    score=score,
                    start_seconds=0.0,
                    end_seconds=record.duration_seconds,
                    best_seconds=(best.start_seconds + best.end_seconds) / 2,
                    duration_seconds=record.duration_seconds,
                    key=record.key,
                    metadata=record.metadata,
                )
            )
        return hits

    def _moments(self, query: np.ndarray, k: int) -> list[SearchHit]:
        index, num_segments = self._faiss["moment"], _SEGMENTS_PER_MOMENT * k
        while True:
            hits = self._moments_among(query, k, num_segments=num_segments)
            if len(hits) >= k or num_segments >= index.ntotal:
                return hits
            num_segments *= 4  # a long video that matches evenly is many segments and one moment

    def _moments_among(self, query: np.ndarray, k: int, *, num_segments: int) -> list[SearchHit]:
        """The best moments, of those that contain one of the nearest segments."""
        scores, segment_ids = nearest(self._faiss["moment"], query, k=num_segments)
        videos = self._catalogue.video_ids_of_segments(segment_ids.tolist())
        by_video = self._catalogue.segments_of_videos(sorted(set(videos.values())))
        records = self._catalogue.videos(list(by_video))
        found = []
        for video_id, segments in by_video.items():
            if video_id not in records or not segments:  # deleted a moment ago
                continue
            spans = np.array([[s.start_seconds, s.end_seconds] for s in segments])
            for moment in merge_moments(self._scores(query, segments), spans):
                # Below the last candidate, other videos may hold moments that were not looked at.
                if moment.score < scores[-1] - 1e-3:
                    break
                found.append((moment, video_id, spans[moment.best_segment].mean()))
        found.sort(key=lambda entry: (-entry[0].score, entry[1], entry[0].start_seconds))
        return [
            SearchHit(
                rank=rank,
                video=records[video_id].path,
                score=moment.score,
                start_seconds=moment.start_seconds,
                end_seconds=moment.end_seconds,
                best_seconds=float(best_seconds),
                duration_seconds=records[video_id].duration_seconds,
                key=records[video_id].key,
                metadata=records[video_id].metadata,
            )
            for rank, (moment, video_id, best_seconds) in enumerate(found[:k], start=1)
        ]

    def _scores(self, query: np.ndarray, segments: list[SegmentRecord]) -> np.ndarray:
        locations = np.array([segment.location for segment in segments], dtype=np.int64)
        return self._parts.read(locations) @ query


def _open_generation(folder: Path) -> tuple[Manifest, dict]:
    """Reads the manifest and the FAISS files it names; again, if a writer replaced them between."""
    for _ in range(_OPEN_ATTEMPTS):
        manifest = Manifest.read(folder)
        if manifest.generation == 0:
            return manifest, {}
        try:
            return manifest, {
                level: read_faiss(faiss_path(folder, level, manifest.generation))
                for level in LEVELS
            }
        except FileNotFoundError:
            time.sleep(0.05)
    raise ValueError(
        f"index={folder}: lacks the FAISS files of generation {manifest.generation}; run "
        "python -m indexing again to rebuild them"
    )
