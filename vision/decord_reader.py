"""A video file read by decord."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import decord
import numpy as np
import torch

from vision.container import decode, open_container
from vision.decoding import Resize
from vision.errors import MAX_DURATION_SECONDS, VideoDecodeError
from vision.frame_list import list_packets
from vision.orientation import display_matrix, has_square_pixels, is_turned, square

_MOST_SQUARED_ERROR = 65.0  # of values from 0 to 255: a PSNR of 30 dB
_ERRORS = (decord.DECORDError, RuntimeError, IndexError)  # the first has no base but Exception


class DecordReader:
    """The frames of a file, at their own size, one thread a file.

    decord tells neither which frame it has decoded, nor how it is to be turned, and its times and
    its choice of stream are not always the file's.

    Args:
        checked: hold what decord says of the file against what FFmpeg says.

    Raises:
        VideoDecodeError: decord cannot open the file, finds no frame or no times in it, or gets it
            wrong.
    """

    decoder = "decord"
    knows_times = False

    def __init__(self, path: Path, *, checked: bool = True) -> None:
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            num_frames = len(self._reader)
            spans = self._reader.get_frame_timestamp(list(range(num_frames)))  # (N, 2) seconds
            key_indices = self._reader.get_key_indices()
        except _ERRORS as error:
            raise VideoDecodeError("decord cannot open it") from error
        if num_frames == 0 or not np.ptp(spans) < MAX_DURATION_SECONDS:  # NaN too
            raise VideoDecodeError("decord finds no frames, or no times of theirs")
        self.num_lost_frames = 0  # decord does not open files that lack some
        starts = np.asarray(spans[:, 0], dtype=np.float64)
        self.times_seconds = np.maximum.accumulate(starts - starts[0])
        self.duration_seconds = max(float(spans[-1, 1] - starts[0]), float(self.times_seconds[-1]))
        self.is_key_frame = np.isin(np.arange(num_frames), key_indices)
        if checked:
            self._check(path)

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        for index in sorted(set(frame_indices)):
            try:
                frame = self._reader[index].asnumpy()  # (H, W, 3)
            except _ERRORS:
                continue
            if frame.shape[2] != 3:  # it gives narrow pictures the shape of their padding
                continue
            yield index, resize(torch.from_numpy(frame).permute(2, 0, 1), 1.0)

    def _check(self, path: Path) -> None:
        """Compares with FFmpeg's list of the frames and with its first frame."""
        container, stream = open_container(path)
        with container:
            listed = list_packets(container, stream)
        if listed is None or len(listed.keys) != len(self.times_seconds):
            raise VideoDecodeError("decord does not see the frames that FFmpeg sees")
        times = listed.times_seconds
        gap = np.median(np.diff(times)) if len(times) > 1 else np.inf
        if np.abs(times - self.times_seconds).max() > gap / 2:
            raise VideoDecodeError("decord does not give the times that the file states")
        container, stream = open_container(path)
        with container:
            first = next(decode(container, stream), None)
            if first is None:
                raise VideoDecodeError("decord sees frames where FFmpeg sees none")
            has_square = has_square_pixels(stream.sample_aspect_ratio)
            if is_turned(display_matrix(first)) or not has_square:
                raise VideoDecodeError("decord does not turn or stretch its frames as it should")
            _, own = next(self.frames([0]), (0, None))
            if own is None:
                raise VideoDecodeError("decord does not decode its first frame")
            if own.shape[1:] != (first.height, first.width):
                raise VideoDecodeError("decord does not choose the stream that FFmpeg chooses")
            ffmpeg_own = torch.from_numpy(first.to_ndarray(format="rgb24")).permute(2, 0, 1)
            if (own.float() - ffmpeg_own.float()).square().mean() > _MOST_SQUARED_ERROR:
                raise VideoDecodeError("decord does not decode the picture that FFmpeg decodes")
