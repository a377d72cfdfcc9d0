"""A video file and two times -> the seconds between them as a video file, with sound.

Packets are copied where a key frame lies where the clip begins, and decoded and encoded again
otherwise.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import torch
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from reelseek.vision.clip_sound import clip_sound
from reelseek.vision.decoding.container import open_container, packets
from reelseek.vision.decoding.frame_list import FrameList, list_packets, list_span
from reelseek.vision.decoding.opening import VideoReader, open_video
from reelseek.vision.errors import VideoDecodeError
from reelseek.vision.sampling import frame_indices_at

_CLOCK = Fraction(1, 90_000)  # of encoded frames, in seconds
_BT601 = 5  # ITU-T H.273, matrix coefficients: how `reformat` makes YUV of RGB
_SAME_SECONDS = 1e-6
_RATE_TOLERANCE = 0.1  # of the gap between two frames, whose times files round

_Timed = Iterator[tuple[float, Packet]]  # packets to write, each with its time to interleave by


@dataclass(frozen=True)
class Clip:
    """What was written, in seconds from the first frame of the source.

    Attributes:
        is_copied: whether the pictures are the source's own packets.
    """

    start_seconds: float
    end_seconds: float
    is_copied: bool


@dataclass(frozen=True)
class ClipForm:
    """The form that a clip's player needs. The default keeps all of the source's quality.

    Attributes:
        container: As FFmpeg calls it: mp4, mov or matroska.
        container_options: Of FFmpeg's muxer.
        can_copy: Whether the player takes the packets of a stream as they are.
        max_copied_bytes: Larger pictures are encoded; 0 sets no limit.
        max_excess_seconds: A copied frame at either end may be shown for this much longer.
        max_height: Larger frames are scaled down; 0 sets no limit.
        max_rate: Frames a second, of which others are left out; 0 sets no limit.
        encoder_options: Of libx264.
    """

    container: str = "mp4"
    container_options: Mapping[str, str] = field(default_factory=dict)
    can_copy: Callable[[VideoStream], bool] = lambda stream: True
    max_copied_bytes: int = 0
    max_excess_seconds: float = math.inf
    max_height: int = 0
    max_rate: float = 0.0
    encoder_options: Mapping[str, str] = field(
        default_factory=lambda: {"crf": "18", "preset": "fast"}
    )


@dataclass(frozen=True)
class _CopiedPackets:
    """Pictures that can be copied: from the key frame, up to the last that is shown before the end.

    Attributes:
        first_pts: of the key frame, in the stream's units.
        last_pts: of the last frame shown.
        num_packets: from the key frame on, without those that are shown before it.
        size_bytes: of these packets.
    """

    first_pts: int
    last_pts: int
    num_packets: int
    size_bytes: int


def write_clip(
    source: Path,
    output: Path | BinaryIO,
    *,
    start_seconds: float,
    end_seconds: float,
    tolerance_seconds: float = 0.1,
    form: ClipForm | None = None,
) -> Clip:
    """Writes `[start_seconds, end_seconds)` of a video, counted from its first frame.

    Args:
        output: a path, or an open file in which the writer can seek.
        tolerance_seconds: the clip may begin earlier and end later by this much, where its packets
            can then be copied.
        form: what the clip's player needs.

    Raises:
        ValueError: the video is over before the clip begins.
        VideoDecodeError: the video cannot be read.
        OSError: the output cannot be written.
    """
    form = form or ClipForm()
    span = (start_seconds, end_seconds)
    reader = open_video(source, span=span, max_height=form.max_height)
    if start_seconds >= max(reader.duration_seconds, _SAME_SECONDS):
        raise ValueError(
            f"start={start_seconds:g}: the video lasts {reader.duration_seconds:.2f} seconds"
        )
    end_seconds = min(end_seconds, reader.duration_seconds or end_seconds)
    requested = Clip(start_seconds, end_seconds, is_copied=False)
    listed = _list_of(source, span, form)
    copied = (
        None if listed is None else _copied_packets(source, listed, requested, tolerance_seconds)
    )
    if copied is not None and 0 < form.max_copied_bytes < copied.size_bytes:
        copied = None
    if listed is not None and copied is not None:
        start = (copied.first_pts - listed.zero_key) * listed.key_seconds
        end = min(reader.duration_seconds, max(end_seconds, _end_of(listed, copied.last_pts)))
        clip = Clip(start, end, is_copied=True)
        if max(start_seconds - start, end - end_seconds) > form.max_excess_seconds:
            copied = None
    if copied is not None:
        try:
            _write(source, output, form, clip, reader, copied)
            return clip
        except (av.FFmpegError, ValueError):  # the container does not take this codec
            _empty(output)
    _write(source, output, form, requested, reader, None)
    return requested


def _empty(output: Path | BinaryIO) -> None:
    if isinstance(output, Path):
        output.unlink(missing_ok=True)
    else:
        output.seek(0)
        output.truncate()


def _list_of(source: Path, span: tuple[float, float], form: ClipForm) -> FrameList | None:
    """The frames by their packets, at least those of the span; None where packets do not tell, or
    cannot be copied, or of a still image."""
    try:
        container, stream = open_container(source)
    except VideoDecodeError:
        return None
    with container:
        if not form.can_copy(stream):
            return None
        listed = list_span(container, stream, start_seconds=span[0], end_seconds=span[1])
    if listed is not None:
        return listed
    container, stream = open_container(source)
    with container:
        return list_packets(container, stream)


def _copied_packets(
    source: Path, listed: FrameList, clip: Clip, tolerance_seconds: float
) -> _CopiedPackets | None:
    """The packets to copy; None where no key frame is near enough before the start, or a copy
    would end too late."""
    zero = listed.zero_key
    seconds = (listed.seek_points - zero) * listed.key_seconds
    before = np.flatnonzero(seconds <= clip.start_seconds + _SAME_SECONDS)
    if not len(before) or not listed.starts_afresh:
        return None
    first = int(listed.seek_points[before[-1]])
    # The frame that is on screen at the start may have begun before it.
    shown = frame_indices_at(listed.times_seconds, np.array([clip.start_seconds]))
    is_first_shown = int(listed.keys[shown[0]]) == first
    if not is_first_shown and clip.start_seconds - seconds[before[-1]] > tolerance_seconds:
        return None
    last, count, latest = first, 0, first
    size_bytes = total_bytes = 0
    container, stream = open_container(source)
    with container:
        container.seek(first, stream=stream, backward=True)
        end = zero + clip.end_seconds / listed.key_seconds - 0.5
        for number, packet in enumerate(_from_key_frame(container, stream, first), start=1):
            assert packet.pts is not None
            if packet.is_discard:
                return None
            latest, total_bytes = max(latest, packet.pts), total_bytes + packet.size
            if packet.pts < end:
                last, count, size_bytes = max(last, latest), number, total_bytes
            elif packet.is_keyframe:
                break
    if (last - end) * listed.key_seconds > tolerance_seconds:
        return None
    return _CopiedPackets(first, last, count, size_bytes)


def _end_of(listed: FrameList, pts: int) -> float:
    """When the frame of this time is followed by the next."""
    after = int(np.searchsorted(listed.keys, pts, side="right"))
    times = listed.times_seconds
    return float(times[after]) if after < len(times) else listed.duration_seconds


def _from_key_frame(
    container: InputContainer, stream: VideoStream, first_pts: int
) -> Iterator[Packet]:
    """The packets from a key frame on, in the order of decoding, without those that are shown
    before it."""
    has_begun = False
    for packet in packets(container, stream):
        if not packet.size or packet.pts is None:
            continue
        has_begun = has_begun or packet.pts == first_pts
        if has_begun and packet.pts >= first_pts:
            yield packet


def _write(
    source: Path,
    output: Path | BinaryIO,
    form: ClipForm,
    clip: Clip,
    reader: VideoReader,
    copied: _CopiedPackets | None,
) -> None:
    file = str(output) if isinstance(output, Path) else output
    with av.open(file, "w", format=form.container, options=dict(form.container_options)) as out:
        if copied is None:
            pictures = _encoded_pictures(out, reader, clip, form)
        else:
            pictures = _copied_pictures(out, source, clip, copied)
        sound = clip_sound(
            out, source, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds
        )
        for _, packet in merge(pictures, sound, key=lambda timed: timed[0]):
            out.mux(packet)


def _copied_pictures(
    out: OutputContainer, source: Path, clip: Clip, copied: _CopiedPackets
) -> _Timed:
    container, stream = open_container(source)
    written = out.add_stream_from_template(stream)

    def timed() -> _Timed:
        with container:
            container.seek(copied.first_pts, stream=stream, backward=True)
            taken = _from_key_frame(container, stream, copied.first_pts)
            for packet in islice(taken, copied.num_packets):
                if packet.pts == copied.last_pts:  # the source need not state how long it is shown
                    seconds = clip.end_seconds - clip.start_seconds
                    shown = copied.first_pts + round(seconds / packet.time_base) - packet.pts
                    packet.duration = max(1, shown)
                _shift(packet, -copied.first_pts)
                packet.stream = written
                yield float((packet.dts or 0) * packet.time_base), packet

    return timed()


def _shift(packet: Packet, pts: int) -> None:
    packet.pts = None if packet.pts is None else packet.pts + pts
    packet.dts = None if packet.dts is None else packet.dts + pts


def _encoded_pictures(
    out: OutputContainer, reader: VideoReader, clip: Clip, form: ClipForm
) -> _Timed:
    times = reader.times_seconds
    indices = _indices(times, clip, form.max_rate)
    ends = dict(zip(indices, [*times[indices[1:]], clip.end_seconds], strict=True))
    frames = reader.frames(indices)
    start = next(frames, None)
    if start is None:
        raise VideoDecodeError("none of the clip's frames can be decoded")
    height, width = _size(start[1], form.max_height)
    stream = out.add_stream("libx264", options=dict(form.encoder_options))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = _CLOCK
    stream.codec_context.colorspace = _BT601
    durations: dict[int, int] = {}  # by pts, in units of the clock

    def encoded() -> Iterator[Packet]:
        for index, pixels in chain([start], frames):
            frame = _image(pixels).reformat(width=width, height=height, format="yuv420p")
            begins = max(clip.start_seconds, float(times[index])) - clip.start_seconds
            until = float(ends[index]) - clip.start_seconds
            frame.pts, frame.time_base = round(begins / _CLOCK), _CLOCK
            durations[frame.pts] = round(until / _CLOCK) - frame.pts
            yield from stream.encode(frame)
        yield from stream.encode(None)

    def timed() -> _Timed:
        for packet in encoded():
            # The encoder states that of the rate, which the last frame would be shown for.
            packet.duration = durations.get(packet.pts or 0, packet.duration)
            yield float((packet.dts or 0) * packet.time_base), packet

    return timed()


def _indices(times: np.ndarray, clip: Clip, max_rate: float) -> list[int]:
    """Indices of the frames to encode: all that the clip shows, or as many as the rate allows."""
    first = int(frame_indices_at(times, np.array([clip.start_seconds]))[0])
    chosen = [first]
    for index in range(first + 1, int(np.searchsorted(times, clip.end_seconds))):
        if not max_rate or (times[index] - times[chosen[-1]]) * max_rate >= 1 - _RATE_TOLERANCE:
            chosen.append(index)
    return chosen


def _size(pixels: torch.Tensor, max_height: int) -> tuple[int, int]:
    """Height and width to encode, even as 4:2:0 needs."""
    height, width = pixels.shape[1:]
    scale = min(1.0, max_height / height) if max_height else 1.0
    height, width = (max(2, int(size * scale) // 2 * 2) for size in (height, width))
    return height, width


def _image(pixels: torch.Tensor) -> av.VideoFrame:
    """`(3, H, W)` uint8 as FFmpeg's frame."""
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    return av.VideoFrame.from_ndarray(array, format="rgb24")
