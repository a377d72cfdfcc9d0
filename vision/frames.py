"""A file and a sampler -> its sampled frames, at the model's size, a few at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vision.decoding import open_video
from vision.preprocessing import Preprocessing
from vision.sampling import Sampler

_CHUNK_FRAMES = 32  # decoded at full size together: 200 MB for 1080p


@dataclass(frozen=True)
class Frames:
    """Sampled frames of one video.

    Attributes:
        pixels: `(T, 3, height, width)` uint8, resized and cropped to the model's input.
        times_seconds: `(T,)` float64, presentation times from the video's first frame.
        duration_seconds: of the whole video.
        is_last: whether the video has no further frames to come.
    """

    pixels: torch.Tensor
    times_seconds: np.ndarray
    duration_seconds: float
    is_last: bool


def iter_frames(
    path: str | Path, *, sampler: Sampler, preprocessing: Preprocessing
) -> Iterator[Frames]:
    """Decodes the sampled frames in order, so that an hour-long video needs little memory.

    Raises:
        VideoDecodeError: the file is unreadable, from its start or from some frame on.
    """
    reader = open_video(path)
    frame_indices = sampler(reader.times_seconds, reader.duration_seconds)
    for first in range(0, len(frame_indices), _CHUNK_FRAMES):
        chosen = frame_indices[first : first + _CHUNK_FRAMES]
        yield Frames(
            pixels=preprocessing.resize(reader.read(chosen.tolist())),
            times_seconds=reader.times_seconds[chosen],
            duration_seconds=reader.duration_seconds,
            is_last=first + _CHUNK_FRAMES >= len(frame_indices),
        )
