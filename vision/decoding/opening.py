"""Opens a video or image file with the first decoder that can read it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reelseek.vision.decoding.file_content import why_unreadable
from reelseek.vision.decoding.image_reader import StillImageReader
from reelseek.vision.decoding.pyav_reader import PyAVReader
from reelseek.vision.decoding.reader import OpenReader, VideoReader
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.suffixes import IMAGE_SUFFIXES


def open_video(
    path: str | Path, *, span: tuple[float, float] | None = None, max_height: int = 0
) -> VideoReader:
    """Opens a video with PyAV, or a still image as a video of one frame.

    Args:
        path: A video or an image.
        span: Start and end in seconds of what will be read, so that long videos need not be read
            from end to end; see `PyAVReader`.
        max_height: Larger frames of videos are scaled down to about so many pixels; 0 leaves them
            as they are.

    Raises:
        VideoDecodeError: The file is missing, empty, or has no frame that decodes.
    """
    reason: VideoDecodeError | None = None
    options: dict[str, Any] = {"span": span} if span else {}
    if max_height:
        options["max_height"] = max_height
    for open_reader in reader_openers(path, **options):
        try:
            reader = open_reader()
            if next(reader.frames([0]), None) is not None:  # some files open, and fail here
                return reader
        except VideoDecodeError as error:
            reason = reason or error
    raise reason or VideoDecodeError("its first frame cannot be decoded")


def reader_openers(
    path: str | Path,
    decoders: Sequence[str] = ("pyav",),
    **pyav_options: Any,
) -> list[OpenReader]:
    """Returns the ways to open a file, in the order to try them.

    decord, unless it is the only decoder, is checked against PyAV and refuses files that it may
    read wrong. PyAV first reads the frames that the packets promise, then the frames that decoding
    the whole file shows. No other decoder is tried after PyAV.

    Args:
        path: A video or an image.
        decoders: Names from `DECODERS`, in the order to try them.
        pyav_options: Further arguments of `PyAVReader`.

    Raises:
        VideoDecodeError: The file is missing or empty, or none of the decoders is installed.
    """
    path = Path(path)
    _check_readable(path)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [partial(StillImageReader, path)]
    openers: list[OpenReader] = []
    for decoder in decoders:
        if decoder == "pyav":
            pyav = partial(PyAVReader, path, **pyav_options)
            openers += [pyav, partial(pyav, trust_packets=False)]
            break
        try:
            from reelseek.vision.decoding.decord_reader import DecordReader
        except ImportError:  # decord has no build for Arm or recent macOS
            continue
        openers.append(partial(DecordReader, path, checked="pyav" in decoders))
    if not openers:
        raise VideoDecodeError("decord, the only decoder chosen, is not installed")
    return openers


def _check_readable(path: Path) -> None:
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
        raise VideoDecodeError(why_unreadable(error)) from error
