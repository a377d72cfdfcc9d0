"""`.srt` and `.vtt` files beside videos -> what is said in them, with its seconds.

`film.srt`, `film.vtt` and `film.en.srt` belong to `film.mp4`. They count as speech, in place of
what a recogniser would hear.
"""

import html
import json
import logging
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reelseek.indexing.shards.opening import AnyCatalogue
from reelseek.indexing.sources.killable import map_killably
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.texts import TimedText

logger = logging.getLogger(__name__)

SUFFIXES = (".srt", ".vtt")

_SOURCE = "speech"
_ENGINE = "subtitles "  # followed by the files, each with its size and time
_MAX_BYTES = 16 << 20  # of a file; subtitles of a long film have 0.2 MB
_MAX_SECONDS = 30 * 24 * 3600
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s|$)")
_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")  # <i>, <v Ann>, <00:01.000>; {\an8}


@dataclass(frozen=True)
class Cue:
    """One subtitle, shown in `[start_seconds, end_seconds)`."""

    start_seconds: float
    end_seconds: float
    text: str


def parse_subtitles(content: bytes) -> list[Cue]:
    """The cues of a file in SRT or WebVTT, by time; tags are stripped.

    Cues without text, or whose times make no sense, are left out.

    Raises:
        ValueError: the file has none at all.
    """
    cues, times, lines = [], None, []
    for line in [*_decoded(content).splitlines(), ""]:
        timing = _TIMING.match(line)
        if timing is None and line.strip():
            lines.append(line)
            continue
        if times is not None and (text := _plain(lines)):
            cues.append(Cue(*times, text))
        times, lines = (None if timing is None else _times(timing)), []
    if not cues:
        raise ValueError("it holds no subtitles that can be read")
    return sorted(cues, key=lambda cue: (cue.start_seconds, cue.end_seconds))


def _decoded(content: bytes) -> str:
    """The text by its byte order mark, else as UTF-8, else as Windows-1252."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig")):
        if content.startswith(mark):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                continue
    return content.decode("cp1252", errors="replace")


def _times(timing: re.Match) -> tuple[float, float] | None:
    numbers = timing.groups()
    start, end = (_seconds(*numbers[:4]), _seconds(*numbers[4:]))
    return (start, end) if start <= end < _MAX_SECONDS else None


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + int(fraction.ljust(3, "0")) / 1000


def _plain(lines: list[str]) -> str:
    text = html.unescape(_TAGS.sub("", " ".join(lines)))
    return " ".join(text.replace("\0", " ").split())


def update_subtitles(
    catalogue: AnyCatalogue, chosen: Collection[tuple[str, str]], *, timeout_seconds: float
) -> None:
    """Brings what is said in videos up to date with the files beside them.

    Files are read when their names, sizes or times have changed. Where there are none any more,
    what they said is deleted, and `reelseek enrich --speech` listens.

    Args:
        chosen: roots and keys of the videos to look beside.
        timeout_seconds: after which a folder that does not answer is passed over.
    """
    records = [
        record
        for record in catalogue.scan()
        if record.root_and_key in chosen and record.location is not None
    ]
    folders = sorted({Path(record.path).parent for record in records})
    listed = map_killably(_subtitle_files, folders, timeout_seconds=timeout_seconds)
    found = {
        folder: files
        for folder, files in zip(folders, listed, strict=True)
        if not isinstance(files, Exception)  # away: what is known stays
    }
    engines = catalogue.text_engines(_SOURCE)
    for record in records:
        files = found.get(Path(record.path).parent)
        if files is not None:
            own = files.get(Path(record.path).stem, {})
            _update(catalogue, record, own, engines.get(record.id, ""), timeout_seconds)


def _subtitle_files(folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """By the stem of their video, the files' names with size and time of change."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in SUFFIXES:
                continue
            status = entry.stat()
            if not stat.S_ISREG(status.st_mode):
                continue
            base, language = os.path.splitext(stem)
            for video in {stem, base} if language else {stem}:
                found.setdefault(video, {})[entry.name] = (status.st_size, status.st_mtime_ns)
    return found


def _update(
    catalogue: AnyCatalogue,
    record: VideoRecord,
    files: Mapping[str, tuple[int, int]],
    engine: str,
    timeout_seconds: float,
) -> None:
    current = _ENGINE + json.dumps(sorted(files.items())) if files else ""
    if current == engine:
        return
    texts = list(_texts(record, files, timeout_seconds))
    if texts:
        catalogue.store_texts(record.id, _SOURCE, texts, engine=current)
    elif engine.startswith(_ENGINE):
        catalogue.delete_texts(record.id, _SOURCE)


def _texts(
    record: VideoRecord, files: Mapping[str, tuple[int, int]], timeout_seconds: float
) -> Iterator[TimedText]:
    """What the files say within the video; each that cannot be read is named in the log."""
    paths = [Path(record.path).parent / name for name in sorted(files)]
    contents = map_killably(_read_cues, paths, timeout_seconds=timeout_seconds)
    said: set[Cue] = set()
    for path, cues in zip(paths, contents, strict=True):
        if isinstance(cues, Exception):
            reason = getattr(cues, "strerror", None) or cues
            logger.warning("%s: its subtitles are passed over: %s", path, reason)
            continue
        for cue in cues:
            if cue not in said and cue.start_seconds < record.duration_seconds:
                said.add(cue)  # film.srt and film.vtt often say the same
                end = min(cue.end_seconds, record.duration_seconds)
                yield TimedText(_SOURCE, cue.start_seconds, end, cue.text)


def _read_cues(path: Path) -> list[Cue]:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES >> 20} MB")
    return parse_subtitles(content)
