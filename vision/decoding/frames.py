"""Decodes the frames that a sampler chooses, at the model's size, a few at a time."""

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
_CHUNK_SECONDS = 5.0  # after this time, a smaller chunk is passed on
_GRID = 16  # two frames are compared on a 16 x 16 grid


@dataclass(frozen=True)
class FrameSettings:
    """Which frames to take from each video, and how. Can be pickled for a worker.

    Attributes:
        sampler: Chooses the frames.
        preprocessing: The model's, or `UncroppedFrame` for whole frames.
        dedup_threshold: Skip encoding a frame if each cell of a 16 x 16 grid differs from the last
            encoded frame by less than this, in levels of 0 to 255; 0 encodes all frames.
    """

    sampler: Sampler
    preprocessing: Preprocessing | UncroppedFrame
    dedup_threshold: float = 0.0


@dataclass(frozen=True)
class VideoEnd:
    """Facts about a video that are known after its last frame.

    Attributes:
        duration_seconds: Duration of the whole video.
        decoder: Decoder of the video, or of its last part: `pyav`, `decord` or `pillow`.
        reason: Why frames are missing, for users; empty if none are.
        shot_spans: `(S, 2)` float64, if the sampler found shots.
        captured: When the video was recorded, if the file states it.
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
        pixels: `(K, 3, height, width)` uint8, frames to encode, resized and cropped for the model.
        times_seconds: `(T,)` float64, presentation times relative to the video's first frame.
        rows: `(T,)` int64, the encoded frame that stands for each time, as an index into all
            encoded frames of the video.
        end: Set in the last item of a video, which may have no frames.
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
    """Decodes the sampled frames in order, a few at a time, so that long videos need little memory.

    If sampled frames are missing, the next way to read the file takes over from there.

    Args:
        path: A video or an image.
        settings: Frames to decode.
        decoders: Decoders in the order to try them.
        after_seconds: Skip frames up to this time.
        num_before: Frames up to this time that were to be encoded.
        openers: Returns the ways to open a file; tests pass another function.

    Raises:
        VideoDecodeError: The file is unreadable, or none of its frames decodes.
    """
    reason = ""  # keep no exception: it would keep the reader alive, and its file open
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
    """Adds the capture date to a video's last frames."""
    assert last.end is not None
    return replace(last, end=replace(last.end, captured=read_capture_date(path)))


def _read(
    reader: VideoReader, sampler: Sampler, chunks: "_Chunks", accepts_gaps: bool
) -> Iterator[Frames]:
    """Reads with one decoder, from where the previous one stopped."""
    samples = sampler(reader)
    chunks.shot_spans = samples.shot_spans
    after = reader.times_seconds[samples.frame_indices] > chunks.last_seconds + ROUNDING_SECONDS
    requested = samples.frame_indices[after].tolist()
    resize = chunks.settings.preprocessing.resize
    previous: torch.Tensor | None = None
    num_missing = position = 0
    for index, frame in reader.frames(requested, resize):
        if not reader.knows_times:
            # A repeated frame may hide a damaged one, so it counts as missing.
            if previous is not None and torch.equal(previous, frame):
                continue
            previous = frame
        gap = requested.index(index, position) - position
        if gap and not accepts_gaps:
            raise UnsuitableDecoderError("sampled frames cannot be decoded")
        num_missing += gap
        position += gap + 1
        if not chunks.has_size_of(frame):
            yield chunks.take()
        chunks.add(frame, float(reader.times_seconds[index]), reader)
        if chunks.is_full:
            yield chunks.take()
    num_missing += len(requested) - position
    if num_missing and not accepts_gaps:
        raise UnsuitableDecoderError("sampled frames cannot be decoded")
    if chunks.last_reader is None and not chunks.num_rows:
        raise VideoDecodeError("none of the sampled frames can be decoded")
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
    """Collects frames until a chunk is full."""

    settings: FrameSettings
    num_rows: int  # frames to encode, so far
    last_seconds: float  # time of the last frame added
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
        """Whether a frame fits into the chunk: uncropped frames may change their size."""
        return not self._pixels or self._pixels[-1].shape == frame.shape

    def add(self, frame: torch.Tensor, seconds: float, reader: VideoReader) -> None:
        """Adds a frame `(3, height, width)` of the chunk's size."""
        if not self._is_similar(frame):
            self._pixels.append(frame)
            self.num_rows += 1
        self._times.append(seconds)
        self._rows.append(self.num_rows - 1)
        self.last_seconds, self.last_reader = seconds, reader

    def take(self, end: VideoEnd | None = None) -> Frames:
        """Returns the chunk and starts the next one."""
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
        """Whether the last frame to encode can stand for this frame."""
        if not self.settings.dedup_threshold:
            return False
        grid = F.adaptive_avg_pool2d(frame.float(), _GRID)
        is_similar = self._grid is not None and bool(
            (grid - self._grid).abs().max() < self.settings.dedup_threshold
        )
        if not is_similar:
            self._grid = grid
        return is_similar
