"""Videos -> the texts on screen, with their seconds.

Reads one frame of each segment, at its middle, and more of long ones; a line that stays is one text
from the first to the last of its frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib import metadata, resources
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from reelseek.indexing.enrich.extractor import ReadVideo
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.store.videos import VideoRecord
from reelseek.vision import DecodePool, FailedVideo, Frames, MomentSampler, VideoEnd

_ALIKE = 0.85  # of the letters of two readings of one line
_WORD_GAP = 1.0  # between two words of a line at most, of their height
_ROUNDING_SECONDS = 0.001
_FIRST_EAST_ASIAN = "\u2e80"
# Small pictures are enlarged until their shorter side has as many. Finds as many lines on 24 clips
# of MSR-VTT as RapidOCR's own 736, in half the time.
_MIN_PIXELS = 480
_MIN_HEIGHT = 8  # pixels, below which nothing can be read
_LONGEST_SHAPE = 4  # a longer picture is padded to 4:1
_REMEDY = "pip install 'reelseek[ocr]'"


class Line(NamedTuple):
    """A line of writing, and the reader's confidence in it, 0 to 1."""

    text: str
    confidence: float


class LineReader(Protocol):
    """Reads pictures.

    Attributes:
        engine: its name, version and models.
    """

    engine: str

    def lines(self, frame: np.ndarray) -> list[Line]:
        """Returns the lines in a picture `(H, W, 3)` uint8, RGB, from top to bottom."""
        ...


class RapidOcr:
    """RapidOCR with the models of its wheel; fetches nothing.

    Args:
        num_threads: 0 for one a core.

    Raises:
        ValueError: it or its models are not installed.
    """

    def __init__(self, *, num_threads: int = 0) -> None:
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ValueError(f"reading needs rapidocr and onnxruntime: {_REMEDY}") from error
        paths = {task: _model_path(task) for task in ("det", "cls", "rec")}
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.use_cls": False,  # writing that stands on its head
                "Det.limit_side_len": _MIN_PIXELS,
                **{f"{task.title()}.model_path": str(path) for task, path in paths.items()},
                "EngineConfig.onnxruntime.intra_op_num_threads": num_threads or -1,
            }
        )
        names = f"{paths['det'].stem}, {paths['rec'].stem}"
        self.engine = f"rapidocr {metadata.version('rapidocr')} ({names})"

    def lines(self, frame: np.ndarray) -> list[Line]:
        height, width = frame.shape[:2]
        if min(height, width) < _MIN_HEIGHT:
            return []
        # RapidOCR enlarges a strip until its shorter side is _MIN_PIXELS, which fills the memory.
        min_side = -(-max(height, width) // _LONGEST_SHAPE)
        padding = ((0, max(0, min_side - height)), (0, max(0, min_side - width)), (0, 0))
        result: Any = self._ocr(np.ascontiguousarray(np.pad(frame, padding)[:, :, ::-1]))
        if result.txts is None or result.boxes is None:
            return []
        return join_words(np.asarray(result.boxes), result.txts, result.scores)


def _model_path(task: str) -> Path:
    folder = Path(str(resources.files("rapidocr"))) / "models"
    found = sorted(folder.glob(f"*_{task}_*.onnx"))
    if not found:
        raise ValueError(
            f"{folder} holds no model for {task}: pip install --force-reinstall rapidocr"
        )
    return found[0]


def join_words(boxes: np.ndarray, texts: Sequence[str], confidences: Sequence[float]) -> list[Line]:
    """Joins neighbouring boxes of one height into lines.

    Args:
        boxes: `(n, 4, 2)`, corners in pixels, x and y.
        texts: of each box.
        confidences: of each, 0 to 1; a line has the lowest of its words'.
    """
    corners = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)  # (n, 4)
    rows: list[list[int]] = []
    for box in np.argsort(corners[:, 0], kind="stable").tolist():
        row = next((row for row in rows if _follows(corners[row[-1]], corners[box])), None)
        if row is None:
            rows.append([box])
        else:
            row.append(box)
    rows.sort(key=lambda row: corners[row[0], 1])
    return [
        Line(
            " ".join(texts[box].strip() for box in row),
            min(float(confidences[box]) for box in row),
        )
        for row in rows
    ]


