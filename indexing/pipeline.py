"""Videos -> frame embeddings: one thread decodes ahead while the model encodes.

Frames of several videos are encoded together, so that short videos fill the model's batches too.
"""

import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

import numpy as np
import torch

from vision import FrameEncoder, Frames, Sampler, VideoDecodeError, iter_frames

_QUEUED_CHUNKS = 8  # chunks of at most 32 frames at the model's size: 6 MB each at 260 pixels
_ENCODED_TOGETHER = 64  # frames

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class EncodedVideo(Generic[Tag]):
    """What became of one video.

    Attributes:
        tag: what the caller gave with the path.
        embeddings: `(T, D)` float32, L2-normalised; T is 0 where the outcome is failed.
        times_seconds: `(T,)` float64, presentation times.
        outcome: `ok`, `partial` (other frames are lost or do not decode) or `failed`.
        reason: for people; empty for `ok`.
    """

    tag: Tag
    embeddings: torch.Tensor
    times_seconds: np.ndarray
    duration_seconds: float
    outcome: str
    reason: str


@dataclass(frozen=True)
class _Broken:
    """Stands for the rest of a video that could not be decoded."""

    reason: str


def encode_videos(
    videos: Iterable[tuple[Tag, Path]], *, encoder: FrameEncoder, sampler: Sampler
) -> Generator[EncodedVideo[Tag], None, None]:
    """Decodes and encodes videos, in their order; a broken one is an outcome, not an error."""
    chunks: Queue[tuple[Tag, Frames | _Broken] | None] = Queue(_QUEUED_CHUNKS)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def put(item: tuple[Tag, Frames | _Broken] | None) -> None:
        while not stopped.is_set():
            try:
                return chunks.put(item, timeout=0.1)
            except Full:
                continue

    def decode() -> None:
        torch.set_num_threads(1)  # of this thread; the cores belong to the model
        try:
            for tag, path in videos:
                try:
                    for frames in iter_frames(
                        path, sampler=sampler, preprocessing=encoder.preprocessing
                    ):
                        put((tag, frames))
                        if stopped.is_set():
                            return
                except VideoDecodeError as error:
                    put((tag, _Broken(str(error))))
        except BaseException as error:  # raised again in the caller's thread
            failure.append(error)
        finally:
            put(None)

    thread = threading.Thread(target=decode, name="decode", daemon=True)
    thread.start()
    try:
        yield from _encode_chunks(chunks, encoder)
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()


def _encode_chunks(
    chunks: "Queue[tuple[Tag, Frames | _Broken] | None]", encoder: FrameEncoder
) -> Iterator[EncodedVideo[Tag]]:
    """Packs chunks into batches, and hands out each video when its last chunk is encoded."""
    parts: list[tuple[torch.Tensor, Frames]] = []  # of the video that is not finished yet
    for batch in _batches(chunks):
        pixels = [frames.pixels for _, frames in batch if isinstance(frames, Frames)]
        encoded = iter(
            encoder.encode(torch.cat(pixels)).split([len(p) for p in pixels]) if pixels else ()
        )
        for tag, frames in batch:
            if isinstance(frames, Frames):
                parts.append((next(encoded), frames))
                if not frames.is_last:
                    continue
            yield _finish(tag, parts, encoder, reason="" if isinstance(frames, Frames)
                          else frames.reason)  # fmt: skip
            parts = []


def _batches(
    chunks: "Queue[tuple[Tag, Frames | _Broken] | None]",
) -> Iterator[list[tuple[Tag, Frames | _Broken]]]:
    """Takes chunks until there are enough frames for the model, or no more are ready."""
    while (chunk := chunks.get()) is not None:
        batch = [chunk]
        num_frames = _num_frames(chunk)
        while num_frames < _ENCODED_TOGETHER:
            try:
                further = chunks.get_nowait()
            except Empty:
                break
            if further is None:
                yield batch
                return
            batch.append(further)
            num_frames += _num_frames(further)
        yield batch


def _num_frames(chunk: tuple[Tag, Frames | _Broken]) -> int:
    return len(chunk[1].pixels) if isinstance(chunk[1], Frames) else 0


def _finish(
    tag: Tag, parts: list[tuple[torch.Tensor, Frames]], encoder: FrameEncoder, *, reason: str
) -> EncodedVideo[Tag]:
    if not parts:
        nothing = torch.empty(0, encoder.embedding_dim)
        return EncodedVideo(tag, nothing, np.empty(0), 0.0, "failed", reason)
    times = np.concatenate([frames.times_seconds for _, frames in parts])
    if reason:
        reason = f"{reason}; {len(times)} decode, the last at second {times[-1]:.1f}"
    return EncodedVideo(
        tag,
        torch.cat([embeddings for embeddings, _ in parts]),
        times,
        parts[0][1].duration_seconds,
        "partial" if reason else "ok",
        reason,
    )
