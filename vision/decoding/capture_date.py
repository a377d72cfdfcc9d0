"""A video or photo file -> when it was recorded, as its camera or its editor wrote it down.

The time is that of the clock on the camera's wall where the file says it, with the time zone where
the file says that; nothing is converted.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from reelseek.vision.suffixes import IMAGE_SUFFIXES

# In the order in which they are believed: QuickTime's has the time zone of the place, Matroska's is
# written by hand, `creation_time` is UTC, and `date` may be no more than a year.
_CONTAINER_TAGS = (
    *("com.apple.quicktime.creationdate", "date_recorded", "creation_time", "creation_date"),
    *("creationdate", "date"),
)
_EXIF_POINTER = 0x8769
# Of DateTimeOriginal, DateTimeDigitized and DateTime, each with the offset that belongs to it.
_EXIF_TAGS = {
    "DateTimeOriginal": (0x9003, 0x9011),
    "DateTimeDigitized": (0x9004, 0x9012),
    "DateTime": (0x0132, 0x9010),
}
# Where clocks that were never set begin to count: QuickTime, Unix, FAT and GPS.
_EPOCHS = (date(1904, 1, 1), date(1970, 1, 1), date(1980, 1, 1), date(1980, 1, 6))
_FIRST_YEAR = 1826  # of the oldest photo
_DAY = timedelta(days=1)
_BLANKS = " \0"  # that cameras fill fields with

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
        date: ISO 8601, as far as it is known: `2024`, `2024-05`, `2024-05-01`,
            `2024-05-01T10:00:00` or `2024-05-01T10:00:00+02:00`.
        tag: that it was read from, such as `creation_time` or `DateTimeOriginal`.
    """

    date: str
    tag: str


def read_capture_date(path: str | Path) -> CaptureDate | None:
    """Reads it from a container's tags or a photo's EXIF data; None where there is none that can be
    right, such as the beginning of a clock that was never set. Never raises for a damaged file."""
    path = Path(path)
    written = _exif_dates(path) if path.suffix.lower() in IMAGE_SUFFIXES else _tag_dates(path)
    return first_credible(written, today=date.today())


def first_credible(written: Iterable[tuple[str, str]], *, today: date) -> CaptureDate | None:
    """The first of several tags, each with its name and its text, that may be true."""
    for tag, text in written:
        said = parse_date(text)
        if said is not None and _is_credible(said, today):
            return CaptureDate(said, tag)
    return None


def parse_date(text: str) -> str | None:
    """A date as files have it, `2024:05:01 10:00:00` or `2024-05-01T10:00:00.000+0200`, in ISO
    8601; None where it is no date."""
    match = _WRITTEN.fullmatch(text.strip(_BLANKS))
    if match is None:
        return None
    parts = [match[name] for name in ("year", "month", "day") if match[name]]
    said = "-".join(parts)
    if match["hour"]:
        said += f"T{match['hour']}:{match['minute']}:{match['second'] or '00'}{_offset(match)}"
    try:
        datetime.fromisoformat(said + "-01-01"[3 * (len(parts) - 1) :])
    except ValueError:  # the 31st of February
        return None
    return said


def _offset(match: re.Match[str]) -> str:
    zone = match["zone"] or ""
    if zone in ("Z", "UTC"):
        return "+00:00"
    digits = zone.replace(":", "")
    return f"{digits[:3]}:{digits[3:] or '00'}" if digits else ""


def _is_credible(said: str, today: date) -> bool:
    """Whether a camera can have said so: neither a clock's beginning nor the future."""
    year = int(said[:4])
    if len(said) < 10:
        return _FIRST_YEAR <= year <= today.year and year not in {e.year for e in _EPOCHS[:2]}
    day = date.fromisoformat(said[:10])
    # A day of grace, since the other side of the earth may have another date.
    return (
        year >= _FIRST_YEAR
        and day <= today + _DAY
        and not any(abs(day - epoch) <= _DAY for epoch in _EPOCHS)
    )


def _tag_dates(path: Path) -> Iterator[tuple[str, str]]:
    import av

    # The tags are in the head, so that nothing need be probed to learn of the streams.
    options = {"probesize": "32", "analyzeduration": "1"}
    try:
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            holders = [container.metadata, *(stream.metadata for stream in container.streams)]
    except (av.FFmpegError, ValueError, OSError):
        return
    for tag in _CONTAINER_TAGS:
        for metadata in holders:
            if text := _lower(metadata).get(tag):
                yield tag, text


def _lower(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): text for name, text in metadata.items()}


def _exif_dates(path: Path) -> Iterator[tuple[str, str]]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = image.getexif()
            values = {**exif, **exif.get_ifd(_EXIF_POINTER)}
    except Exception:  # damaged EXIF data make Pillow raise whatever it stumbles over
        return
    for name, (tag, offset_tag) in _EXIF_TAGS.items():
        text, offset = values.get(tag), values.get(offset_tag)
        if isinstance(text, str):
            both = f"{text.strip(_BLANKS)}{str(offset or '').strip(_BLANKS)}"
            # An offset that is no offset leaves the time as it is.
            yield name, both if parse_date(both) else text
