"""A file and a sampler -> its sampled frames, at the model's size, a few at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vision.decoding import VideoReader, reader_openers
from vision.errors import VideoDecodeError
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
        VideoDecodeError: the file is unreadable; or, after the frames that decode, some do not.
    """
    reason = VideoDecodeError("no decoder can open it")
    openers = list(reader_openers(path))
    for attempt, open_reader in enumerate(openers):
        try:
            yield from _iter_reader(
                open_reader(),
                sampler=sampler,
                preprocessing=preprocessing,
                gaps_at_once=attempt == len(openers) - 1,
            )
            return
        except _SomeMissing:
            raise
        except VideoDecodeError as error:
            reason = error
    raise reason


class _SomeMissing(VideoDecodeError):
    """Some frames were passed on, and others did not decode."""


def _iter_reader(
    reader: VideoReader, *, sampler: Sampler, preprocessing: Preprocessing, gaps_at_once: bool
) -> Iterator[Frames]:
    """Reads with one decoder. Frames that do not decode are left out; unless `gaps_at_once`, not
    among the first, since another decoder may yet do better."""
    frame_indices = sampler(reader.times_seconds, reader.duration_seconds)
    num_missing = 0
    for first in range(0, len(frame_indices), _CHUNK_FRAMES):
        chosen = frame_indices[first : first + _CHUNK_FRAMES]
        pixels, decoded = _read_what_decodes(reader, chosen)
        num_missing += len(chosen) - len(decoded)
        if first == 0 and (not len(decoded) or (num_missing and not gaps_at_once)):
            raise VideoDecodeError("frames that were asked for cannot be decoded")
        if len(decoded):
            yield Frames(
                pixels=preprocessing.resize(pixels),
                times_seconds=reader.times_seconds[decoded],
                duration_seconds=reader.duration_seconds,
                is_last=first + _CHUNK_FRAMES >= len(frame_indices)
                and not num_missing
                and not reader.num_lost_frames,
            )
    if reader.num_lost_frames:
        raise _SomeMissing(
            f"{reader.num_lost_frames} of the frames that the file lists are cut off or damaged"
        )
    if num_missing:
        raise _SomeMissing(
            f"{num_missing} of {len(frame_indices)} sampled frames cannot be decoded"
        )


def _read_what_decodes(
    reader: VideoReader, frame_indices: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """The frames, or where they do not all decode those that do, with their indices."""
    try:
        return reader.read(frame_indices.tolist()), frame_indices
    except VideoDecodeError:
        frames, decoded = [], []
        for index in frame_indices.tolist():
            try:
                frames.append(reader.read([index]))
                decoded.append(index)
            except VideoDecodeError:
                continue
        return torch.cat(frames) if frames else torch.empty(0), np.array(decoded, dtype=np.int64)
