"""The readers that may open an uploaded file, by its content.

Runs in a worker process. Neither Pillow nor FFmpeg chooses among all of its formats: some of them
read other files (playlists) or start other programs (PostScript).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelseek.serving.upload_files import kind_of, read_head
from reelseek.vision.decoding.image_reader import StillImageReader
from reelseek.vision.decoding.pyav_reader import PyAVReader
from reelseek.vision.decoding.reader import OpenReader
from reelseek.vision.errors import VideoDecodeError

_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF")  # Pillow's names
# FFmpeg's names of formats; none of them opens another file.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "flv",
    "ogg",
    "asf",
    "gif",
)


@dataclass(frozen=True)
class ContentLimits:
    """What an uploaded file may declare.

    Attributes:
        max_pixels: Of an image, or of a frame of a video.
    """

    max_pixels: int = 64_000_000


def upload_openers(
    path: str | Path, decoders: Sequence[str], *, limits: ContentLimits
) -> list[OpenReader]:
    """Returns the ways to open an uploaded file, for `iter_frames`.

    Raises:
        VideoDecodeError: It is neither image nor video, or has too many pixels.
    """
    path = Path(path)
    kind = kind_of(read_head(path))
    if kind == "image":
        _check_image(path, limits)
        return [partial(StillImageReader, path)]
    if kind == "video":
        _check_video(path, limits)
        return [partial(PyAVReader, path), partial(PyAVReader, path, trust_packets=False)]
    raise VideoDecodeError("it is neither an image nor a video of a known format")


def _check_image(path: Path, limits: ContentLimits) -> None:
    """Reads the head of an image."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path, formats=_IMAGE_FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise VideoDecodeError("the image has too many pixels") from None
    except Exception as error:  # Pillow's parsers raise many kinds
        raise VideoDecodeError("it is no image that can be read, or is cut off") from error
    _check_pixels(width, height, limits)


def _check_video(path: Path, limits: ContentLimits) -> None:
    """Opens a container as FFmpeg will do again, and looks at its format and size."""
    import av
    from av.video.stream import VideoStream

    try:
        # With a format that is not in the list, FFmpeg refuses the file.
        options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            width = height = 0
            if isinstance(stream, VideoStream) and stream.codec_context is not None:
                width, height = stream.width, stream.height
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoDecodeError("it is no video that can be read, or is cut off") from error
    _check_pixels(width, height, limits)


def _check_pixels(width: int, height: int, limits: ContentLimits) -> None:
    if width * height > limits.max_pixels:
        raise VideoDecodeError(
            f"it has {width} x {height} pixels; at most {limits.max_pixels / 1e6:.3g} million are "
            "decoded"
        )
