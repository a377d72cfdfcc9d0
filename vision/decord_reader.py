"""A video file read by decord."""

from collections.abc import Sequence
from pathlib import Path

import decord
import numpy as np
import torch

from vision.errors import MAX_DURATION_SECONDS, VideoDecodeError

_ERRORS = (decord.DECORDError, RuntimeError, IndexError)  # the first has no base but Exception


class DecordReader:
    """The frames of decord's choice of video stream, at its own size, one thread a file.

    Raises:
        VideoDecodeError: decord cannot open the file, or finds no frame or no times in it.
    """

    def __init__(self, path: Path) -> None:
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            num_frames = len(self._reader)
            spans = self._reader.get_frame_timestamp(list(range(num_frames)))  # (N, 2) seconds
        except _ERRORS as error:
            raise VideoDecodeError("decord cannot open it") from error
        if num_frames == 0 or not np.ptp(spans) < MAX_DURATION_SECONDS:  # NaN too
            raise VideoDecodeError("decord finds no frames, or no times of theirs")
        self.num_lost_frames = 0  # decord does not open files that lack some
        starts = np.asarray(spans[:, 0], dtype=np.float64)
        self.times_seconds = np.maximum.accumulate(starts - starts[0])
        self.duration_seconds = max(float(spans[-1, 1] - starts[0]), float(self.times_seconds[-1]))

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        try:
            batch = self._reader.get_batch(list(frame_indices)).asnumpy()  # (T, H, W, 3)
        except _ERRORS as error:
            raise VideoDecodeError("decord cannot decode it from here on") from error
        return torch.from_numpy(batch).permute(0, 3, 1, 2)
