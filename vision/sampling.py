"""A video's timeline -> which frames to look at; and a duration -> which stretches to index.

A sampler answers with frame indices into the video's own presentation times, so it is as right
for a variable frame rate as for a constant one.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from reelseek.vision.decoding.reader import Timeline, VideoReader

# Two decoders, and two ways to write a number, may differ by less than this in a frame's time.
ROUNDING_SECONDS = 0.0005


class Samples(NamedTuple):
    """What a sampler chooses.

    Attributes:
        frame_indices: `(T,)` int64, ascending, each at most once, at least one.
        shot_spans: `(S, 2)` float64 of `[start_seconds, end_seconds)` where the sampler finds
            shots, else None.
    """

    frame_indices: np.ndarray
    shot_spans: np.ndarray | None = None


class Sampler(Protocol):
    """Chooses frames of a video; must be one that `pickle` can pass to a worker process."""

    def __call__(self, video: VideoReader) -> Samples: ...


@dataclass(frozen=True)
class UniformSampler:
    """The frames on screen at the middles of `num_frames` equal parts of the video (TSN-style
    uniform sampling, Wang et al. 2016, section 3.1, with the part's middle instead of a random
    point); every frame once where the video has fewer."""

    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}: must be at least 1")

    def __call__(self, video: Timeline) -> Samples:
        middles = (np.arange(self.num_frames) + 0.5) * video.duration_seconds / self.num_frames
        return Samples(frame_indices_at(video.times_seconds, middles))


@dataclass(frozen=True)
class IntervalSampler:
    """The frame on screen every `every_seconds`, from the middle of the first interval on.

    A video too short for `min_frames` at that rate, or too long for `max_frames`, is sampled
    uniformly with that many.
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
    """The key frames, which decode without any other; evenly thinned out to `max_frames`."""

    max_frames: int = 100_000

    def __post_init__(self) -> None:
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}: must be at least 1")

    def __call__(self, video: Timeline) -> Samples:
        found = np.flatnonzero(video.is_key_frame)
        if not len(found):
            found = np.zeros(1, dtype=np.int64)
        return Samples(subsample(found, self.max_frames))


@dataclass(frozen=True)
class MomentSampler:
    """The frames on screen at these moments, seconds from the first frame; at least one."""

    moments_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.moments_seconds:
            raise ValueError("moments_seconds is empty: must name at least one moment")

    def __call__(self, video: Timeline) -> Samples:
        return Samples(frame_indices_at(video.times_seconds, np.array(self.moments_seconds)))


def subsample(values: np.ndarray, max_num: int) -> np.ndarray:
    """At most that many of the values, evenly spread over their places."""
    if len(values) <= max_num:
        return values
    return values[((np.arange(max_num) + 0.5) * len(values) / max_num).astype(np.int64)]


def segment_spans(
    duration_seconds: float, *, segment_seconds: float, overlap_seconds: float
) -> np.ndarray:
    """Cuts `[0, duration_seconds)` into stretches of one length that overlap.

    Returns:
        `(S, 2)` float64 of `[start_seconds, end_seconds)`, S at least 1: consecutive starts lie
        `segment_seconds - overlap_seconds` apart, and only the last may be shorter.
    """
    if not 0 <= overlap_seconds < segment_seconds:
        raise ValueError(
            f"overlap_seconds is {overlap_seconds}: must be at least 0 and less than "
            f"segment_seconds ({segment_seconds})"
        )
    step = segment_seconds - overlap_seconds
    # A further segment is opened only for what the overlap of the last one does not cover.
    num_segments = max(1, int(np.ceil((duration_seconds - overlap_seconds) / step - 1e-9)))
    starts = np.arange(num_segments) * step
    ends = np.minimum(starts + segment_seconds, duration_seconds)
    return np.stack([starts, ends], axis=1)


def frames_in_span(
    times_seconds: np.ndarray, start_seconds: float, end_seconds: float
) -> np.ndarray:
    """Indices of the sampled frames shown in `[start_seconds, end_seconds)`; where none was
    sampled there, the one nearest to its middle."""
    inside = np.flatnonzero((times_seconds >= start_seconds) & (times_seconds < end_seconds))
    if len(inside):
        return inside
    middle = (start_seconds + end_seconds) / 2
    return np.array([np.abs(times_seconds - middle).argmin()])


def frame_indices_at(times_seconds: np.ndarray, moments_seconds: np.ndarray) -> np.ndarray:
    """The index of the last frame that starts at or before each moment, without repeats."""
    moments = moments_seconds + ROUNDING_SECONDS
    shown = np.searchsorted(times_seconds, moments, side="right") - 1
    return np.unique(np.clip(shown, 0, len(times_seconds) - 1))
