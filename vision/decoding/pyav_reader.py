"""Reads video files with PyAV, whose wheel carries a current FFmpeg."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from av import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from reelseek.vision.decoding.container import StrayTimesError, decode, open_container, why_no_frame
from reelseek.vision.decoding.frame_list import list_decoded, list_packets, list_span
from reelseek.vision.decoding.orientation import display_matrix, square, turn
from reelseek.vision.decoding.reader import Resize
from reelseek.vision.errors import VideoDecodeError

_NEVER = np.iinfo(np.int64).max
_START = np.iinfo(np.int64).min  # start of the file


class PyAVReader:
    """Decodes frames at their own size and upright, with one thread.

    Frames are identified by the presentation times that the decoder returns, so that no frame can
    replace another.

    Args:
        path: The video file.
        trust_packets: List the frames without decoding them, if the file allows.
        span: Start and end in seconds of what will be read. Other frames may not be listed, so that
            `times_seconds` and `duration_seconds` may end after the span.
        max_height: Larger frames are scaled down to about so many pixels; 0 leaves them as they
            are.

    Raises:
        VideoDecodeError: FFmpeg cannot read the file, or no frame decodes.
    """

    decoder = "pyav"
    knows_times = True

    def __init__(
        self,
        path: Path,
        *,
        trust_packets: bool = True,
        span: tuple[float, float] | None = None,
        max_height: int = 0,
    ) -> None:
        self._path = path
        self._max_height = max_height
        self._container, self._stream = open_container(path)
        listed = None
        if trust_packets and span is not None:
            listed = list_span(
                self._container, self._stream, start_seconds=span[0], end_seconds=span[1]
            )
            if listed is None:  # its packets have been read in part
                self._container.close()
                self._container, self._stream = open_container(path)
        if trust_packets and listed is None:
            listed = list_packets(self._container, self._stream)
        self._list = list_decoded(path) if listed is None else listed
        if not len(self._list.keys):
            raise VideoDecodeError(why_no_frame(path))
        self.times_seconds = self._list.times_seconds
        self.duration_seconds = self._list.duration_seconds
        self.is_key_frame = self._list.is_key_frame
        self.num_lost_frames = self._list.num_lost
        self._reformatter = VideoReformatter()  # creating one per frame is six times slower
        self._can_seek = self._list.has_times
        self._needed_pts: set[int] = set()
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._position = _NEVER  # all frames with lower keys have been decoded

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        indices = sorted(set(frame_indices))
        keys = self._list.keys[indices].tolist()
        self._needed_pts = set(keys)
        self._position = _NEVER  # frames decoded ahead may lack frames that are needed now
        for index, key in zip(indices, keys, strict=True):
            frame = self._find(key)
            if frame is not None:
                yield index, self._pixels(frame, resize)

    def _find(self, key: int) -> VideoFrame | None:
        """Decodes until the frame comes, and retries from earlier positions.

        Returns None if the frame does not come, or only damaged.
        """
        is_damaged = False
        for start_pts in self._start_pts_before(key):
            if start_pts == _START and is_damaged:
                break
            try:
                if start_pts is not None:
                    self._go_to(start_pts)
                frame, came_past = self._decode_until(key)
            except StrayTimesError:  # times after a seek are wrong: read from the start from now on
                self._can_seek = False
                return self._find(key)
            if frame is not None:
                if not frame.is_corrupt or self._list.only_damaged:
                    return frame
                is_damaged = True
            elif came_past and not is_damaged:  # decoding began early enough
                break
        return None

    def _decode_until(self, key: int) -> tuple[VideoFrame | None, bool]:
        """Decodes until the frame or a later one comes.

        Returns:
            The frame, or None if a later one came; and whether an earlier frame came first.
        """
        came_past = False
        for frame_key, frame in self._frames:
            self._position = frame_key + 1
            if frame_key >= key:
                return (frame if frame_key == key else None), came_past
            came_past = True
        self._position = _NEVER
        return None, came_past

    def _start_pts_before(self, key: int) -> Iterator[int | None]:
        """Yields the positions from which to try to reach a frame, the cheapest first.

        None stands for the current position; the others are times to seek.
        """
        is_ahead = self._position <= key
        if not self._can_seek:
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

    def _go_to(self, start_pts: int) -> None:
        has_sought = start_pts != _START and self._seek(start_pts)
        if not has_sought:
            self._container.close()
            self._container, self._stream = open_container(self._path)
        self._frames = self._decode(self._list.packet_sizes if has_sought else None)
        self._position = int(self._list.keys[0])

    def _seek(self, key: int) -> bool:
        try:
            self._container.seek(key, stream=self._stream, backward=True)
        except FFmpegError:  # the file has no index
            return False
        return True

    def _decode(self, packet_sizes: dict[int, int] | None) -> Iterator[tuple[int, VideoFrame]]:
        """Yields frames with their keys, from the container's position."""
        if not self._list.has_times:
            yield from enumerate(decode(self._container, self._stream))
            return
        frames = decode(
            self._container, self._stream, needed_pts=self._needed_pts, packet_sizes=packet_sizes
        )
        for frame in frames:
            if frame.pts is not None:
                yield frame.pts, frame

    def _pixels(self, frame: VideoFrame, resize: Resize) -> torch.Tensor:
        matrix = display_matrix(frame)
        try:
            width, height = self._size(frame, matrix)
            converted = self._reformatter.reformat(frame, width, height, format="rgb24")
            stored = torch.from_numpy(converted.to_ndarray()).permute(2, 0, 1)
        except (FFmpegError, ValueError, MemoryError) as error:
            raise VideoDecodeError(
                f"its frames of {frame.width} x {frame.height} pixels cannot be converted"
            ) from error
        pixels, pixel_aspect = turn(
            stored, matrix=matrix, pixel_aspect=self._stream.sample_aspect_ratio
        )
        return resize(pixels, pixel_aspect)

    def _size(self, frame: VideoFrame, matrix: np.ndarray | None) -> tuple[int, int]:
        """Returns the width and height to convert to, before the frame is turned."""
        is_quarter = matrix is not None and abs(matrix[0, 1]) > abs(matrix[0, 0])
        shown_height = frame.width if is_quarter else frame.height
        if not self._max_height or shown_height <= self._max_height:
            return frame.width, frame.height
        scale = self._max_height / shown_height
        return max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
