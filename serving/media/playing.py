"""A file -> whether common browsers play it as it is, by its content and not by its name.

The codecs are those that Chromium, Firefox and Safari decode on every system.
"""

from collections.abc import Set
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from reelseek.serving.media.types import type_of
from reelseek.vision.decoding.container import open_container, packets
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.suffixes import IMAGE_SUFFIXES

_STILL_IMAGES = frozenset({"image/jpeg", "image/png", "image/webp", "image/bmp"})
# By media type: codecs of pictures, and of sound.
_PLAYED: dict[str, tuple[Set[str], Set[str]]] = {
    "video/mp4": ({"h264"}, {"aac", "mp3"}),
    "video/webm": ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}),
}
_PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p"})
_FIRST_PACKETS = 64  # which may be stored in another order than they are shown in


def probe(path: Path) -> dict[str, Any]:
    """Tells how a browser can show a file.

    Returns:
        `plays`: whether common browsers play it as it is; `type`: its media type; `video_codec` and
        `audio_codec`: FFmpeg's names, empty where there is none; `offset_seconds`: what a player's
        clock shows at the first frame, from which our seconds count.

    Raises:
        OSError: the file cannot be read.
    """
    name = type_of(path)
    found = {"type": name, "video_codec": "", "audio_codec": "", "offset_seconds": 0.0}
    if name in _STILL_IMAGES and path.suffix.lower() in IMAGE_SUFFIXES:
        return {**found, "plays": True}
    try:
        container, stream = open_container(path)
    except VideoDecodeError:
        return {**found, "plays": False}
    with container:
        found["video_codec"] = stream.codec_context.codec.canonical_name
        sounds = [_codec(each) for each in container.streams.audio]
        found["audio_codec"] = sounds[0] if sounds else ""
        plays = name in _PLAYED and _plays(container, stream, _PLAYED[name])
        if plays:
            found["offset_seconds"] = _first_frame_seconds(container, stream)
    return {**found, "plays": plays}


def is_plain_h264(stream: VideoStream) -> bool:
    """Whether every browser decodes a stream: H.264 in 8 bits and 4:2:0."""
    return _codec(stream) == "h264" and stream.codec_context.pix_fmt in _PIXEL_FORMATS


def _plays(
    container: InputContainer, stream: VideoStream, codecs: tuple[Set[str], Set[str]]
) -> bool:
    video_codecs, audio_codecs = codecs
    tracks = [
        each
        for each in container.streams.video
        if not each.disposition & Disposition.attached_pic  # the cover of an album
    ]
    return (
        _codec(stream) in video_codecs
        and stream.codec_context.pix_fmt in _PIXEL_FORMATS
        and all(_codec(each) in audio_codecs for each in container.streams.audio[:1])
        and tracks[:1] == [stream]  # browsers play the first, which need not be the indexed one
    )


def _codec(stream: VideoStream | AudioStream) -> str:
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name


def _first_frame_seconds(container: InputContainer, stream: VideoStream) -> float:
    """When the first frame is shown, from the file's start, which sound may be."""
    first = islice(packets(container, stream), _FIRST_PACKETS)
    times = [p.pts for p in first if p.size and p.pts is not None and not p.is_discard]
    if not times or stream.time_base is None:
        return 0.0
    start = (container.start_time or 0) / av.time_base
    return max(0.0, float(min(times) * stream.time_base) - start)
