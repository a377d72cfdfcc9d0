"""A video stream -> the list of its frames: when each is shown, and which are key frames."""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from reelseek.vision.decoding.container import decode, open_container, packets
from reelseek.vision.decoding.key_frames import starts_afresh
from reelseek.vision.errors import MAX_DURATION_SECONDS

_HIDDEN_FRACTION = 0.12  # of the packets of a whole video that may show nothing of their own
_UNKNOWN_RATE = Fraction(25)  # of a stream that states neither times nor a rate


@dataclass(frozen=True)
class FrameList:
    """The frames of a stream, in order of presentation.

    Attributes:
        keys: `(N,)` int64, ascending: what a frame is known by. Its presentation time in units of
            the stream, or its number where the file stores no times.
        is_key_frame: `(N,)` bool.
        seek_points: `(K,)` int64, ascending: the keys at which decoding can begin.
        has_times: whether keys are times.
        seconds_a_key: the length of a key's unit.
        packet_sizes: bytes of each packet by its presentation time.
        frame_seconds: how long a frame lasts, by the rate that the file states.
        num_lost: frames that the file lists but that are cut off or damaged.
        only_damaged: whether the frames are all marked as damaged by the decoder.
        decoding_times: `(K,)` int64, of the seek points, in the unit of keys; empty where the
            frames were not listed by packets.
        starts_afresh: whether decoding gives each frame from any seek point on.
    """

    keys: np.ndarray
    is_key_frame: np.ndarray
    seek_points: np.ndarray
    has_times: bool
    seconds_a_key: float
    frame_seconds: float
    packet_sizes: dict[int, int]
    num_lost: int = 0
    only_damaged: bool = False
    decoding_times: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    starts_afresh: bool = False

    @property
    def times_seconds(self) -> np.ndarray:
        """`(N,)` float64, from the first frame."""
        return (self.keys - self.keys[0]) * self.seconds_a_key

    @property
    def duration_seconds(self) -> float:
        """The end of the last frame, which is taken to last as long as the frames do."""
        times = self.times_seconds
        last = float(np.median(np.diff(times))) if len(times) > 1 else self.frame_seconds
        return float(times[-1]) + last


def list_packets(container: InputContainer, stream: VideoStream) -> FrameList | None:
    """Lists the frames by the packets that are to be shown, from where the container stands; None
    where those do not tell."""
    shown: dict[int, bool] = {}
    sizes: dict[int, int] = {}
    seek_points: dict[int, int] = {}
    is_afresh = True
    for packet in packets(container, stream):
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        sizes[packet.pts] = packet.size
        if packet.is_keyframe:
            seek_points[packet.pts] = packet.pts if packet.dts is None else packet.dts
            is_afresh = is_afresh and starts_afresh(packet, stream)
        if not packet.is_discard:
            shown[packet.pts] = packet.is_keyframe
    if not shown or not _makes_sense(list(shown), stream):
        return None
    in_order = all(early < late for early, late in pairwise(sizes))
    if container.format.name == "avi" and stream.codec_context.has_b_frames and in_order:
        return None  # AVI stores no times: FFmpeg has counted the packets as they are stored
    keys = np.array(sorted(shown), dtype=np.int64)
    assert stream.time_base is not None
    return FrameList(
        keys=keys,
        is_key_frame=np.array([shown[key] for key in keys.tolist()]),
        seek_points=np.array(sorted(seek_points), dtype=np.int64),
        has_times=True,
        seconds_a_key=float(stream.time_base),
        frame_seconds=float(1 / _rate(stream)),
        packet_sizes=sizes,
        num_lost=max(0, stream.frames - len(sizes)),
        decoding_times=np.array([seek_points[key] for key in sorted(seek_points)], dtype=np.int64),
        starts_afresh=is_afresh,
    )


def list_decoded(path: Path) -> FrameList:
    """Lists the frames that decode, by their times; or by their numbers, where a frame has no time
    or an earlier one than the frame before it, as in damaged files.

    Raises:
        VideoDecodeError: the file cannot be opened, or has no video track.
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
        # Of a stream without times, such as raw H.264, the codec knows the rate.
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
        seconds_a_key=float(unit),
        frame_seconds=float(frame_seconds),
        packet_sizes={pts: size for pts, size, _ in listed if pts is not None},
        num_lost=num_lost if num_lost > _HIDDEN_FRACTION * num_packets else 0,
        only_damaged=only_damaged,
    )


def _rate(stream: VideoStream) -> Fraction:
    """Frames a second."""
    return stream.average_rate or _UNKNOWN_RATE


def _makes_sense(times: list[int], stream: VideoStream) -> bool:
    """Whether times span no more than any video lasts."""
    if not times or stream.time_base is None:
        return not times
    return (max(times) - min(times)) * float(stream.time_base) < MAX_DURATION_SECONDS
