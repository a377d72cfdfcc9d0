"""A video or image file -> a reader of its frames, with their presentation times.

Everything above this module asks a `VideoReader` for frames by index and never sees a decoder,
so that another decoder, or one in another process, can stand behind the same three names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf "
    ".ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())


class VideoDecodeError(Exception):
    """A file gave no frames. Its message is the reason, written for the person who owns it."""


class VideoReader(Protocol):
    """The frames of one file.

    Attributes:
        times_seconds: `(N,)` float64, the presentation time of each frame, counted from the first
            frame and never decreasing.
        duration_seconds: the end of the last frame; 0.0 for a still image.
    """

    times_seconds: np.ndarray
    duration_seconds: float

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        """Decodes the frames at these indices: `(T, 3, H, W)` uint8, RGB.

        Raises:
            VideoDecodeError: the file breaks off or is damaged at one of them.
        """
        ...


def open_video(path: str | Path) -> VideoReader:
    """Opens a video, or a still image as a video of one frame.

    Raises:
        VideoDecodeError: the file is missing, empty, or holds no frame that can be decoded.
    """
    path = Path(path)
    try:
        str(path).encode("utf-8")
        is_file = path.is_file()
    except ValueError as error:  # a lone surrogate, or a zero byte
        raise VideoDecodeError("its path is not UTF-8 text") from error
    if not is_file:
        raise VideoDecodeError("no such file")
    if path.stat().st_size == 0:
        raise VideoDecodeError("the file is empty (0 bytes)")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return StillImageReader(path)
    return DecordReader(path)


class StillImageReader:
    """A still image as a video of one frame, decoded by Pillow, turned as its EXIF data says."""

    def __init__(self, path: Path) -> None:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoDecodeError(f"not a readable image: {_first_line(error)}") from error
        self._frame = torch.from_numpy(np.array(upright)).permute(2, 0, 1)  # (3, H, W)
        self.times_seconds = np.zeros(1)
        self.duration_seconds = 0.0

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        return torch.stack([self._frame] * len(frame_indices))


class DecordReader:
    """A video file decoded by decord, at its own size, one thread a file."""

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise VideoDecodeError(
                "decord, which decodes video, has no build for this machine's processor"
            ) from error

        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1)
            num_frames = len(self._reader)
            if num_frames == 0:
                raise VideoDecodeError("the video track holds no frame")
            spans = self._reader.get_frame_timestamp(list(range(num_frames)))  # (N, 2) seconds
        except (RuntimeError, IndexError) as error:  # decord.DECORDError is a RuntimeError
            raise VideoDecodeError(_decord_reason(error)) from error
        starts = np.asarray(spans[:, 0], dtype=np.float64)
        if not np.isfinite(spans).all():
            raise VideoDecodeError("its frames carry no presentation times")
        self.times_seconds = np.maximum.accumulate(starts - starts[0])
        self.duration_seconds = max(float(spans[-1, 1] - starts[0]), float(self.times_seconds[-1]))

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        try:
            batch = self._reader.get_batch(list(frame_indices)).asnumpy()  # (T, H, W, 3)
        except (RuntimeError, IndexError) as error:
            raise VideoDecodeError(_decord_reason(error)) from error
        return torch.from_numpy(batch).permute(0, 3, 1, 2)


def _decord_reason(error: Exception) -> str:
    text = str(error)
    if "st_nb >= 0" in text:
        return "no video track that can be decoded"
    if "Error reading" in text or "cannot find video stream" in text:
        return "no video could be found in the file"
    return f"decord cannot decode it: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