def _follows(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether the right one of two boxes `(left, top, right, bottom)` continues the line."""
    shared = min(left[3], right[3]) - max(left[1], right[1])
    height = min(left[3] - left[1], right[3] - right[1])
    gap = right[0] - left[2]
    return bool(shared >= height / 2 and -height <= gap <= _WORD_GAP * height)


class OcrReader:
    """Reads the texts on screen.

    Args:
        line_reader: of single pictures.
        pool: decodes whole pictures; its settings' own sampler is not used.
        every_seconds: longer segments are read more than once.
        min_confidence: lines with less are left out; 0 to 1.
    """

    source = "ocr"

    def __init__(
        self,
        line_reader: LineReader,
        pool: DecodePool,
        *,
        every_seconds: float = 5.0,
        min_confidence: float = 0.7,
    ) -> None:
        self.engine = line_reader.engine
        self._line_reader = line_reader
        self._pool = pool
        self._every_seconds = every_seconds
        self._min_confidence = min_confidence

    def read(self, records: Iterable[VideoRecord]) -> Iterator[ReadVideo]:
        in_hand: dict[int, _Job] = {}

        def videos() -> Iterator[tuple[int, Path]]:
            for record in records:
                spans = reading_spans(record.spans, every_seconds=self._every_seconds)
                in_hand[record.id] = _Job(record, spans)
                yield record.id, Path(record.path)

        def sampler_of(video_id: int) -> MomentSampler:
            middles = in_hand[video_id].spans.mean(axis=1)
            return MomentSampler(tuple(middles.tolist()))

        for video_id, item in self._pool.decode(videos(), sampler_of=sampler_of):
            job = in_hand[video_id]
            if isinstance(item, Frames):
                self._read_frames(job, item)
                if item.end is None:
                    continue
            del in_hand[video_id]
            yield job.result(item)

    def _read_frames(self, job: "_Job", frames: Frames) -> None:
        for pixels in frames.pixels:
            lines: list[Line] = []
            if not job.failure:
                try:
                    lines = self._line_reader.lines(pixels.permute(1, 2, 0).numpy())
                except Exception as error:  # one odd picture must not end the run
                    job.failure = f"a picture cannot be read ({type(error).__name__})"
            job.lines.append([line for line in lines if self._is_sure(line)])
        job.times_seconds += frames.times_seconds.tolist()
        job.rows += frames.rows.tolist()

    def _is_sure(self, line: Line) -> bool:
        return line.confidence >= self._min_confidence and is_word(line.text)


@dataclass
class _Job:
    """A video in hand: the lines of each picture, and the times of its frames."""

    record: VideoRecord
    spans: np.ndarray  # (P, 2)
    lines: list[list[Line]] = field(default_factory=list)
    times_seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    failure: str = ""

    def result(self, end: "Frames | FailedVideo | VideoEnd") -> ReadVideo:
        is_cut_off = isinstance(end, FailedVideo) and self.record.outcome == "ok"
        if isinstance(end, FailedVideo) and (is_cut_off or not self.times_seconds):
            return ReadVideo(self.record, None, end.reason)
        if self.failure:
            return ReadVideo(self.record, None, self.failure)
        return ReadVideo(self.record, merge_lines(self._lines_by_span(), self.spans))

    def _lines_by_span(self) -> list[list[Line]]:
        """Returns the lines of the frame on screen at the middle of each span."""
        middles = self.spans.mean(axis=1) + _ROUNDING_SECONDS
        shown = np.searchsorted(np.array(self.times_seconds), middles, side="right") - 1
        return [self.lines[self.rows[max(0, index)]] for index in shown.tolist()]


def reading_spans(spans: np.ndarray, *, every_seconds: float) -> np.ndarray:
    """Returns the spans of which one frame each is read: segments, and equal parts of long ones.

    Args:
        spans: `(S, 2)` of the segments, in order of time; they may overlap.

    Returns:
        `(P, 2)` float64, each beginning where the one before ends, but for gaps; of two that
        overlap, each has its half.
    """
    parts = []
    for start, end in spans.tolist():
        count = max(1, ceil((end - start) / every_seconds - 1e-9))
        edges = np.linspace(start, end, count + 1)
        parts.append(np.stack([edges[:-1], edges[1:]], axis=1))
    read = np.concatenate(parts) if parts else np.zeros((1, 2))
    read = read[np.argsort(read[:, 0], kind="stable")]
    overlaps = read[:-1, 1] > read[1:, 0]
    halves = (read[:-1, 1] + read[1:, 0]) / 2
    read[:-1, 1] = np.where(overlaps, halves, read[:-1, 1])
    read[1:, 0] = np.where(overlaps, halves, read[1:, 0])
    return read[read[:, 1] >= read[:, 0]]


def merge_lines(lines: Sequence[Sequence[Line]], spans: np.ndarray) -> list[TimedText]:
    """Merges a line that is read in consecutive spans into one text, in its surest reading.

    Args:
        lines: of each span.
        spans: `(P, 2)`, in order of time.
    """
    merged: list[tuple[float, float, Line]] = []
    open_texts: list[int] = []  # indexes in `merged` of the texts still on screen
    for some, (start, end) in zip(lines, spans.tolist(), strict=True):
        still_open: list[int] = []
        for line in some:
            index = next(
                (n for n in open_texts if n not in still_open and is_same(merged[n][2], line)), None
            )
            if index is None:
                index = len(merged)
                merged.append((start, end, line))
            else:
                first, _, before = merged[index]
                merged[index] = (first, end, max(before, line, key=lambda one: one.confidence))
            still_open.append(index)
        open_texts = still_open
    return [TimedText("ocr", start, end, line.text) for start, end, line in merged]


def is_same(one: Line, other: Line) -> bool:
    """Whether two readings are of one line: they may differ in a few letters, but in no digit."""
    first, second = _plain(one.text), _plain(other.text)
    if first == second:
        return True
    if [c for c in first if c.isdigit()] != [c for c in second if c.isdigit()]:
        return False
    return SequenceMatcher(None, first, second, autojunk=False).ratio() >= _ALIKE


def is_word(text: str) -> bool:
    """Whether a text has two letters or digits, or one East Asian letter; less may be a stray
    stroke."""
    return sum(2 if letter >= _FIRST_EAST_ASIAN else 1 for letter in _plain(text)) >= 2


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
