"""Videos -> their frames, decoded once: as features of a frozen trunk, or as pixels for one that
trains.

The key of a video's frames is the SHA-256 of its file, and a description of how they were made:
sampling, preprocessing, the trunk's weights, precision.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.indexing.pipeline import encode_videos
from reelseek.indexing.progress import progress_bar
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.sources.diff import file_signature
from reelseek.training.lists import why_missing
from reelseek.training.row_store import NamedRows, PartWriter, RowStore
from reelseek.vision import DecodePool, FrameEncoder, Preprocessing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedVideo:
    """A video's frames.

    Attributes:
        key: the video's name in its collection.
        frames: `(T, F)` float16 features or `(T, 3, H, W)` uint8, memory-mapped.
        times_seconds: `(T,)` float64, where they are known.
        duration_seconds: of the video, where it is known.
    """

    key: str
    frames: np.ndarray
    times_seconds: np.ndarray | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True)
class CacheContents:
    """The result of `FrameCache.fill`.

    Attributes:
        contents: the SHA-256 of each cached video's file, by key.
        failed: path and reason of those that are missing or broken.
    """

    contents: dict[str, str]
    failed: list[tuple[str, str]]


class PixelEncoder:
    """Stands in for a `FrameEncoder` where frames are kept as they are: `(T, 3, H, W)` uint8."""

    num_parallel = 1
    batch_frames = 32
    embedding_dim = 0

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        done: Future[torch.Tensor] = Future()
        done.set_result(pixels)
        return done


class FrameCache:
    """Frames that were all made in one way.

    Args:
        root: folder of all caches, made if missing.
        description: of how the frames are made, with all that may change them.
    """

    def __init__(self, root: Path, description: dict[str, Any]) -> None:
        self._store = RowStore(root, description, list_name="videos.jsonl")
        self.folder = self._store.folder

    def fill(
        self,
        items: Sequence[VideoItem],
        *,
        encoder: FrameEncoder | PixelEncoder,
        pool: DecodePool,
        stop: StopRequest,
        with_times: bool = False,
        show_progress: bool = True,
    ) -> CacheContents:
        """Decodes and encodes the videos that the cache lacks.

        Args:
            items: the videos.
            encoder: of frames.
            pool: decodes.
            stop: ends it after the videos in progress.
            with_times: makes frames again whose times an older version did not keep.
            show_progress: on stderr.

        Raises:
            ValueError: the cache's folder cannot be written.
        """
        with self._store.locked():
            missing, contents, reasons = self._find(items, with_times=with_times)
            by_content = self._encode(
                missing, encoder=encoder, pool=pool, stop=stop, show_progress=show_progress
            )
        cached = {key: content for key, content in contents.items() if content in self._store}
        for key in contents.keys() - cached.keys():
            reasons[key] = by_content.get(contents[key], "not decoded")
        failed = [(str(item.path), reasons[item.key]) for item in items if item.key in reasons]
        return CacheContents(cached, failed)

    def videos(self, contents: dict[str, str]) -> dict[str, CachedVideo]:
        """The videos with these contents, by key.

        Raises:
            ValueError: the cache is damaged.
        """
        self._store.read()
        return {key: self._video(key, content) for key, content in contents.items()}

    def _video(self, key: str, content: str) -> CachedVideo:
        frames, metadata = self._store.rows(content), self._store.metadata(content)
        times = metadata.get("times_seconds")
        return CachedVideo(
            key,
            frames,
            None if times is None else np.array(times, np.float64),
            metadata.get("duration_seconds"),
        )

    def _find(
        self, items: Sequence[VideoItem], *, with_times: bool
    ) -> tuple[dict[str, VideoItem], dict[str, str], dict[str, str]]:
        """Returns the videos that the cache lacks, by content (one for each content); the content
        of each video, by key; and why others cannot be read, by key."""
        contents: dict[str, str] = {}
        reasons: dict[str, str] = {}
        for item in items:
            if reason := why_missing(item.path):
                reasons[item.key] = reason
                continue
            try:
                contents[item.key] = file_signature(item.path).content_sha256
            except OSError as error:
                reasons[item.key] = (error.strerror or str(error)).lower()
        missing = {
            contents[item.key]: item
            for item in items
            if item.key in contents and not self._has(contents[item.key], with_times=with_times)
        }
        return missing, contents, reasons

    def _has(self, content: str, *, with_times: bool) -> bool:
        if content not in self._store:
            return False
        return not with_times or "times_seconds" in self._store.metadata(content)

    def _encode(
        self,
        missing: dict[str, VideoItem],
        *,
        encoder: FrameEncoder | PixelEncoder,
        pool: DecodePool,
        stop: StopRequest,
        show_progress: bool,
    ) -> dict[str, str]:
        """Caches these contents; returns why others failed, by content."""
        reasons: dict[str, str] = {}
        writer = PartWriter(self._store)
        tagged = ((content, item.path) for content, item in missing.items() if not stop)
        progress = progress_bar(
            total=len(missing), desc="caching frames", disable=not (show_progress and missing)
        )
        # A PixelEncoder has all that the pipeline asks of an encoder.
        videos = encode_videos(tagged, encoder=encoder, pool=pool)  # type: ignore[arg-type]
        with progress:
            for video in videos:
                progress.update()
                if video.outcome != "ok":
                    item = missing[video.tag]
                    logger.warning("%s: %s: %s", item.path, video.outcome, video.reason)
                if video.outcome == "failed":
                    reasons[video.tag] = video.reason
                    continue
                rows = video.embeddings.numpy()
                rows = rows if rows.dtype == np.uint8 else _as_float16(rows)
                times = {
                    "times_seconds": video.times_seconds.tolist(),
                    "duration_seconds": video.duration_seconds,
                }
                writer.add(NamedRows(video.tag, rows, times))
        writer.flush()
        return reasons


def _as_float16(features: np.ndarray) -> np.ndarray:
    """Clips features to the range of float16, beyond which they would become infinite."""
    limit = np.finfo(np.float16).max
    return features.clip(-limit, limit).astype(np.float16)
