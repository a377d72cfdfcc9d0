"""Videos -> their frames, decoded once: as features of a frozen trunk, or as pixels for one that
trains.

Frames are found by what they were made of: the SHA-256 of the video's file, and a description of
how (sampling, preprocessing, the trunk's weights, precision), whose hash names a folder. Parts are
written whole and then named in `videos.jsonl`, so a killed run loses at most what it had in hand.
Rows are memory-mapped: a collection may be larger than memory.
"""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from indexing.atomic import publish_file, write_atomically
from indexing.changes import file_stamp
from indexing.pipeline import encode_videos
from indexing.progress import progress_bar
from indexing.sources import VideoItem
from indexing.stopping import StopRequest
from vision import DecodePool, FrameEncoder, Preprocessing

logger = logging.getLogger(__name__)

_PART_BYTES = 256 << 20
_SAVE_EVERY_SECONDS = 20.0
_LIST_NAME = "videos.jsonl"


@dataclass(frozen=True)
class CachedVideo:
    """A video's frames.

    Attributes:
        key: the video's name in its collection.
        frames: `(T, F)` float16 features or `(T, 3, H, W)` uint8, memory-mapped.
    """

    key: str
    frames: np.ndarray


@dataclass(frozen=True)
class CacheContents:
    """What `fill` has found of a collection.

    Attributes:
        contents: the SHA-256 of each cached video's file, by key.
        failed: path and reason of those that are missing or broken.
    """

    contents: dict[str, str]
    failed: list[tuple[str, str]]


