"""Lists the frames of a video stream with their times and key frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
from av import FFmpegError
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from reelseek.vision.decoding.container import decode, open_container, packets
from reelseek.vision.decoding.key_frames import starts_afresh
from reelseek.vision.errors import MAX_DURATION_SECONDS

_HIDDEN_FRACTION = 0.12  # fraction of packets that may show no frame of their own
_TIMED_CONTAINERS = frozenset({"mov", "matroska"})  # which store the time of each frame
_REORDERED = 64  # packets within which storage order may differ from presentation order
_UNKNOWN_RATE = Fraction(25)  # assumed if a stream states neither times nor a rate


@dataclass(frozen=True)
class FrameList:
    """The frames of a stream in order of presentation.

    Attributes:
        keys: `(N,)` int64, ascending, identify the frames: presentation times in the stream's
            unit, or frame numbers if the file stores no times.
        is_key_frame: `(N,)` bool.
        seek_points: `(K,)` int64, ascending, keys at which decoding can start.
        has_times: Whether keys are times.
        key_seconds: Seconds per unit of a key.
        frame_seconds: Duration of a frame at the rate that the file states.
        packet_sizes: Bytes of each packet by its presentation time.
        num_lost: Frames that the file lists but that are cut off or damaged.
        only_damaged: Whether the decoder marks all frames as damaged.
        decoding_times: `(K,)` int64, decoding times of the seek points in the unit of keys; empty
            if the frames were listed by decoding.
        starts_afresh: Whether decoding from any seek point gives every frame after it.
        first_key: Key of the file's first frame, where only a span of the frames is listed.
    """

    keys: np.ndarray
    is_key_frame: np.ndarray
    seek_points: np.ndarray
    has_times: bool
    key_seconds: float
    frame_seconds: float
    packet_sizes: dict[int, int]
    num_lost: int = 0
    only_damaged: bool = False
    decoding_times: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    starts_afresh: bool = False
    first_key: int | None = None

    @property
    def zero_key(self) -> int:
        """Key of the file's first frame, from which seconds count."""
        return int(self.keys[0]) if self.first_key is None else self.first_key

    @property
    def times_seconds(self) -> np.ndarray:
        """`(N,)` float64, relative to the file's first frame."""
        return (self.keys - self.zero_key) * self.key_seconds

    @property
    def duration_seconds(self) -> float:
        """End of the last frame listed, which is assumed to last as long as the median frame."""
        times = self.times_seconds
        last = float(np.median(np.diff(times))) if len(times) > 1 else self.frame_seconds
        return float(times[-1]) + last


def list_packets(container: InputContainer, stream: VideoStream) -> FrameList | None:
    """Lists the frames by their packets, from the container's position, without decoding.

    Returns None if the packets do not have all times.
    """
    return _list(packets(container, stream), container, stream)


def list_span(
    container: InputContainer, stream: VideoStream, *, start_seconds: float, end_seconds: float
) -> FrameList | None:
    """Lists the frames on screen in `[start_seconds, end_seconds]`, and some around them, after one
    seek: a film of hours need not be read from end to end.

    Returns None if the file has to be listed whole: its container does not store the time of each
    frame, or a seek does not lead to a key frame before the span.
    """
    if container.format.name.split(",")[0] not in _TIMED_CONTAINERS or not stream.time_base:
        return None
    first = islice(packets(container, stream), _REORDERED)
    times = [p.pts for p in first if p.size and p.pts is not None and not p.is_discard]
    if not times:
        return None
    zero = min(times)
    start, end = (zero + round(s / stream.time_base) for s in (start_seconds, end_seconds))
    target = start
    for _ in range(2):
        try:
            container.seek(target, stream=stream, backward=True)
        except FFmpegError:  # no index
            return None
        demuxed = packets(container, stream)
        packet = next(demuxed, None)
        if packet is None or packet.pts is None or not packet.is_keyframe:
            return None
        if packet.pts <= max(start, zero):
            return _list(chain([packet], _until(demuxed, end)), container, stream, first_key=zero)
        # The seek went by decoding time, which is before the time of presentation.
        target = (packet.pts if packet.dts is None else packet.dts) - 1
    return None


def _until(demuxed: Iterator[Packet], end: int) -> Iterator[Packet]:
    """Yields packets until all that are shown up to `end` have come, with those that a decoder
    reads before it gives them."""
    num_after = 0
    for packet in demuxed:
        yield packet
        num_after += num_after > 0 or (packet.pts is not None and packet.pts > end)
        if num_after > _REORDERED:
            return


