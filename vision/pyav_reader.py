"""A video file read by PyAV, whose wheel carries a current FFmpeg."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from av import FFmpegError
from av.video.frame import VideoFrame

from vision.container import decode, open_container, why_no_frame
from vision.errors import VideoDecodeError
from vision.frame_list import list_frames
from vision.orientation import display_matrix, upright

_NEVER = np.iinfo(np.int64).max
_START = np.iinfo(np.int64).min  # of the file


class PyAVReader:
    """The frames of a file, at their own size, upright; one thread a file.

    A frame is known by its presentation time as the decoder gives it, so that none can stand in
    for another.

    Args:
        trust_packets: list the frames without decoding them, where the file allows.

    Raises:
        VideoDecodeError: FFmpeg cannot read the file, or it holds no frame that decodes.
    """

    decoder = "pyav"
    knows_times = True

    def __init__(self, path: Path, *, trust_packets: bool = True) -> None:
        self._path = path
        self._list = list_frames(path, trust_packets=trust_packets)
        if not len(self._list.keys):
            raise VideoDecodeError(why_no_frame(path))
        self.times_seconds = self._list.times_seconds
        self.duration_seconds = self._list.duration_seconds
        self.is_key_frame = self._list.is_key_frame
        self.num_lost_frames = self._list.num_lost
        self._container, self._stream = open_container(path)
        self._wanted: set[int] = set()
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._position = _NEVER  # frames with lower keys have gone by

    def frames(self, frame_indices: Sequence[int]) -> Iterator[tuple[int, torch.Tensor]]:
        indices = sorted(set(frame_indices))
        keys = self._list.keys[indices].tolist()
        self._wanted = set(keys)
        self._position = _NEVER  # what was decoded ahead may lack frames that are wanted now
        for index, key in zip(indices, keys, strict=True):
            frame = self._find(key)
            if frame is not None:
                yield index, self._pixels(frame)

    def _find(self, key: int) -> VideoFrame | None:
        """Decodes until this frame comes, from an ever earlier place where decoding began too late
        for it; None where it does not come, or only damaged."""
        is_damaged = False
        for place in self._places_before(key):
            if place == _START and is_damaged:
                break
            if place is not None:
                self._go_to(place)
            has_begun_before = False
            for frame_key, frame in self._frames:
                self._position = frame_key + 1
                if frame_key == key:
                    if not frame.is_corrupt or self._list.only_damaged:
                        return frame
                    is_damaged = True
                if frame_key >= key:
                    break
                has_begun_before = True
            else:
                self._position = _NEVER
            if has_begun_before and not is_damaged:  # its time has gone by without it
                break
        return None

    def _places_before(self, key: int) -> Iterator[int | None]:
        """Where decoding may begin to reach a frame: None is where it stands, others are times to
        seek."""
        is_ahead = self._position <= key
        if not self._list.has_times:
            if is_ahead:
                yield None
            yield _START
            return
        nearest = int(np.searchsorted(self._list.seek_points, key, side="right")) - 1
        points = self._list.seek_points[max(0, nearest - 1) : nearest + 1].tolist()
        if is_ahead and (not points or self._position >= points[-1]):
            yield None
        yield from reversed(points)
        yield _START

    def _go_to(self, place: int) -> None:
        if place == _START or not self._seek(place):
            self._container.close()
            self._container, self._stream = open_container(self._path)
        self._frames = self._decode()
        self._position = int(self._list.keys[0])

    def _seek(self, key: int) -> bool:
        try:
            self._container.seek(key, stream=self._stream, backward=True)
        except FFmpegError:  # a file without an index
            return False
        return True

    def _decode(self) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their keys, from where the container stands."""
        if not self._list.has_times:
            yield from enumerate(decode(self._container, self._stream))
            return
        for frame in decode(self._container, self._stream, wanted=self._wanted):
            if frame.pts is not None:
                yield frame.pts, frame

    def _pixels(self, frame: VideoFrame) -> torch.Tensor:
        try:
            stored = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
        except (FFmpegError, ValueError, MemoryError) as error:
            raise VideoDecodeError(
                f"its frames of {frame.width} x {frame.height} pixels cannot be converted"
            ) from error
        return upright(
            stored, matrix=display_matrix(frame), pixel_aspect=self._stream.sample_aspect_ratio
        )
