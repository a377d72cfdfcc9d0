"""Samples frames of a video, and divides its duration into segments.

Samplers return indices into the video's own presentation times, so they handle variable frame
rates.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from reelseek.vision.decoding.reader import Timeline, VideoReader

# Decoders and number formats may differ by less than this in a frame's time.
ROUNDING_SECONDS = 0.0005


class Samples(NamedTuple):
    """The choice of a sampler.

    Attributes:
        frame_indices: `(T,)` int64, ascending, without repeats, T at least 1.
        shot_spans: `(S, 2)` float64 of `[start_seconds, end_seconds)` if the sampler finds shots,
            else None.
    """

    frame_indices: np.ndarray
    shot_spans: np.ndarray | None = None


class Sampler(Protocol):
    """Chooses frames of a video. Must be picklable for worker processes."""

    def __call__(self, video: VideoReader) -> Samples: ...


@dataclass(frozen=True)
class UniformSampler:
    """Samples the frames on screen at the middles of `num_frames` equal parts of the video.

    This is TSN-style uniform sampling (Wang et al. 2016, section 3.1) with the middle of each part
    instead of a random point. A shorter video gives each of its frames once.
    """

    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}: must be at least 1")

    def __call__(self, video: Timeline) -> Samples:
        middles = (np.arange(self.num_frames) + 0.5) * video.duration_seconds / self.num_frames
        return Samples(frame_indices_at(video.times_seconds, middles))


@dataclass(frozen=True)
class IntervalSampler:
    """Samples the frame on screen at the middle of every interval of `every_seconds`.

    Samples uniformly if that gives fewer than `min_frames` or more than `max_frames`.
    """

    every_seconds: float
    min_frames: int = 1
    max_frames: int = 100_000

    def __post_init__(self) -> None:
        if not self.every_seconds > 0:
            raise ValueError(f"every_seconds is {self.every_seconds}: must be more than 0")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(
                f"min_frames is {self.min_frames} and max_frames {self.max_frames}: "
                "must be 1 <= min_frames <= max_frames"
            )

    def __call__(self, video: Timeline) -> Samples:
        num_frames = int((video.duration_seconds + ROUNDING_SECONDS) / self.every_seconds)
        if not self.min_frames <= num_frames <= self.max_frames:
            return UniformSampler(min(max(num_frames, self.min_frames), self.max_frames))(video)
        middles = (np.arange(num_frames) + 0.5) * self.every_seconds
        return Samples(frame_indices_at(video.times_seconds, middles))


@dataclass(frozen=True)
class KeyFrameSampler:
    """Samples key frames, which decode without other frames; an even subset if too many."""

    max_frames: int = 100_000

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}: must be at least 1")

    def __call__(self, video: Timeline) -> Samples:
        key_frames = np.flatnonzero(video.is_key_frame)
        if not len(key_frames):
            key_frames = np.zeros(1, dtype=np.int64)
        return Samples(subsample(key_frames, self.max_frames))


@dataclass(frozen=True)
class MomentSampler:
    """Samples the frames on screen at given moments, in seconds from the first frame."""

    moments_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.moments_seconds:
            raise ValueError("moments_seconds is empty: must name at least one moment")

    def __call__(self, video: Timeline) -> Samples:
        return Samples(frame_indices_at(video.times_seconds, np.array(self.moments_seconds)))


def subsample(values: np.ndarray, max_num: int) -> np.ndarray:
    """Returns at most `max_num` of the values, evenly spread over their positions."""
    if len(values) <= max_num:
        return values
    return values[((np.arange(max_num) + 0.5) * len(values) / max_num).astype(np.int64)]


def segment_spans(
    duration_seconds: float, *, segment_seconds: float, overlap_seconds: float
) -> np.ndarray:
    """Divides `[0, duration_seconds)` into overlapping segments of equal length.

    Returns:
        `(S, 2)` float64 of `[start_seconds, end_seconds)`, S at least 1. Consecutive starts are
        `segment_seconds - overlap_seconds` apart; only the last segment may be shorter.
    """
    if not 0 <= overlap_seconds < segment_seconds:
        raise ValueError(
            f"overlap_seconds is {overlap_seconds}: must be at least 0 and less than "
            f"segment_seconds ({segment_seconds})"
        )
    step = segment_seconds - overlap_seconds
    # A new segment starts only if the previous segment does not reach the end.
    num_segments = max(1, int(np.ceil((duration_seconds - overlap_seconds) / step - 1e-9)))
    starts = np.arange(num_segments) * step
    ends = np.minimum(starts + segment_seconds, duration_seconds)
    return np.stack([starts, ends], axis=1)


def frames_in_span(
    times_seconds: np.ndarray, start_seconds: float, end_seconds: float
) -> np.ndarray:
    """Returns the indices of the sampled frames in `[start_seconds, end_seconds)`.

    Returns the frame nearest to the middle if no frame was sampled in the span.
    """
    inside = np.flatnonzero((times_seconds >= start_seconds) & (times_seconds < end_seconds))
    if len(inside):
        return inside
    middle = (start_seconds + end_seconds) / 2
    return np.array([np.abs(times_seconds - middle).argmin()])


def frame_indices_at(times_seconds: np.ndarray, moments_seconds: np.ndarray) -> np.ndarray:
    """Returns the indices of the frames on screen at the moments, ascending, without repeats."""
    moments = moments_seconds + ROUNDING_SECONDS
    shown = np.searchsorted(times_seconds, moments, side="right") - 1
    return np.unique(np.clip(shown, 0, len(times_seconds) - 1))
