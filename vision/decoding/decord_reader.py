"""Reads video files with decord, if decord reads them right."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import decord
import numpy as np
import torch
from av.container import InputContainer
from av.video.stream import VideoStream

from reelseek.vision.decoding.container import decode, open_container
from reelseek.vision.decoding.decord_log import num_complaints, watch_log
from reelseek.vision.decoding.frame_list import FrameList, list_packets
from reelseek.vision.decoding.orientation import display_matrix, is_turned, square, turn
from reelseek.vision.decoding.reader import Resize
from reelseek.vision.errors import MAX_DURATION_SECONDS, UnsuitableDecoderError

# Containers in which each packet is a frame and a seek lands on its key frame.
_CONTAINERS = frozenset({"mov", "matroska", "avi"})
_CODECS = frozenset(
    "h264 hevc vp9 mpeg4 h263 mjpeg dnxhd prores ffv1 huffyuv ffvhuff rawvideo png".split()
)
# Formats of 8 bits: decord's FFmpeg 4.1 rounds deeper ones differently.
_PIXEL_FORMATS = frozenset(
    "yuv420p yuvj420p yuv422p yuvj422p yuv444p yuvj444p gray rgb24 bgr24 gbrp".split()
)
_MAX_AHEAD_BYTES = 512 << 20  # frames that decord may hold between two key frames
_MAX_TIMESTAMP = 2**31 - 1  # decord stores timestamps as a C int
_NO_REPEATS = "0.0000000001"  # fraction of frames that decord may replace by copies of others
_MAX_SQUARED_ERROR = 6.5  # of values from 0 to 255: a PSNR of 40 dB
_NUM_COMPARED = 1 << 16  # minimum pixels of a frame
_QUARTER_TURN = np.array([[0, 1], [-1, 0]])  # clockwise, as a display matrix states it
# The first two derive from Exception only.
_ERRORS = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError)


class DecordReader:
    """Decodes frames at their own size and upright, with one thread.

    decord finds frames by counting, not by their times, and turns only some frames upright. This
    reader therefore accepts only kinds of files in which counting is safe, compares decord's frame
    list and first frame with FFmpeg's, and applies to each frame the turn that the first frame
    lacked. Frames end where decord's FFmpeg logs a problem, since later frames may be damaged or
    the wrong ones.

    Args:
        path: The video file.
        checked: Compare decord's view of the file with FFmpeg's.

    Raises:
        UnsuitableDecoderError: decord cannot open the file, finds no frames or times in it, or
            may read it wrong.
        VideoDecodeError: FFmpeg cannot open the file.
    """

    decoder = "decord"
    knows_times = False
    num_lost_frames = 0

    def __init__(self, path: Path, *, checked: bool = True) -> None:
        self._further_turn: np.ndarray | None = None  # the turn that decord omits
        self._pixel_aspect = 1.0
        if not checked:
            self._open(path)
            return
        container, stream = open_container(path)
        with container:
            _check_kind(container, stream)
            listed = list_packets(container, stream)
            if listed is None or listed.num_lost:
                raise UnsuitableDecoderError("decord cannot list the frames of the file")
            _check_seeks(listed)
            _check_memory(stream, listed)
            self._open(path)
            self._check_list(listed)
            self._check_first_frame(container, stream, listed)

    def _open(self, path: Path) -> None:
        if not watch_log():
            raise UnsuitableDecoderError("this build of decord does not report damage")
        try:
            self._reader = decord.VideoReader(str(path), num_threads=1, fault_tol=_NO_REPEATS)
            num_frames = len(self._reader)
            spans = self._reader.get_frame_timestamp(list(range(num_frames)))  # (N, 2) seconds
            self._key_indices = self._reader.get_key_indices()
        except _ERRORS as error:
            raise UnsuitableDecoderError("decord cannot open it") from error
        if num_frames == 0 or not np.ptp(spans) < MAX_DURATION_SECONDS:  # NaN too
            raise UnsuitableDecoderError("decord finds no frames, or no times")
        starts = np.asarray(spans[:, 0], dtype=np.float64)
        self.times_seconds = np.maximum.accumulate(starts - starts[0])
        self.duration_seconds = max(float(spans[-1, 1] - starts[0]), float(self.times_seconds[-1]))
        self.is_key_frame = np.isin(np.arange(num_frames), self._key_indices)
        self._num_complaints = num_complaints()

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        def key_frame_before(index: int) -> int:
            return int(np.searchsorted(self._key_indices, index, side="right"))

        for _, indices in groupby(sorted(set(frame_indices)), key=key_frame_before):
            read = []
            for index in indices:
                stored = self._decode(index)
                if self._is_in_doubt():
                    break
                if stored is not None:
                    pixels, _ = turn(stored, matrix=self._further_turn, pixel_aspect=None)
                    read.append((index, resize(pixels, self._pixel_aspect)))
            self._pause()
            yield from read
            if self._is_in_doubt():
                return

    def _pause(self) -> None:
        """Stops decord's thread.

        It would otherwise decode and hold its whole queue while our frames wait to be encoded. The
        next read seeks its key frame anyway.
        """
        with suppress(*_ERRORS):
            self._reader.seek(0)

    def _is_in_doubt(self) -> bool:
        return num_complaints() > self._num_complaints

    def _decode(self, index: int) -> torch.Tensor | None:
        """Returns `(3, H, W)` as decord gives it, or None."""
        try:
            frame = self._reader[index].asnumpy()  # (H, W, 3)
        except _ERRORS:
            return None
        if frame.shape[2] != 3:  # decord returns narrow frames in the shape of their padding
            return None
        return torch.from_numpy(frame).permute(2, 0, 1)

    def _check_list(self, listed: FrameList) -> None:
        """Compares the frame list with FFmpeg's, and adopts FFmpeg's exact times."""
        if len(listed.keys) != len(self.times_seconds):
            raise UnsuitableDecoderError("decord does not see the frames that FFmpeg sees")
        # decord numbers key frames in storage order, and other frames in presentation order.
        if not np.array_equal(np.flatnonzero(listed.is_key_frame), self._key_indices):
            raise UnsuitableDecoderError("decord has the key frames in wrong places")
        times = listed.times_seconds
        gap = np.median(np.diff(times)) if len(times) > 1 else np.inf
        if np.abs(times - self.times_seconds).max() > gap / 2:
            raise UnsuitableDecoderError("decord does not have the times that the file states")
        self.times_seconds = times
        self.duration_seconds = listed.duration_seconds

    def _check_first_frame(
        self, container: InputContainer, stream: VideoStream, listed: FrameList
    ) -> None:
        """Compares the first frame with FFmpeg's, and finds the turn that decord omits."""
        container.seek(int(listed.seek_points[0]), stream=stream, backward=True)
        first = next(decode(container, stream), None)
        if first is None or first.pts != listed.keys[0] or first.is_corrupt:
            raise UnsuitableDecoderError("FFmpeg does not decode the first frame")
        if first.interlaced_frame:
            raise UnsuitableDecoderError("decord mixes the colours of interlaced fields")
        own = self._decode(0)
        if own is None or self._is_in_doubt():
            raise UnsuitableDecoderError("decord does not decode its first frame")
        matrix = display_matrix(first)
        stored = torch.from_numpy(first.to_ndarray(format="rgb24")).permute(2, 0, 1)
        upright, self._pixel_aspect = turn(
            stored, matrix=matrix, pixel_aspect=stream.sample_aspect_ratio
        )
        matching = []
        # decord may have turned the frame by any number of quarters: find the turns that remain.
        for num_quarters in range(4):
            turned = np.linalg.matrix_power(_QUARTER_TURN, -num_quarters)
            further = turned @ (np.eye(2) if matrix is None else matrix)
            if _is_same(turn(own, matrix=further, pixel_aspect=None)[0], upright):
                matching.append(further)
        # In a symmetric picture several turns match, which is only safe if the file states none.
        may_turn = is_turned(matrix) or "rotate" in stream.metadata
        if not matching or (may_turn and len(matching) > 1):
            raise UnsuitableDecoderError("decord does not show the picture that FFmpeg shows")
        self._further_turn = matching[0]


