"""Reads when a video or photo was recorded, from the tags its camera or editor wrote.

Times are local to the camera where the file has local time, with the time zone where the file has
one. Nothing is converted.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from reelseek.vision.suffixes import IMAGE_SUFFIXES

# Most reliable first: QuickTime's tag has the local time zone, Matroska's is written by hand,
# `creation_time` is UTC, and `date` may be just a year.
_CONTAINER_TAGS = (
    *("com.apple.quicktime.creationdate", "date_recorded", "creation_time", "creation_date"),
    *("creationdate", "date"),
)
_EXIF_POINTER = 0x8769
# The tag of each time, and the tag of its UTC offset.
_EXIF_TAGS = {
    "DateTimeOriginal": (0x9003, 0x9011),
    "DateTimeDigitized": (0x9004, 0x9012),
    "DateTime": (0x0132, 0x9010),
}
# Clocks that were never set start here: QuickTime, Unix, FAT and GPS.
_EPOCHS = (date(1904, 1, 1), date(1970, 1, 1), date(1980, 1, 1), date(1980, 1, 6))
_FIRST_YEAR = 1826  # the oldest surviving photo
_DAY = timedelta(days=1)
_BLANKS = " \0"  # cameras pad fields with these

_WRITTEN = re.compile(
    r"(?P<year>\d{4})(?:[-:/.]?(?P<month>\d\d)(?:[-:/.]?(?P<day>\d\d)(?:[T ]+(?P<hour>\d\d):?"
    r"(?P<minute>\d\d)(?::?(?P<second>\d\d)(?:[.,]\d*)?)?\s*(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?"
    r")?)?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class CaptureDate:
    """When a file was recorded.

    Attributes:
        date: ISO 8601, as precise as the file: `2024`, `2024-05`, `2024-05-01`,
            `2024-05-01T10:00:00` or `2024-05-01T10:00:00+02:00`.
        tag: Source of the date, such as `creation_time` or `DateTimeOriginal`.
    """

    date: str
    tag: str


def read_capture_date(path: str | Path) -> CaptureDate | None:
    """Reads the date from a container's tags or a photo's EXIF data.

    Returns None if the file has no credible date (a clock that was never set is not credible) or
    is damaged.
    """
    path = Path(path)
    written = _exif_dates(path) if path.suffix.lower() in IMAGE_SUFFIXES else _tag_dates(path)
    return first_credible(written, today=date.today())


def first_credible(written: Iterable[tuple[str, str]], *, today: date) -> CaptureDate | None:
    """Returns the first credible date among pairs of a tag's name and its text."""
    for tag, text in written:
        iso_date = parse_date(text)
        if iso_date is not None and _is_credible(iso_date, today):
            return CaptureDate(iso_date, tag)
    return None


def parse_date(text: str) -> str | None:
    """Converts a tag such as `2024:05:01 10:00:00` or `2024-05-01T10:00:00.000+0200` to ISO 8601.

    Returns None if the text is not a date.
    """
    match = _WRITTEN.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    parts = [match[name] for name in ("year", "month", "day") if match[name]]
    iso_date = "-".join(parts)
    if match["hour"]:
        iso_date += f"T{match['hour']}:{match['minute']}:{match['second'] or '00'}{_offset(match)}"
    try:
        datetime.fromisoformat(iso_date + "-01-01"[3 * (len(parts) - 1) :])
    except ValueError:  # the 31st of February
        return None
    return iso_date


def _offset(match: re.Match[str]) -> str:
    zone = match["zone"] or ""
    if zone in ("Z", "UTC"):
        return "+00:00"
    digits = zone.replace(":", "")
    return f"{digits[:3]}:{digits[3:] or '00'}" if digits else ""


def _is_credible(iso_date: str, today: date) -> bool:
    """Whether the date is neither the start of an unset clock nor in the future."""
    year = int(iso_date[:4])
    if len(iso_date) < 10:
        return _FIRST_YEAR <= year <= today.year and year not in {e.year for e in _EPOCHS[:2]}
    day = date.fromisoformat(iso_date[:10])
    # A day of tolerance, since time zones differ.
    return (
        year >= _FIRST_YEAR
        and day <= today + _DAY
        and not any(abs(day - epoch) <= _DAY for epoch in _EPOCHS)
    )


def _tag_dates(path: Path) -> Iterator[tuple[str, str]]:
    import av

    # The tags are in the header, so FFmpeg need not probe the streams.
    options = {"probesize": "32", "analyzeduration": "1"}
    try:
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            holders = [
                {name.lower(): text for name, text in part.metadata.items()}
                for part in (container, *container.streams)
            ]
    except (av.FFmpegError, ValueError, OSError):
        return
    for tag in _CONTAINER_TAGS:
        for metadata in holders:
            if text := metadata.get(tag):
                yield tag, text


def _exif_dates(path: Path) -> Iterator[tuple[str, str]]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            values = {**exif, **exif.get_ifd(_EXIF_POINTER)}
    except Exception:  # for damaged EXIF data, Pillow raises errors of any type
        return
    for name, (tag, offset_tag) in _EXIF_TAGS.items():
        text, offset = values.get(tag), values.get(offset_tag)
        if isinstance(text, str):
            both = f"{text.strip(_BLANKS)}{str(offset or '').strip(_BLANKS)}"
            # Ignore an invalid offset.
            yield name, both if parse_date(both) else text
