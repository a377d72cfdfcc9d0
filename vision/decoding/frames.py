"""A file and a sampler -> its sampled frames, at the model's size, a few at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from reelseek.vision.decoding.capture_date import CaptureDate, read_capture_date
from reelseek.vision.decoding.opening import reader_openers
from reelseek.vision.decoding.reader import OpenReader, VideoReader
from reelseek.vision.errors import UnsuitableDecoderError, VideoDecodeError
from reelseek.vision.models.preprocessing import Preprocessing, UncroppedFrame
from reelseek.vision.sampling import ROUNDING_SECONDS, Sampler, Samples

_CHUNK_FRAMES = 32
_CHUNK_SECONDS = 5.0  # of work, after which fewer are passed on
_GRID = 16  # by as many cells two frames are compared


@dataclass(frozen=True)
class FrameSettings:
    """What is to come of each video; of plain values, so that it can be passed to a worker.

    Attributes:
        sampler: chooses the frames.
        preprocessing: of the model; or the whole picture.
        dedup_threshold: a frame is not encoded anew that differs from the last one that was by less
            than this in each cell of a 16 x 16 grid, in levels of 0 to 255; 0 encodes all.
    """

    sampler: Sampler
    preprocessing: Preprocessing | UncroppedFrame
    dedup_threshold: float = 0.0


@dataclass(frozen=True)
class VideoEnd:
    """What is known of a video when its last frame has come.

    Attributes:
        duration_seconds: of the whole video.
        decoder: that has decoded it, or its last part: `pyav`, `decord` or `pillow`.
        reason: why frames are missing, for people; empty where none are.
        shot_spans: `(S, 2)` float64, where the sampler has found shots.
        captured: when it was recorded, where the file says so.
    """

    duration_seconds: float
    decoder: str
    reason: str = ""
    shot_spans: np.ndarray | None = None
    captured: CaptureDate | None = None


@dataclass(frozen=True)
class Frames:
    """Sampled frames of one video.

    Attributes:
        pixels: `(K, 3, height, width)` uint8, resized and cropped to the model's input; those to
            be encoded.
        times_seconds: `(T,)` float64, presentation times from the video's first frame.
        rows: `(T,)` int64, for each of these times which of the video's frames to be encoded is
            shown, counted from its first one.
        end: with the last, which may hold no frame; else None.
    """

    pixels: torch.Tensor
    times_seconds: np.ndarray
    rows: np.ndarray
    end: VideoEnd | None = None


ReaderOpeners = Callable[[str | Path, Sequence[str]], Sequence[OpenReader]]


def iter_frames(
    path: str | Path,
    settings: FrameSettings,
    *,
    decoders: Sequence[str] = ("pyav",),
    after_seconds: float = -1.0,
    num_before: int = 0,
    openers: ReaderOpeners = reader_openers,
) -> Iterator[Frames]:
    """Decodes the sampled frames in order, so that an hour-long video needs little memory.

    Where frames that were asked for are missing, the next way to read the file takes over.

    Args:
        path: of a video or an image.
        settings: what to decode.
        decoders: to be tried, in this order.
        after_seconds: leave out the frames up to this time, of which
        num_before: were to be encoded.
        openers: gives the ways to open a file; another one for tests.

    Raises:
        VideoDecodeError: the file is unreadable, or none of its frames decodes.
    """
    reason = ""  # not the exception: it would keep the reader alive, and its file open
    is_verdict = False
    chunks = _Chunks(settings, num_rows=num_before, last_seconds=after_seconds)
    ways = list(openers(path, decoders))
    for attempt, open_reader in enumerate(ways):
        try:
            for frames in _read(open_reader(), settings.sampler, chunks, attempt == len(ways) - 1):
                yield frames if frames.end is None else _dated(frames, path)
            return
        except VideoDecodeError as error:
            if not is_verdict:
                reason, is_verdict = str(error), not isinstance(error, UnsuitableDecoderError)
    if chunks.last_reader is None:
        raise VideoDecodeError(reason or "no decoder can open it")
    reader = chunks.last_reader
    end = VideoEnd(reader.duration_seconds, reader.decoder, reason, chunks.shot_spans)
    yield _dated(chunks.take(end), path)


def _dated(last: Frames, path: str | Path) -> Frames:
    """A video's last frames, with the date that its file tells."""
    assert last.end is not None
    return replace(last, end=replace(last.end, captured=read_capture_date(path)))


