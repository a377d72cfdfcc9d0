"""A video file read by PyAV, whose FFmpeg is current: for what decord cannot open."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vision.errors import MAX_DURATION_SECONDS, VideoDecodeError

_SEEK_BEYOND_SECONDS = 5.0  # nearer frames are reached by decoding on
_HIDDEN_SHARE = 0.12  # of the packets of a whole video that may show nothing of their own
_UNKNOWN_RATE = Fraction(25)  # of a stream that states neither times nor a rate


class PyAVReader:
    """The frames of FFmpeg's choice of video stream, at its own size, one thread a file.

    Frames are known by their presentation time in the stream's own units, or, where the file
    stores none (raw streams), by their number.

    Args:
        trust_packets: take the list of frames from the packets' times, which needs no decoding;
            otherwise, and where packets have no times, the whole video is decoded to list them.

    Raises:
        VideoDecodeError: FFmpeg cannot read the file, or it has no video track that decodes.
    """

    _position: int  # frames with lower keys have gone by

    def __init__(self, path: Path, *, trust_packets: bool = True) -> None:
        self._path = path
        self._container, self._stream = self._open()
        self._has_times = True
        self.num_lost_frames = 0
        keys = self._list_packets() if trust_packets else self._list_decoded()
        if not keys:
            raise VideoDecodeError(self._why_no_frame())
        self._keys = np.unique(np.array(keys, dtype=np.int64))
        rate = self._stream.average_rate or _UNKNOWN_RATE
        unit = self._stream.time_base if self._has_times else 1 / rate
        assert unit is not None
        self._seconds_a_key = float(unit)
        self.times_seconds = (self._keys - self._keys[0]) * self._seconds_a_key
        self._reopen()  # listing the frames has read it to its end
        last = 1 / float(rate)
        if len(self._keys) > 1:
            last = float(np.median(np.diff(self.times_seconds)))
        self.duration_seconds = float(self.times_seconds[-1]) + last
        self._start_decoding()

    def read(self, frame_indices: Sequence[int]) -> torch.Tensor:
        wanted = self._keys[list(frame_indices)].tolist()
        found: dict[int, torch.Tensor] = {}
        for key in sorted(set(wanted)):
            found[key] = self._read_frame(key)
        return torch.stack([found[key] for key in wanted])

    def _read_frame(self, key: int) -> torch.Tensor:
        """Decodes on, after a seek where that is shorter, until this frame comes."""
        ahead_seconds = (key - self._position) * self._seconds_a_key
        if key < self._position or (self._has_times and ahead_seconds > _SEEK_BEYOND_SECONDS):
            self._go_before(key)
        for frame_key, frame in self._frames:
            self._position = frame_key + 1
            if frame_key == key:
                pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
                return pixels.permute(2, 0, 1)
            if frame_key > key:
                break
        else:
            self._position = int(self._keys[-1]) + 1
        seconds = (key - int(self._keys[0])) * self._seconds_a_key
        raise VideoDecodeError(f"the frame at second {seconds:.2f} cannot be decoded")

    def _go_before(self, key: int) -> None:
        if self._has_times:
            try:
                self._container.seek(key, stream=self._stream, backward=True)
            except av.FFmpegError:  # a file without an index: from its start, then
                self._reopen()
        else:
            self._reopen()
        self._start_decoding()

    def _start_decoding(self) -> None:
        """Decodes from where the container stands, which may be anywhere before the next frame
        that is asked for."""
        self._frames = self._decode(by_number=not self._has_times)
        self._position = int(self._keys[0])

    def _reopen(self) -> None:
        self._container.close()
        self._container, self._stream = self._open()

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            container = av.open(str(self._path))
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoDecodeError("it is no video, or damaged where it begins") from error
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            container.close()
            raise VideoDecodeError("it has no video track that can be decoded")
        if stream.codec_context is None:
            container.close()
            raise VideoDecodeError("FFmpeg has no decoder for its video track")
        stream.codec_context.thread_count = 1
        return container, stream

    def _list_packets(self) -> list[int]:
        """The presentation times of the packets that are to be shown."""
        keys: list[int] = []
        num_packets = 0
        try:
            for packet in self._container.demux(self._stream):
                if not packet.size:
                    continue
                if packet.pts is None:
                    return self._list_decoded()
                num_packets += 1
                if not packet.is_discard:
                    keys.append(packet.pts)
        except av.FFmpegError:  # it breaks off here; what came before counts
            pass
        if self._is_nonsense(keys):
            return self._list_decoded()
        self.num_lost_frames = max(0, self._stream.frames - num_packets)
        return keys

    def _count_packets(self) -> int:
        num_packets = 0
        try:
            for packet in self._container.demux(self._stream):
                num_packets += bool(packet.size) and not packet.is_discard
        except av.FFmpegError:
            pass
        return max(num_packets, self._stream.frames)

    def _is_nonsense(self, times: list[int]) -> bool:
        """Whether times span more than any video lasts."""
        unit = self._stream.time_base
        if not times or unit is None:
            return bool(times)
        return (max(times) - min(times)) * float(unit) > MAX_DURATION_SECONDS

    def _list_decoded(self) -> list[int]:
        """The presentation times of the frames; or their numbers, where a frame has no time or an
        earlier one than the frame before it, as in damaged files."""
        self._reopen()
        num_packets = self._count_packets()
        self._reopen()
        times: list[int] = []
        num_frames = 0
        for number, frame in self._decode(by_number=True):
            num_frames = number + 1
            if frame.pts is not None and (not times or frame.pts > times[-1]):
                times.append(frame.pts)
        # A packet without a frame is not always damage: some codecs have hidden frames.
        num_lost = num_packets - num_frames
        self.num_lost_frames = num_lost if num_lost > _HIDDEN_SHARE * num_packets else 0
        self._has_times = len(times) == num_frames and not self._is_nonsense(times)
        return times if self._has_times else list(range(num_frames))

    def _decode(self, *, by_number: bool) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their keys, from where the container stands; damaged packets are passed
        over."""
        number = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except StopIteration:
                return
            except av.InvalidDataError:
                continue
            except av.FFmpegError:
                return
            for frame in frames:
                if not isinstance(frame, VideoFrame):
                    continue
                if by_number:
                    yield number, frame
                elif frame.pts is not None:
                    yield frame.pts, frame
                number += 1

    def _why_no_frame(self) -> str:
        with self._path.open("rb") as file:
            head = file.read(1 << 22)
        if b"encv" in head or b"pssh" in head:
            return "its video is encrypted"
        return "its video track holds no frame that can be decoded"
