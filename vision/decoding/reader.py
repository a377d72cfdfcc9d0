"""A video or image file -> a reader of its frames, with their presentation times.

Everything above this module asks a `VideoReader` for frames by index and never sees a decoder.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from reelseek.vision.decoding.orientation import square
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.suffixes import IMAGE_SUFFIXES

# In the order in which workers try them; see docs/decoding.md.
DECODERS = ("decord", "pyav")

# `(3, H, W)` uint8 and the width by the height of its pixels -> `(3, H', W')` uint8.
Resize = Callable[[torch.Tensor, float], torch.Tensor]


class Timeline(Protocol):
    """When the frames of one file are shown.

    Attributes:
        times_seconds: `(N,)` float64, the presentation time of each frame, counted from the first
            frame and never decreasing.
        duration_seconds: the end of the last frame; 0.0 for a still image.
        is_key_frame: `(N,)` bool.
    """

    times_seconds: np.ndarray
    duration_seconds: float
    is_key_frame: np.ndarray


class VideoReader(Timeline, Protocol):
    """The frames of one file, upright and with square pixels.

    Attributes:
        decoder: its name.
        knows_times: whether each frame is known by its time as decoded, so that no frame can stand
            in for another that is damaged.
        num_lost_frames: frames that the file lists but that are cut off or do not decode, as far
            as opening it has shown.
    """

    decoder: str
    knows_times: bool
    num_lost_frames: int

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Decodes frames, in ascending order and each once.

        Args:
            frame_indices: into the times.
            resize: makes of each frame what is wanted of it, once it is upright.

        Returns:
            Pairs of an index and `(3, H, W)` uint8, RGB. Frames that do not decode are left out.

        Raises:
            VideoDecodeError: nothing further decodes, and the reason is known.
        """
        ...


OpenReader = Callable[[], VideoReader]


def open_video(path: str | Path) -> VideoReader:
    """Opens a video by PyAV, or a still image as a video of one frame.

    Raises:
        VideoDecodeError: the file is missing, empty, or holds no frame that can be decoded.
    """
    reason: VideoDecodeError | None = None
    for open_reader in reader_openers(path):
        try:
            reader = open_reader()
            if next(reader.frames([0]), None) is not None:  # some files open, and fail here
                return reader
        except VideoDecodeError as error:
            reason = reason or error
    raise reason or VideoDecodeError("its first frame cannot be decoded")


def reader_openers(path: str | Path, decoders: Sequence[str] = ("pyav",)) -> list[OpenReader]:
    """The ways to open a file, for those who try one after the other.

    decord, where it is installed and not the only one named, is held against PyAV, and refuses what
    it may get wrong. PyAV reads first the frames that the file promises, then those that a first
    decoding of it all has shown; what it cannot read, no other decoder is asked for.

    Args:
        decoders: of `DECODERS`, in the order in which they are to be tried.

    Raises:
        VideoDecodeError: the file is missing or empty, or none of the decoders is to be had.
    """
    path = _check_path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [partial(StillImageReader, path)]
    openers: list[OpenReader] = []
    for decoder in decoders:
        if decoder == "pyav":
            from reelseek.vision.decoding.pyav_reader import PyAVReader

            openers += [partial(PyAVReader, path), partial(PyAVReader, path, trust_packets=False)]
            break
        try:
            from reelseek.vision.decoding.decord_reader import DecordReader
        except ImportError:  # decord has no build for Arm or recent macOS
            continue
        openers.append(partial(DecordReader, path, checked="pyav" in decoders))
    if not openers:
        raise VideoDecodeError("decord, which was to try it, is not installed")
    return openers


def _check_path(path: str | Path) -> Path:
    path = Path(path)
    try:
        str(path).encode("utf-8")
        is_file = path.is_file()
    except ValueError as error:  # a lone surrogate, or a zero byte
        raise VideoDecodeError("its path is not UTF-8 text") from error
    if not is_file:
        raise VideoDecodeError("no such file")
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoDecodeError("the file is empty (0 bytes)")
    except OSError as error:
        raise VideoDecodeError(f"it cannot be read ({error.strerror})") from error
    return path


class StillImageReader:
    """A still image as a video of one frame, decoded by Pillow, turned as its EXIF data says."""

    decoder = "pillow"
    knows_times = True
    num_lost_frames = 0

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
        self.is_key_frame = np.ones(1, dtype=bool)

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        if frame_indices:
            yield 0, resize(self._frame, 1.0)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