def _read(
    reader: VideoReader, sampler: Sampler, chunks: "_Chunks", accepts_gaps: bool
) -> Iterator[Frames]:
    """Reads with one decoder, from where the last one has come to."""
    samples = sampler(reader)
    chunks.shot_spans = samples.shot_spans
    after = reader.times_seconds[samples.frame_indices] > chunks.last_seconds + ROUNDING_SECONDS
    requested = samples.frame_indices[after].tolist()
    resize = chunks.settings.preprocessing.resize
    previous: torch.Tensor | None = None
    num_missing = position = 0
    for index, frame in reader.frames(requested, resize):
        if not reader.knows_times:
            # A decoder that repeats frames where it cannot decode, or a picture that stands still.
            if previous is not None and torch.equal(previous, frame):
                continue
            previous = frame
        gap = requested.index(index, position) - position
        if gap and not accepts_gaps:
            raise UnsuitableDecoderError("frames that were asked for cannot be decoded")
        num_missing += gap
        position += gap + 1
        if not chunks.has_size_of(frame):
            yield chunks.take()
        chunks.add(frame, float(reader.times_seconds[index]), reader)
        if chunks.is_full:
            yield chunks.take()
    num_missing += len(requested) - position
    if num_missing and not accepts_gaps:
        raise UnsuitableDecoderError("frames that were asked for cannot be decoded")
    if chunks.last_reader is None and not chunks.num_rows:
        raise VideoDecodeError("none of the frames that were asked for can be decoded")
    yield chunks.take(_end(reader, samples, num_missing))


def _end(reader: VideoReader, samples: Samples, num_missing: int) -> VideoEnd:
    reason = ""
    if num_missing:
        total = len(samples.frame_indices)
        reason = f"{num_missing} of {total} sampled frames cannot be decoded"
    elif reader.num_lost_frames:
        reason = (
            f"{reader.num_lost_frames} of the frames that the file lists are cut off or damaged"
        )
    return VideoEnd(reader.duration_seconds, reader.decoder, reason, samples.shot_spans)


@dataclass
class _Chunks:
    """Frames on their way out."""

    settings: FrameSettings
    num_rows: int  # frames to be encoded, so far
    last_seconds: float  # of the frames that have come
    last_reader: VideoReader | None = None
    shot_spans: np.ndarray | None = None
    _pixels: list[torch.Tensor] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _grid: torch.Tensor | None = None
    _began: float = field(default_factory=time.monotonic)

    @property
    def is_full(self) -> bool:
        late = time.monotonic() - self._began > _CHUNK_SECONDS
        return len(self._times) >= _CHUNK_FRAMES or (late and bool(self._times))

    def has_size_of(self, frame: torch.Tensor) -> bool:
        """Whether a frame can go with those before it: whole pictures may change their size."""
        return not self._pixels or self._pixels[-1].shape == frame.shape

    def add(self, frame: torch.Tensor, seconds: float, reader: VideoReader) -> None:
        """Takes a frame `(3, height, width)` of the size of the others."""
        if not self._is_similar(frame):
            self._pixels.append(frame)
            self.num_rows += 1
        self._times.append(seconds)
        self._rows.append(self.num_rows - 1)
        self.last_seconds, self.last_reader = seconds, reader

    def take(self, end: VideoEnd | None = None) -> Frames:
        empty = torch.empty((0, 3, *self.settings.preprocessing.size), dtype=torch.uint8)
        frames = Frames(
            torch.stack(self._pixels) if self._pixels else empty,
            np.array(self._times, dtype=np.float64),
            np.array(self._rows, dtype=np.int64),
            end,
        )
        self._pixels, self._times, self._rows = [], [], []
        self._began = time.monotonic()
        return frames

    def _is_similar(self, frame: torch.Tensor) -> bool:
        """Whether a frame is as good as the last one that is to be encoded."""
        if not self.settings.dedup_threshold:
            return False
        grid = F.adaptive_avg_pool2d(frame.float(), _GRID)
        is_similar = self._grid is not None and bool(
            (grid - self._grid).abs().max() < self.settings.dedup_threshold
        )
        if not is_similar:
            self._grid = grid
        return is_similar
