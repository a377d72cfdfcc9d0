"""What a collection says of a video -> the facts that the learned model knows it by.

A learner needs the same facts each time it learns the same events, for the same model to result.
Metadata may change, and a video may get into the index after its first event. So the learner keeps
in `facts.jsonl`, beside its model, what it has found, and the log position from which it counts:

    {"video": ID, "position": 812, "author": "Ann", "tag": "cats", "duration_ms": 63200.0, ...}

`code` is what it shows, in base64.

Whoever learns the log again from an earlier position finds the same facts at the same positions.
"""

import base64
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reelseek.indexing.reader import IndexReader
from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.videos import VideoRecord
from reelseek.recommendation.catalogue import ItemCatalogue, author_of, seconds_of, tags_of
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.impressions import NO_ID
from reelseek.recommendation.personal.video_codes import codes_of_videos

__all__ = ["FactsBook", "FindVideo", "IndexVideos", "facts_of_metadata", "facts_of_rows"]

logger = logging.getLogger(__name__)

_DAY_SECONDS = 86_400.0
_RETRY_SECONDS = 5.0  # until a video that the index lacked is looked for again
_MAX_MISSING = 100_000
_OPEN_SECONDS = 1.0  # between two attempts to open the index


def facts_of_metadata(
    metadata: Mapping[str, Any], *, duration_seconds: float, date: str = ""
) -> VideoFacts:
    """Returns the facts: the author, the first tag, the duration, the day of the date."""
    author = author_of(metadata)
    tags = tags_of(metadata)
    return VideoFacts(
        author=NO_ID if author is None else author,
        tag=tags[0] if tags else "",
        duration_ms=1000 * duration_seconds if duration_seconds > 0 else math.nan,
        upload_day=seconds_of(date) / _DAY_SECONDS,
    )


def facts_of_rows(catalogue: ItemCatalogue, rows: np.ndarray) -> list[VideoFacts]:
    """Returns the facts of videos of a catalogue."""
    authors, tags = catalogue.author_names, catalogue.tag_names
    columns = (
        catalogue.authors[rows].tolist(),
        catalogue.first_tags[rows].tolist(),
        catalogue.durations[rows].tolist(),
        catalogue.dates[rows].tolist(),
    )
    return [
        VideoFacts(
            author=NO_ID if author < 0 else authors[author],
            tag="" if tag < 0 else tags[tag],
            duration_ms=1000 * seconds if seconds > 0 else math.nan,
            upload_day=date / _DAY_SECONDS,
        )
        for author, tag, seconds, date in zip(*columns, strict=True)
    ]


class FindVideo(Protocol):
    def __call__(self, video: str) -> VideoFacts | None:
        """Returns what is known of a video now; None where it is not there."""
        ...


class IndexVideos:
    """Looks videos up in an index, which need not be there yet.

    Args:
        folder: of the index.
        clock: gives seconds that grow.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._reader: IndexReader | None = None
        self._open_at = -math.inf
        self._missing: dict[str, float] = {}  # when each was looked for

    def __call__(self, video: str) -> VideoFacts | None:
        now = self._clock()
        if now < self._missing.get(video, -math.inf) + _RETRY_SECONDS:
            return None
        reader = self._opened(now)
        record = None if reader is None else reader.record(video)
        if reader is not None and record is not None:
            self._missing.pop(video, None)
            codes = codes_of_videos(reader, [video])
            return replace(_facts_of_record(record), code=codes.get(video, b""))
        if len(self._missing) >= _MAX_MISSING:  # of a log that names what is nowhere
            self._missing.clear()
        self._missing[video] = now
        return None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _opened(self, now: float) -> IndexReader | None:
        if self._reader is None and now >= self._open_at:
            self._open_at = now + _OPEN_SECONDS
            try:
                self._reader = IndexReader(self._folder)
            except ValueError as error:
                logger.info("no facts of videos yet: %s", error)
        return self._reader


class FactsBook:
    """Facts as they were when a learner first found them.

    Args:
        path: of the file; a last line that was cut off is dropped.
        find: where facts come from that are not in the file.

    Attributes:
        position: gives the log position that is being learned.
        is_repeated: gives whether it was learned before, so that nothing new may be found.
    """

    def __init__(self, path: Path, find: FindVideo) -> None:
        self._find = find
        self.position: Callable[[], int] = lambda: 0
        self.is_repeated: Callable[[], bool] = lambda: False
        self._known: dict[str, tuple[int, VideoFacts]] = {}
        self._new: list[str] = []
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def facts_of(self, video: str) -> VideoFacts:
        """Returns the facts at this position; `UNKNOWN_VIDEO` where there were none."""
        position = self.position()
        known = self._known.get(video)
        if known is not None:
            since, facts = known
            return facts if position >= since else UNKNOWN_VIDEO
        found = None if self.is_repeated() else self._find(video)
        if found is None:
            return UNKNOWN_VIDEO
        self._known[video] = position, found
        self._new.append(_to_line(video, position, facts=found))
        return found

    def sync(self) -> None:
        """Writes what is new; it is on the disk when this returns. Called before each commit, as
        what is learned again must find the same."""
        content = memoryview("".join(self._new).encode())
        while content:
            content = content[os.write(self._file, content) :]
        if self._new:
            os.fsync(self._file)
            self._new = []

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        end = 0
        for line in content.splitlines(keepends=True):
            found = _from_line(line)
            if found is None:
                logger.warning("%s: byte %d and what follows is damaged, and dropped", path, end)
                os.ftruncate(self._file, end)
                break
            video, position, facts = found
            self._known[video] = position, facts
            end += len(line)


def _facts_of_record(record: VideoRecord) -> VideoFacts:
    date, _ = date_of(record.metadata, record.signature.modified_ns)
    return facts_of_metadata(record.metadata, duration_seconds=record.duration_seconds, date=date)


def _to_line(video: str, position: int, *, facts: VideoFacts) -> str:
    fields = {
        "video": video,
        "position": position,
        "author": None if facts.author == NO_ID else facts.author,
        "tag": facts.tag,
        "duration_ms": _or_none(facts.duration_ms),
        "upload_day": _or_none(facts.upload_day),
        "code": base64.b64encode(facts.code).decode(),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _from_line(line: bytes) -> tuple[str, int, VideoFacts] | None:
    """None where the line is damaged."""
    try:
        if not line.endswith(b"\n"):
            return None
        fields = json.loads(line)
        author = fields["author"]
        facts = VideoFacts(
            author=NO_ID if author is None else str(author),
            tag=str(fields["tag"]),
            duration_ms=_or_nan(fields["duration_ms"]),
            upload_day=_or_nan(fields["upload_day"]),
            code=base64.b64decode(fields["code"], validate=True),
        )
        return str(fields["video"]), int(fields["position"]), facts
    except (ValueError, KeyError, TypeError):
        return None


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
