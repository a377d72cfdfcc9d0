"""A video's file -> what it holds, or its rows in the index: the tasks that run on the nodes.

Each process keeps one worker that decodes, as on one machine, so that broken files are handled
alike. Frames go to encoders, a bounded number of bytes at a time; what comes back is small.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from reelseek.indexing.building.segmenting import VideoTag, needs_spread, segment_video
from reelseek.indexing.cluster.encoding import RemoteEncoder
from reelseek.indexing.cluster.jobs import Declined
from reelseek.indexing.cluster.placement import live_nodes
from reelseek.indexing.pipeline import EncodedVideo, encode_videos
from reelseek.indexing.store.manifest import IndexSettings
from reelseek.indexing.store.videos import NewVideo
from reelseek.vision import DecodePool, FileContent, FrameSettings, WorkerLimits
from reelseek.vision.decoding.frames import ReaderOpeners
from reelseek.vision.decoding.opening import reader_openers

CHUNK_FRAMES = 32  # that are sent to an encoder at once


@dataclass(frozen=True)
class DecodeSettings:
    """How videos are decoded in a run.

    Attributes:
        run: names the run, so that a process knows whether its worker fits.
        frames: to take from each video.
        decoders: in the order to try them.
        limits: of each worker.
        openers: for `iter_frames`; tests pass another function, importable by its name.
    """

    run: str
    frames: FrameSettings
    decoders: tuple[str, ...]
    limits: WorkerLimits
    openers: ReaderOpeners = reader_openers


@dataclass(frozen=True)
class EncodeSettings:
    """What becomes of the frames.

    Attributes:
        index: settings of the index.
        encoder: of the cluster.
        queued_chunks: of frames that wait in a task at most.
        spread: to cut scenes by; None for videos that it is to be measured on.
    """

    index: IndexSettings
    encoder: RemoteEncoder
    queued_chunks: int
    spread: float | None


# Of a video: its entry and its rows, or where the spread is to be measured, its frames.
Decoded: TypeAlias = NewVideo | EncodedVideo[VideoTag]

_pools: dict[str, DecodePool] = {}  # of this process


def read_video(settings: DecodeSettings, path: Path) -> Iterator[Any]:
    """A task: yields the id of its node, then the file's content or why it cannot be read."""
    import ray

    pool = _pool(settings)
    yield ray.get_runtime_context().get_node_id()
    contents: list[FileContent] = []

    def note(_: None, content: FileContent) -> None:
        contents.append(content)

    failed = [item for _, item in pool.decode([(None, path)], admit=note)]
    yield contents[0] if contents else failed[0]


def decode_video(
    settings: DecodeSettings, tag: VideoTag, encode: EncodeSettings, *, fetcher: Any = None
) -> Iterator[Decoded | Declined | np.ndarray | str]:
    """A task: yields the id of its node, then the video and, where it is an entry, its rows.

    Declines a remote video whose copy is not on this node.

    Args:
        fetcher: of this node, to fetch a copy with.
    """
    import ray

    pool = _pool(settings)
    yield ray.get_runtime_context().get_node_id()
    if fetcher is not None:
        tag = replace(tag, item=ray.get(fetcher.fetch_now.remote(tag.item)))
    is_copy = tag.item.remote is not None
    if is_copy and not tag.item.path.exists():
        yield Declined()
        return
    videos = [(tag, tag.item.path)]
    (encoded,) = encode_videos(
        videos, encoder=encode.encoder, pool=pool, queued_chunks=encode.queued_chunks
    )
    if is_copy and encoded.outcome != "ok" and not tag.item.path.exists():
        yield Declined()  # what fetches has died meanwhile, and started again
    elif encoded.outcome == "failed":
        yield failed_video(tag, encoded.reason)
        yield no_rows(encode.index)
    elif encode.spread is None and needs_spread(encode.index):
        yield encoded
    else:
        spread = encode.spread or 0.0
        video, rows = segment_video(encoded, encode.index, spread=spread, pool=encode.encoder.pool)
        yield video
        yield rows


def start_workers(settings: DecodeSettings) -> None:
    """Has the nodes start their workers, without waiting for them."""
    import ray

    task = ray.remote(_start_worker).options(num_cpus=1, scheduling_strategy="SPREAD")
    for node in live_nodes():
        for _ in range(node.num_cores):
            task.remote(settings)


def _start_worker(settings: DecodeSettings) -> None:
    _pool(settings)


def failed_video(tag: VideoTag, reason: str) -> NewVideo:
    return tag.new_video("failed", reason=reason)


def no_rows(settings: IndexSettings) -> np.ndarray:
    """Returns the rows of a video that failed."""
    return np.empty((0, settings.embedding_dim), np.float32)


def _pool(settings: DecodeSettings) -> DecodePool:
    """Returns this process's worker, and starts it for its first video."""
    if settings.run not in _pools:
        for pool in _pools.values():
            pool.close()
        _pools.clear()
        _pools[settings.run] = pool = DecodePool(
            settings.frames,
            num_workers=1,
            decoders=settings.decoders,
            limits=settings.limits,
            openers=settings.openers,
        )
        # Loading its libraries takes seconds, which are no video's.
        list(pool.decode([(None, Path())], admit=lambda _, content: None))
    return _pools[settings.run]