@dataclass(frozen=True)
class _Place:
    part: int
    first_row: int
    num_rows: int


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
    """The frames that were made in one way.

    Args:
        root: folder of all caches, made if missing.
        description: of how the frames are made; whatever may change them belongs in it.
    """

    def __init__(self, root: Path, description: dict[str, Any]) -> None:
        text = json.dumps(description, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._description = text
        self._places: dict[str, _Place] = {}
        self._parts: dict[int, np.ndarray] = {}

    def fill(
        self,
        items: Sequence[VideoItem],
        *,
        encoder: FrameEncoder | PixelEncoder,
        pool: DecodePool,
        stop: StopRequest,
        show_progress: bool = True,
    ) -> CacheContents:
        """Decodes and encodes what is not here yet.

        Raises:
            ValueError: the cache's folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                return self._fill(
                    items, encoder=encoder, pool=pool, stop=stop, show_progress=show_progress
                )
        except OSError as error:
            raise ValueError(
                f"the cache of frames {self.folder} cannot be written "
                f"({error.strerror or error}); name another folder with data.cache=DIR"
            ) from error

    def videos(self, contents: dict[str, str]) -> dict[str, CachedVideo]:
        """The videos with these contents, by key.

        Raises:
            ValueError: the cache is damaged.
        """
        self._read_list()
        try:
            return {
                key: CachedVideo(key, self._rows(self._places[content]))
                for key, content in contents.items()
            }
        except KeyError as error:
            raise ValueError(
                f"{self.folder} is damaged: delete the folder, which is made anew"
            ) from error

    def _fill(
        self,
        items: Sequence[VideoItem],
        *,
        encoder: FrameEncoder | PixelEncoder,
        pool: DecodePool,
        stop: StopRequest,
        show_progress: bool,
    ) -> CacheContents:
        self._read_list()
        contents: dict[str, str] = {}
        reasons: dict[str, str] = {}
        for item in items:
            try:
                contents[item.key] = file_stamp(item.path).content_sha256
            except OSError as error:
                reasons[item.key] = (error.strerror or str(error)).lower()
        wanted = {  # one of those that share their content
            contents[item.key]: item
            for item in items
            if item.key in contents and contents[item.key] not in self._places
        }
        reasons_by_content = self._encode(
            wanted, encoder=encoder, pool=pool, stop=stop, show_progress=show_progress
        )
        cached = {key: content for key, content in contents.items() if content in self._places}
        for key in contents.keys() - cached.keys():
            reasons[key] = reasons_by_content.get(contents[key], "not decoded")
        failed = [(str(item.path), reasons[item.key]) for item in items if item.key in reasons]
        return CacheContents(cached, failed)

    def _encode(
        self,
        wanted: dict[str, VideoItem],
        *,
        encoder: FrameEncoder | PixelEncoder,
        pool: DecodePool,
        stop: StopRequest,
        show_progress: bool,
    ) -> dict[str, str]:
        """Caches these contents; returns the reasons of those that failed."""
        reasons: dict[str, str] = {}
        waiting: list[tuple[str, np.ndarray]] = []
        num_bytes, saved_at = 0, time.monotonic()
        tagged = ((content, item.path) for content, item in wanted.items() if not stop)
        progress = progress_bar(
            total=len(wanted), desc="caching frames", disable=not (show_progress and wanted)
        )
        # A PixelEncoder has all that the pipeline asks of an encoder.
        videos = encode_videos(tagged, encoder=encoder, pool=pool)  # type: ignore[arg-type]
        with progress:
            for video in videos:
                progress.update()
                if video.outcome != "ok":
                    item = wanted[video.tag]
                    logger.warning("%s: %s: %s", item.path, video.outcome, video.reason)
                if video.outcome == "failed":
                    reasons[video.tag] = video.reason
                    continue
                rows = video.embeddings.numpy()
                rows = rows if rows.dtype == np.uint8 else _as_float16(rows)
                waiting.append((video.tag, rows))
                num_bytes += rows.nbytes
                if num_bytes > _PART_BYTES or time.monotonic() - saved_at > _SAVE_EVERY_SECONDS:
                    self._save(waiting)
                    waiting, num_bytes, saved_at = [], 0, time.monotonic()
        self._save(waiting)
        return reasons

    def _save(self, videos: list[tuple[str, np.ndarray]]) -> None:
        """Writes a part, and then the list that names its rows."""
        if not videos:
            return
        part = 1 + max((place.part for place in self._places.values()), default=-1)
        rows = np.concatenate([rows for _, rows in videos])

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, rows, allow_pickle=False)

        publish_file(self._part_path(part), write)
        first = 0
        for content, own in videos:
            self._places[content] = _Place(part, first, len(own))
            first += len(own)
        lines = [json.dumps({"description": json.loads(self._description)})]
        lines += [
            json.dumps([content, place.part, place.first_row, place.num_rows])
            for content, place in self._places.items()
        ]
        write_atomically(self.folder / _LIST_NAME, ("\n".join(lines) + "\n").encode())

    def _read_list(self) -> None:
        try:
            lines = (self.folder / _LIST_NAME).read_text().splitlines()[1:]
        except FileNotFoundError:
            return
        try:
            for line in lines:
                content, part, first_row, num_rows = json.loads(line)
                self._places[content] = _Place(int(part), int(first_row), int(num_rows))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.folder / _LIST_NAME} is damaged: delete {self.folder}, which is made anew"
            ) from error

    def _rows(self, place: _Place) -> np.ndarray:
        if place.part not in self._parts:
            path = self._part_path(place.part)
            try:
                self._parts[place.part] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ValueError(
                    f"{path} is missing or damaged: delete {self.folder}, which is made anew"
                ) from error
        rows = self._parts[place.part][place.first_row : place.first_row + place.num_rows]
        if len(rows) != place.num_rows:
            path = self._part_path(place.part)
            raise ValueError(f"{path} is damaged: delete {self.folder}, which is made anew")
        return rows

    def _part_path(self, part: int) -> Path:
        return self.folder / f"part-{part:08d}.npy"


def _as_float16(features: np.ndarray) -> np.ndarray:
    """Features within what a float16 can hold; a value beyond it would be infinite."""
    limit = np.finfo(np.float16).max
    return features.clip(-limit, limit).astype(np.float16)