def _check_kind(container: InputContainer, stream: VideoStream) -> None:
    context = stream.codec_context
    if (
        container.format.name.split(",")[0] not in _CONTAINERS
        or context.name not in _CODECS
        or context.pix_fmt not in _PIXEL_FORMATS
        or context.height % 2  # its colours would be off by half a line
    ):
        raise UnsuitableDecoderError("decord may read files of its kind wrong")


def _check_seeks(listed: FrameList) -> None:
    if np.abs(listed.keys[[0, -1]]).max() > _MAX_TIMESTAMP:
        raise UnsuitableDecoderError("the file's timestamps are too large for decord")
    if not (listed.is_key_frame[0] and listed.starts_afresh):
        raise UnsuitableDecoderError("decord would miss frames after a key frame")
    # decord seeks by presentation time in an index of decoding times.
    if (listed.decoding_times[1:] <= listed.seek_points[:-1]).any():
        raise UnsuitableDecoderError("decord would take one key frame for the next")


def _check_memory(stream: VideoStream, listed: FrameList) -> None:
    starts = np.flatnonzero(listed.is_key_frame)
    num_frames = int(np.diff(np.append(starts, len(listed.keys))).max())
    if num_frames * 3 * stream.codec_context.width * stream.codec_context.height > _MAX_AHEAD_BYTES:
        raise UnsuitableDecoderError("decord would hold too many large frames at once")


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two frames look the same, by a sample of their pixels."""
    if one.shape != other.shape:
        return False
    step = max(1, int((one[0].numel() / _NUM_COMPARED) ** 0.5))
    one, other = one[:, ::step, ::step].float(), other[:, ::step, ::step].float()
    return float((one - other).square().mean()) <= _MAX_SQUARED_ERROR
