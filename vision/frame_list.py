"""A video stream -> the list of its frames: when each is shown, and which are key frames."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from vision.container import decode, open_container, packets
from vision.errors import MAX_DURATION_SECONDS

_HIDDEN_SHARE = 0.12  # of the packets of a whole video that may show nothing of their own
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
        num_lost: frames that the file lists but that are cut off or damaged.
        only_damaged: whether the frames are all marked as damaged by the decoder.
    """

    keys: np.ndarray
    is_key_frame: np.ndarray
    seek_points: np.ndarray
    has_times: bool
    seconds_a_key: float
    num_lost: int = 0
    only_damaged: bool = False

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

    @property
    def frame_seconds(self) -> float:
        return self.seconds_a_key if not self.has_times else 1 / float(_UNKNOWN_RATE)


def list_frames(path: Path, *, trust_packets: bool) -> FrameList:
    """Lists the frames of a file; none where nothing decodes.

    Args:
        trust_packets: take the list from the packets' times, which needs no decoding; otherwise,
            and where packets have no times, all is decoded.

    Raises:
        VideoDecodeError: the file cannot be opened, or has no video track.
    """
    if trust_packets:
        container, stream = open_container(path)
        with container:
            listed = _list_packets(container, stream)
        if listed is not None:
            return listed
    return _list_decoded(path)


def _list_packets(container: InputContainer, stream: VideoStream) -> FrameList | None:
    """The frames by the packets that are to be shown; None where those do not tell."""
    shown: dict[int, bool] = {}
    seek_points = []
    num_packets = 0
    for packet in packets(container, stream):
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        num_packets += 1
        if packet.is_keyframe:
            seek_points.append(packet.pts)
        if not packet.is_discard:
            shown[packet.pts] = packet.is_keyframe
    if not shown or not _makes_sense(list(shown), stream):
        return None
    keys = np.array(sorted(shown), dtype=np.int64)
    assert stream.time_base is not None
    return FrameList(
        keys=keys,
        is_key_frame=np.array([shown[key] for key in keys.tolist()]),
        seek_points=np.unique(np.array(seek_points, dtype=np.int64)),
        has_times=True,
        seconds_a_key=float(stream.time_base),
        num_lost=max(0, stream.frames - num_packets),
    )


def _list_decoded(path: Path) -> FrameList:
    """The frames that decode, by their times; or by their numbers, where a frame has no time or an
    earlier one than the frame before it, as in damaged files."""
    container, stream = open_container(path)
    with container:
        is_shown = [not p.is_discard for p in packets(container, stream) if p.size]
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
        unit = stream.time_base if has_times else 1 / (stream.average_rate or _UNKNOWN_RATE)
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
        num_lost=num_lost if num_lost > _HIDDEN_SHARE * num_packets else 0,
        only_damaged=only_damaged,
    )


def _makes_sense(times: list[int], stream: VideoStream) -> bool:
    """Whether times span no more than any video lasts."""
    if not times or stream.time_base is None:
        return not times
    return (max(times) - min(times)) * float(stream.time_base) < MAX_DURATION_SECONDS
