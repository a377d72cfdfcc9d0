"""Texts that are read or heard in a video, with their seconds <-> rows of the catalogue's table
`texts`.

A video has one row for each source that was looked at, even if nothing was found: this tells it
from a video that has yet to be looked at.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

SOURCES = ("ocr", "speech")

TEXTS_TABLE = """
CREATE TABLE IF NOT EXISTS texts (
    video_id INTEGER NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('ocr', 'speech')),
    engine TEXT NOT NULL,  -- the program that read or heard them
    texts TEXT NOT NULL,   -- JSON: a list of [start_seconds, end_seconds, text], by time
    checksum INTEGER NOT NULL,  -- CRC-32 of all of the above
    PRIMARY KEY (video_id, source)
);
"""
TEXTS_COLUMNS = ("video_id", "source", "engine", "texts", "checksum")


@dataclass(frozen=True)
class TimedText:
    """A text on screen or in speech during `[start_seconds, end_seconds)`.

    Attributes:
        source: `ocr` or `speech`.
        start_seconds: from the video's first frame.

    Raises:
        ValueError: another source, or times that make no sense.
    """

    source: str
    start_seconds: float
    end_seconds: float
    text: str

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source is {self.source!r}: must be one of {SOURCES}")
        if not 0 <= self.start_seconds <= self.end_seconds or not isfinite(self.end_seconds):
            raise ValueError(
                f"start_seconds is {self.start_seconds} and end_seconds {self.end_seconds}: must "
                "be 0 <= start_seconds <= end_seconds"
            )


@dataclass(frozen=True)
class VideoTexts:
    """All texts of one source in one video.

    Attributes:
        engine: the program that read or heard them, with its model.
        texts: by time; all of this source.
    """

    video_id: int
    source: str
    engine: str
    texts: tuple[TimedText, ...]


def in_order(texts: Sequence[TimedText]) -> list[TimedText]:
    """Sorts texts by time, stably."""
    return sorted(texts, key=lambda text: (text.start_seconds, text.end_seconds))


def to_row(entry: VideoTexts) -> tuple:
    """Returns the values of `TEXTS_COLUMNS`.

    Raises:
        ValueError: a text is of another source than the entry.
    """
    if entry.source not in SOURCES or any(text.source != entry.source for text in entry.texts):
        raise ValueError(f"source is {entry.source!r}: must be one of {SOURCES}, as of each text")
    triples = [[t.start_seconds, t.end_seconds, t.text] for t in in_order(entry.texts)]
    values = (int(entry.video_id), entry.source, entry.engine, json.dumps(triples))
    return (*values, _checksum(values))


def from_row(row: tuple) -> VideoTexts:
    """The reverse of `to_row`.

    Raises:
        ValueError: the row is not what was written.
    """
    *values, checksum = row
    if checksum != _checksum(tuple(values)):
        raise ValueError(f"the texts of video {row[0]}")
    video_id, source, engine, triples = values
    texts = tuple(TimedText(source, *triple) for triple in json.loads(triples))
    return VideoTexts(video_id, source, engine, texts)


def _checksum(values: tuple) -> int:
    return zlib.crc32(repr(values).encode())
