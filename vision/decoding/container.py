"""Opens a video file with FFmpeg and decodes its video stream.

Of several streams, FFmpeg's "best" is used: it prefers, in this order, a stream that is not for the
hearing or visually impaired, the default stream, a stream that is not just a cover picture, and the
highest bit rate.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelseek.vision.errors import VideoDecodeError

# Codecs whose decoder can skip frames that no other frame is predicted from.
_SKIPPING_CODECS = frozenset({"h264", "hevc"})


class StrayTimesError(Exception):
    """After a seek, FFmpeg gives packets other times than when reading from the start."""


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """Opens a file with one decoding thread.

    Raises:
        VideoDecodeError: FFmpeg cannot read the file, or no decoder for its video track exists.
    """
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = why_no_frame(path, otherwise="it is no video, or damaged where it begins")
        raise VideoDecodeError(reason) from error
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.codec_context is None:
        has_video = any(s.type == "video" for s in container.streams)
        container.close()
        raise VideoDecodeError(
            "FFmpeg has no decoder for its video track" if has_video else "it has no video track"
        )
    stream.codec_context.thread_count = 1
    return container, stream


def packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
    """Yields the stream's packets from the container's position.

    The last packet is empty and flushes the decoder. Ends early if the file is cut off.
    """
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed)
        except (StopIteration, av.FFmpegError):
            return
        yield packet


def decode(
    container: InputContainer,
    stream: VideoStream,
    *,
    needed_pts: Collection[int] | None = None,
    packet_sizes: Mapping[int, int] | None = None,
) -> Iterator[VideoFrame]:
    """Decodes frames from the container's position and skips damaged packets.

    Args:
        needed_pts: Presentation times in the stream's units. If the codec allows, other frames
            are only decoded where the needed frames are predicted from them.
        packet_sizes: Sizes by presentation time, as read from the file's start. They verify times
            after a seek: in containers that store few times, FFmpeg counts on from any position.

    Raises:
        StrayTimesError: A packet's size does not match its time.
    """
    context = stream.codec_context
    may_skip = needed_pts is not None and context.name in _SKIPPING_CODECS
    flushed = False
    for packet in packets(container, stream):
        if packet_sizes is not None and packet.size and _is_stray(packet, packet_sizes):
            raise StrayTimesError
        if may_skip:
            assert needed_pts is not None
            # A packet without a time may be the second field of a needed frame.
            skips = packet.pts is not None and packet.pts not in needed_pts
            context.skip_frame = "NONREF" if skips else "DEFAULT"
        flushed = not packet.size
        yield from _frames_of(packet.decode)
    if not flushed:  # the file is cut off, and the decoder may still hold frames
        yield from _frames_of(partial(context.decode, None))


def why_no_frame(
    path: Path, otherwise: str = "its video track holds no frame that can be decoded"
) -> str:
    """Returns the reason why a file gives no frame: encryption, or `otherwise`."""
    return "its video is encrypted" if _looks_encrypted(path) else otherwise


def _is_stray(packet: Packet, sizes: Mapping[int, int]) -> bool:
    return packet.pts is None or sizes.get(packet.pts) != packet.size


def _frames_of(decode_some: Callable[[], Sequence]) -> Iterator[VideoFrame]:
    try:
        decoded = decode_some()
    except av.FFmpegError:
        return
    yield from (frame for frame in decoded if isinstance(frame, VideoFrame))


def _looks_encrypted(path: Path) -> bool:
    """Whether the start of an MP4 declares Common Encryption."""
    with path.open("rb") as file:
        head = file.read(1 << 22)
    return any(mark in head for mark in (b"encv", b"pssh", b"tenc"))
