"""A video or image file -> a reader of its frames, with their presentation times.

Everything above this module asks a `VideoReader` for frames by index and never sees a decoder,
so that another decoder, or one in another process, can stand behind the same names.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from vision.errors import VideoDecodeError

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf "
    ".ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m .264 .265 .apng .av1 .avif .dv .h264 .h265 "
    ".hevc .ivf .mjpeg .mjpg .nut .ps .wtv".split()
)
IMAGE_SUFFIXES = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())


class VideoReader(Protocol):
    """The frames of one file.

    Attributes:
        times_seconds: `(N,)` float64, the presentation time of each frame, counted from the first
            frame and never decreasing.
        duration_seconds: the end of the last frame; 0.0 for a still image.
        num_lost_frames: frames that the file lists but that are cut off or do not decode, as far
            as opening it has shown.
    """

    times_seconds: np.ndarray
    duration_seconds: float
    num_lost_frames: int

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
    reason = VideoDecodeError("no decoder can open it")
    for open_reader in reader_openers(path):
        try:
            reader = open_reader()
            reader.read([0])  # some files open, and fail here
            return reader
        except VideoDecodeError as error:
            reason = error
    raise reason


def reader_openers(path: str | Path) -> Iterator[Callable[[], VideoReader]]:
    """The ways to open a file, for those who try one after the other.

    decord comes first, being faster; PyAV takes what decord cannot open or decode, and serves
    alone where decord is not to be had: first with the frames that the file promises, then with
    those that a first decoding of it all has shown.

    Raises:
        VideoDecodeError: the file is missing or empty.
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
        yield partial(StillImageReader, path)
        return
    try:
        from vision.decord_reader import DecordReader
    except ImportError:  # decord has no build for Arm or recent macOS
        pass
    else:
        yield partial(DecordReader, path)

    from vision.pyav_reader import PyAVReader

    yield partial(PyAVReader, path)
    yield partial(PyAVReader, path, trust_packets=False)


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
        self.num_lost_frames = 0

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        return torch.stack([self._frame] * len(frame_indices))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
