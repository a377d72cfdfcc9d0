"""Encoded frames of a video -> its segments, and the embeddings that the index stores.

A pure function of the frames, the index's settings and the spread of the model: every machine cuts
a video alike.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.dates import with_capture_date
from reelseek.indexing.store.manifest import IndexSettings
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.vision import (
    DEFAULT_SPREAD,
    cut_scenes,
    frame_spread,
    frames_in_span,
    scene_spans,
    segment_spans,
)

NUM_VIDEOS_FOR_SPREAD = 16  # the sample: they wait for each other until the spread is measured
MIN_VIDEOS_FOR_SPREAD = 8  # fewer do not tell how far apart different videos lie

UNKNOWN_CONTENT = FileSignature(-1, -1, "")


@dataclass
class VideoTag:
    """Travels with a video through the pipeline.

    Attributes:
        signature: known once its file has been read.
        was_kept: an earlier run encoded its last frame.
    """

    item: VideoItem
    signature: FileSignature = UNKNOWN_CONTENT
    was_kept: bool = False

    def new_video(self, outcome: str, **values: Any) -> NewVideo:
        """Returns the catalogue's entry, with further fields of `NewVideo`."""
        item = self.item
        values = {"root": item.root, "metadata": item.metadata} | values
        return NewVideo(item.key, item.address, self.signature, outcome, **values)


def needs_spread(settings: IndexSettings) -> bool:
    """Whether cutting a video depends on how far apart frames of different videos lie."""
    return settings.segments["kind"] == "scenes"


def spread_sample(items: Sequence[VideoItem]) -> tuple[list[VideoItem], list[VideoItem]]:
    """Returns the videos to measure the spread on, and the others.

    A hash of their keys chooses them, so that it does not matter which videos are encoded first.
    """
    chosen = {item.root_and_key for item in sorted(items, key=_hash_of_key)[:NUM_VIDEOS_FOR_SPREAD]}
    sample = [item for item in items if item.root_and_key in chosen]
    return sample, [item for item in items if item.root_and_key not in chosen]


def _hash_of_key(item: VideoItem) -> tuple[bytes, str]:
    key = item.key.encode("utf-8", "surrogateescape")
    return hashlib.sha256(key).digest(), item.root


def measure_spread(videos: Sequence[EncodedVideo[VideoTag]]) -> float | None:
    """Returns the spread of the videos' middle frames (`vision.frame_spread`), whatever their
    order; None for too few videos."""
    if len(videos) < MIN_VIDEOS_FOR_SPREAD:
        return None
    ordered = sorted(videos, key=lambda video: video.tag.signature.content_sha256)
    frames = [video.embeddings[len(video.embeddings) // 2] for video in ordered]
    return frame_spread(torch.stack(frames).numpy())


def segment_video(
    encoded: EncodedVideo[VideoTag],
    settings: IndexSettings,
    *,
    spread: float,
    pool: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[NewVideo, np.ndarray]:
    """Cuts a video into segments and pools their frames.

    Args:
        encoded: a video that decoded, at least in part.
        spread: of the index, by `measure_spread`; 0 where it was not measured.
        pool: embeds a stretch of video: `(T, D)` to `(D,)`.

    Returns:
        The entry, and `(1 + S + T, D)` float32: the embeddings of the video, of its segments and of
        its frames.
    """
    spans = _spans(encoded, settings, spread=spread)
    video = encoded.tag.new_video(
        encoded.outcome,
        reason=encoded.reason,
        decoder=encoded.decoder,
        num_frames=len(encoded.embeddings),
        duration_seconds=encoded.duration_seconds,
        metadata=with_capture_date(encoded.tag.item.metadata, encoded.captured),
        spans=spans,
        frame_times=encoded.times_seconds,
    )
    pooled = [pool(encoded.embeddings)]
    for start, end in spans:
        inside = frames_in_span(encoded.times_seconds, start, end)
        pooled.append(pool(encoded.embeddings[inside]))
    return video, torch.cat([torch.stack(pooled), encoded.embeddings]).numpy()


def _spans(encoded: EncodedVideo, settings: IndexSettings, *, spread: float) -> np.ndarray:
    """Returns `(S, 2)` seconds: the sampler's shots, else scenes or windows."""
    if encoded.shot_spans is not None:
        return encoded.shot_spans
    times = encoded.times_seconds
    # Beyond the last frame of a broken video nothing can be shown.
    end = float(times[-1]) if encoded.outcome == "partial" else encoded.duration_seconds
    if needs_spread(settings):
        firsts = cut_scenes(encoded.embeddings.numpy(), spread=spread or DEFAULT_SPREAD)
        return scene_spans(firsts, times, duration_seconds=end)
    return segment_spans(
        end,
        segment_seconds=settings.segments["seconds"],
        overlap_seconds=settings.segments["overlap_seconds"],
    )
