"""Finds the shots of a video and samples frames from each."""

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch

from reelseek.vision.decoding.reader import VideoReader
from reelseek.vision.sampling import Samples, frame_indices_at, subsample

_MAX_PIXELS = 256  # of a frame's longer side: enough to detect cuts


@dataclass(frozen=True)
class ShotSampler:
    """Samples frames at the middles of equal parts of each shot; the shots are the segments.

    Decodes all frames to find the cuts.

    Args:
        frames_per_shot: At least 1.
        min_seconds: Minimum length of a shot, except the last one.
        max_seconds: Longer shots are divided into equal parts.
        max_frames: Maximum per video; more are evenly subsampled.

    Raises:
        ValueError: A number is out of range, or PySceneDetect is not installed.
    """

    frames_per_shot: int = 3
    min_seconds: float = 1.0
    max_seconds: float = 8.0
    max_frames: int = 100_000

    def __post_init__(self) -> None:
        if self.frames_per_shot < 1 or self.max_frames < 1:
            raise ValueError(
                f"frames_per_shot is {self.frames_per_shot} and max_frames {self.max_frames}: "
                "must be at least 1"
            )
        if not 0 <= self.min_seconds < self.max_seconds:
            raise ValueError(
                f"min_seconds is {self.min_seconds} and max_seconds {self.max_seconds}: "
                "must be 0 <= min_seconds < max_seconds"
            )
        if find_spec("scenedetect") is None:
            raise ValueError("shots need PySceneDetect: pip install 'reelseek[shots]'")

    def __call__(self, video: VideoReader) -> Samples:
        cuts = find_cuts(video, min_seconds=self.min_seconds)
        spans = shot_spans(cuts, video.duration_seconds, max_seconds=self.max_seconds)
        parts = (np.arange(self.frames_per_shot) + 0.5) / self.frames_per_shot
        moments = spans[:, :1] + parts * (spans[:, 1:] - spans[:, :1])  # (S, frames_per_shot)
        chosen = frame_indices_at(video.times_seconds, moments.ravel())
        return Samples(subsample(chosen, self.max_frames), spans)


def find_cuts(video: VideoReader, *, min_seconds: float) -> np.ndarray:
    """Returns the times at which new shots begin, `(C,)` float64 seconds.

    Uses PySceneDetect's adaptive detector: at a cut, a frame differs from the previous one three
    times as much as its neighbours do.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    num_frames = len(video.times_seconds)
    fps = max(1.0, num_frames / video.duration_seconds) if video.duration_seconds else 1.0
    detector = AdaptiveDetector(min_scene_len=max(1, round(min_seconds * fps)))
    cuts = []
    last = None
    for index, frame in video.frames(range(num_frames), _subsample_pixels):
        image = frame.flip(0).permute(1, 2, 0)  # (h, w, 3), BGR
        if last is not None and last != image.shape:
            break  # the detector only compares frames of one size
        last = image.shape
        found = detector.process_frame(FrameTimecode(index, fps), image.contiguous().numpy())
        cuts += [video.times_seconds[timecode.frame_num] for timecode in found]
    return np.array(cuts, dtype=np.float64)


def _subsample_pixels(frame: torch.Tensor, _: float) -> torch.Tensor:
    step = max(1, max(frame.shape[1:]) // _MAX_PIXELS)
    return frame[:, ::step, ::step]


def shot_spans(cuts: np.ndarray, duration_seconds: float, *, max_seconds: float) -> np.ndarray:
    """Returns the spans between the cuts, `(S, 2)` float64; long spans are divided equally."""
    edges = np.unique(np.concatenate([[0.0], cuts, [duration_seconds]]))
    if len(edges) == 1:
        return np.array([[0.0, 0.0]])
    spans = []
    for start, end in pairwise(edges.tolist()):
        num_parts = max(1, int(np.ceil((end - start) / max_seconds - 1e-9)))
        inner = np.linspace(start, end, num_parts + 1)
        spans.append(np.stack([inner[:-1], inner[1:]], axis=1))
    return np.concatenate(spans)
