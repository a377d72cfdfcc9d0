"""A request -> a thumbnail, a clip or a probe: what a killable worker does.

A damaged file may hang or crash the decoder, and with it the process.
"""

import io
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av import FFmpegError
from av.video.stream import VideoStream
from PIL import Image

from reelseek.serving.media.errors import (
    MediaChanged,
    MediaError,
    MediaMissing,
    MediaOutOfRange,
    MediaUnreadable,
    why_missing,
)
from reelseek.serving.media.playing import is_plain_h264, probe
from reelseek.serving.media.requests import (
    MediaFile,
    MediaRequest,
    Probe,
    Thumbnail,
)
from reelseek.vision.clips import ClipForm, write_clip
from reelseek.vision.decoding.opening import open_video
from reelseek.vision.decoding.process import init_worker
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.sampling import frame_indices_at

_JPEG_QUALITY = 82
_MAX_TALLNESS = 3  # height over width of a thumbnail, for pictures of a strange shape
_AROUND = 50  # frames before and after one that does not decode, of which one may stand for it
_CLIP_HEIGHT = 720
_CLIP_RATE = 30.0
_COPIED_RATE = 61.0  # frames a second, of streams that are copied
_MAX_COPIED_BYTES = 48 << 20
_MAX_EXCESS_SECONDS = 0.25  # that a copied clip may be longer at either end

# What an MP4 needs for its index, which stands first so that players start at once: of each frame
# of pictures, and of each frame of AAC, of which there are 47 a second.
_INDEX_BYTES_PER_SECOND = 61 * 40 + 48 * 24
_INDEX_BYTES = 16 << 10


def cut(request: MediaRequest) -> Any:
    """Returns the bytes of a thumbnail or a clip, or the fields of a probe.

    Raises:
        MediaError: there is none.
    """
    path = Path(request.file.path)
    _check_unchanged(request.file)
    try:
        if isinstance(request, Thumbnail):
            answer: Any = thumbnail(path, request.seconds, width=request.width)
        elif isinstance(request, Probe):
            answer = probe(path)
        else:
            answer = clip(path, request.start_seconds, end_seconds=request.end_seconds)
    except VideoDecodeError as error:
        raise MediaUnreadable(str(error)) from error
    except OSError as error:
        raise MediaUnreadable(f"it cannot be read ({error.strerror})") from error
    _check_unchanged(request.file)  # or a newer content would be kept under the name of this one
    return answer


def thumbnail(path: Path, seconds: float, *, width: int) -> bytes:
    """Returns the frame on screen at a second as a JPEG, upright and at most `width` pixels wide.

    Where that frame does not decode, the nearest one before it does that decodes, or else after it.

    Raises:
        VideoDecodeError: no frame decodes.
    """
    reader = open_video(path, span=(seconds, seconds))
    times = reader.times_seconds
    index = int(frame_indices_at(times, np.array([seconds]))[0])
    shown = next(reader.frames([index]), None)
    if shown is None:
        around = range(max(0, index - _AROUND), min(len(times), index + _AROUND))
        for shown in reader.frames(around):
            if shown[0] > index:
                break
    if shown is None:
        shown = next(reader.frames([0]), None)
    if shown is None:
        raise VideoDecodeError("none of its frames decodes there")
    return _jpeg(shown[1], width)


def _jpeg(pixels: torch.Tensor, width: int) -> bytes:
    """`(3, H, W)` uint8 as a JPEG."""
    image = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    image.thumbnail((width, _MAX_TALLNESS * width), reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def clip(path: Path, start_seconds: float, *, end_seconds: float) -> bytes:
    """Returns `[start_seconds, end_seconds)` as an MP4 for browsers: H.264 and AAC, at most 720
    pixels high and 30 frames a second where it is encoded.

    Raises:
        MediaOutOfRange: the video is over before the clip begins.
        VideoDecodeError: the video cannot be read.
    """
    seconds = end_seconds - start_seconds
    index_bytes = _INDEX_BYTES + round(_INDEX_BYTES_PER_SECOND * seconds)
    form = ClipForm(
        container_options={"moov_size": str(index_bytes)},
        can_copy=_can_copy,
        max_copied_bytes=_MAX_COPIED_BYTES,
        max_excess_seconds=_MAX_EXCESS_SECONDS,
        max_height=_CLIP_HEIGHT,
        max_rate=_CLIP_RATE,
        encoder_options={"crf": "23", "preset": "veryfast", "profile": "main"},
    )
    file = io.BytesIO()
    try:
        write_clip(path, file, start_seconds=start_seconds, end_seconds=end_seconds, form=form)
    except FFmpegError as error:  # some are ValueErrors
        raise VideoDecodeError("its clip cannot be written") from error
    except ValueError as error:
        raise MediaOutOfRange(str(error)) from error
    return file.getvalue()


def _can_copy(stream: VideoStream) -> bool:
    rate = stream.average_rate
    return (
        is_plain_h264(stream)
        and stream.codec_context.height <= _CLIP_HEIGHT
        and rate is not None
        and rate <= _COPIED_RATE
    )


def _check_unchanged(file: MediaFile) -> None:
    """Raises a MediaError where the file is not there, or not the one that was indexed."""
    try:
        status = os.stat(file.path)
    except (OSError, ValueError) as error:
        raise MediaMissing(why_missing(file.path)) from error
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.modified_ns):
        raise MediaChanged("its file has changed since it was indexed")


def work(connection: Connection, memory_bytes: int, cut: Any) -> None:
    """Runs a worker: answers requests with `cut` until the pipe is closed.

    Each answer is a pair: whether it succeeded, and what it gave; else class and message of the
    error.
    """
    init_worker(memory_bytes)
    while True:
        try:
            request = connection.recv()
            connection.send(_answer(cut, request))
        except (EOFError, OSError):
            return


def _answer(cut: Any, request: MediaRequest) -> tuple[bool, Any]:
    try:
        return True, cut(request)
    except MediaError as error:
        return False, error
    except MemoryError:
        return False, MediaUnreadable("decoding it needs too much memory")
    except Exception as error:
        return False, MediaUnreadable(f"decoding it failed ({type(error).__name__})")