def _list(
    demuxed: Iterable[Packet],
    container: InputContainer,
    stream: VideoStream,
    *,
    first_key: int | None = None,
) -> FrameList | None:
    """Lists the frames of these packets.

    Args:
        first_key: Of the file's first frame, if the packets begin later, at a key frame: frames
            that are shown before it are left out, since they need earlier packets.
    """
    shown: dict[int, bool] = {}
    sizes: dict[int, int] = {}
    seek_points: dict[int, int] = {}
    is_afresh = True
    for packet in demuxed:
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        sizes[packet.pts] = packet.size
        if packet.is_keyframe:
            seek_points[packet.pts] = packet.pts if packet.dts is None else packet.dts
            is_afresh = is_afresh and starts_afresh(packet, stream)
        is_led = first_key is not None and packet.pts < next(iter(sizes))
        if not packet.is_discard and not is_led:
            shown[packet.pts] = packet.is_keyframe
    if not shown or not _makes_sense(list(shown), stream):
        return None
    in_order = all(early < late for early, late in pairwise(sizes))
    if container.format.name == "avi" and stream.codec_context.has_b_frames and in_order:
        return None  # AVI stores no times: FFmpeg has counted packets in storage order
    keys = np.array(sorted(shown), dtype=np.int64)
    assert stream.time_base is not None
    return FrameList(
        keys=keys,
        is_key_frame=np.array([shown[key] for key in keys.tolist()]),
        seek_points=np.array(sorted(seek_points), dtype=np.int64),
        has_times=True,
        key_seconds=float(stream.time_base),
        frame_seconds=float(1 / _rate(stream)),
        packet_sizes=sizes,
        num_lost=max(0, stream.frames - len(sizes)) if first_key is None else 0,
        decoding_times=np.array([seek_points[key] for key in sorted(seek_points)], dtype=np.int64),
        starts_afresh=is_afresh,
        first_key=first_key,
    )


def list_decoded(path: Path) -> FrameList:
    """Lists the frames that decode.

    Keys are frame numbers if a frame has no time or times run backwards, as in damaged files.

    Raises:
        VideoDecodeError: The file cannot be opened, or has no video track.
    """
    container, stream = open_container(path)
    with container:
        listed = [(p.pts, p.size, not p.is_discard) for p in packets(container, stream) if p.size]
        is_shown = [shown for _, _, shown in listed]
        num_packets = max(sum(is_shown), stream.frames - is_shown.count(False))
    container, stream = open_container(path)
    with container:
        frames = [(f.pts, bool(f.key_frame), f.is_corrupt) for f in decode(container, stream)]
        times = [pts for pts, _, _ in frames]
        has_times = (
            None not in times
            and all(early < late for early, late in pairwise(times))  # type: ignore[operator]
            and _makes_sense(times, stream)  # type: ignore[arg-type]
        )
        # In streams without times, such as raw H.264, the codec knows the rate.
        codec_rate = None if has_times else stream.codec_context.framerate
        frame_seconds = 1 / (codec_rate or _rate(stream))
        unit = stream.time_base if has_times else frame_seconds
    assert unit is not None
    only_damaged = all(is_damaged for _, _, is_damaged in frames)
    keys, is_key_frame = [], []
    for number, (pts, is_key, is_damaged) in enumerate(frames):
        if only_damaged or not is_damaged:
            keys.append(pts if has_times else number)
            is_key_frame.append(is_key)
    # A packet without a frame is not always damage: some codecs have hidden frames.
    num_lost = num_packets - len(keys)
    return FrameList(
        keys=np.array(keys, dtype=np.int64),
        is_key_frame=np.array(is_key_frame, dtype=bool),
        seek_points=np.array(keys, dtype=np.int64)[np.array(is_key_frame, dtype=bool)],
        has_times=has_times,
        key_seconds=float(unit),
        frame_seconds=float(frame_seconds),
        packet_sizes={pts: size for pts, size, _ in listed if pts is not None},
        num_lost=num_lost if num_lost > _HIDDEN_FRACTION * num_packets else 0,
        only_damaged=only_damaged,
    )


def _rate(stream: VideoStream) -> Fraction:
    """Returns frames per second."""
    return stream.average_rate or _UNKNOWN_RATE


def _makes_sense(times: list[int], stream: VideoStream) -> bool:
    """Whether the times span at most the maximum duration of a video."""
    if not times or stream.time_base is None:
        return not times
    return (max(times) - min(times)) * float(stream.time_base) < MAX_DURATION_SECONDS
