"""A file -> its media type, and whether common browsers play it as it is: by its content, not by
its name.

Sources: the WHATWG's "MIME Sniffing" standard, sections 6.1 and 6.2, for the signatures; the codecs
are those that Chromium, Firefox and Safari decode on every system.
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

from reelseek.vision.decoding.container import open_container, packets
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.suffixes import IMAGE_SUFFIXES

HEAD_BYTES = 4096
OTHER_TYPE = "application/octet-stream"

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"OggS", "video/ogg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x06\x0e\x2b\x34", "application/mxf"),
)
_STILL_IMAGES = frozenset({"image/jpeg", "image/png", "image/webp", "image/bmp"})
_ISO_IMAGES = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic"}
_TRANSPORT_PACKET_BYTES = 188

# By media type: codecs of pictures, and of sound.
_PLAYED: dict[str, tuple[Set[str], Set[str]]] = {
    "video/mp4": ({"h264"}, {"aac", "mp3"}),
    "video/webm": ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}),
}
_PIXEL_FORMATS = frozenset({"yuv420p", "yuvj420p"})
_FIRST_PACKETS = 64  # which may be stored in another order than they are shown in


def media_type(head: bytes) -> str:
    """Returns the type of a file by its first `HEAD_BYTES`; never one that browsers run."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF":
        return {b"AVI ": "video/x-msvideo", b"WEBP": "image/webp"}.get(head[8:12], OTHER_TYPE)
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; its document type follows
        return "video/webm" if b"\x42\x82\x84webm" in head[:64] else "video/x-matroska"
    if head[4:8] == b"ftyp":
        # QuickTime's own brand too: browsers read it as MP4, but not all know its name.
        return _ISO_IMAGES.get(head[8:12], "video/mp4")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "video/quicktime"
    if head[:1] == b"\x47" and head[_TRANSPORT_PACKET_BYTES:][:1] in (b"\x47", b""):
        return "video/mp2t"
    return OTHER_TYPE


def type_of(path: Path) -> str:
    """Returns `media_type` of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return media_type(file.read(HEAD_BYTES))


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
