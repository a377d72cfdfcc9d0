"""When a video was made, and the source of that date: the user's list, the file itself, or the
file's time.

The catalogue's metadata hold the file's own date under a separate name: a `date` in the user's list
takes precedence, and new metadata do not overwrite it.
"""

from datetime import datetime, timezone
from typing import Any

from reelseek.vision.decoding.capture_date import CaptureDate

CAPTURED = "captured"  # {"date": ISO 8601, "tag": its name in the file}
FROM_LIST, FROM_FILE_TIME = "list", "file time"


def with_capture_date(metadata: dict, captured: CaptureDate | None) -> dict:
    """Adds the date in the video's file to its metadata."""
    if captured is None or CAPTURED in metadata:
        return metadata
    return metadata | {CAPTURED: {"date": captured.date, "tag": captured.tag}}


def without_capture_date(metadata: dict) -> dict:
    """Removes the date of a file whose content may have changed."""
    return {
        name: value for name, value in metadata.items() if name != CAPTURED or not _is_ours(value)
    }


def with_known_date(metadata: dict, known: dict) -> dict:
    """Returns new metadata of a video of unchanged content, with the known date of its file."""
    captured = known.get(CAPTURED)
    return {CAPTURED: captured} | metadata if _is_ours(captured) else metadata


def date_of(metadata: dict, modified_ns: int) -> tuple[str, str]:
    """Returns the date that filters compare, in ISO 8601 as far as it is known, and its source:
    `list`, the tag of the file such as `creation_time`, or `file time`."""
    listed: Any = metadata.get("date")
    if isinstance(listed, str | int) and not isinstance(listed, bool):
        return str(listed).replace(" ", "T"), FROM_LIST
    captured = metadata.get(CAPTURED)
    if isinstance(captured, dict) and isinstance(captured.get("date"), str):
        return captured["date"], str(captured.get("tag", CAPTURED))
    modified = datetime.fromtimestamp(modified_ns // 10**9, tz=timezone.utc)
    return modified.isoformat(), FROM_FILE_TIME


def _is_ours(captured: object) -> bool:
    """Whether it was read from a file, not given by a list."""
    return isinstance(captured, dict) and captured.keys() == {"date", "tag"}
