"""Events of a log that no learner may take: numbers and ids that the schema would have refused.

A log is written by others, perhaps by hand or by an older version; what the service accepts was
checked before. One infinite time would end all waits for good.
"""

import json
import math
from pathlib import Path
from typing import Any

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Deletion, Impression, Play, VideoEvent

__all__ = ["DeadLetters", "fault_of"]

_MAX_ID = 128
_MAX_SECONDS = 1e9  # watched
_MAX_TIME = 1e11  # Unix time; the year 5138


def fault_of(logged: LoggedEvent) -> str:
    """Returns why an event is refused, or nothing."""
    event = logged.event
    if not _is_number(logged.received_seconds, highest=_MAX_TIME):
        return f"received_seconds: {logged.received_seconds!r} is no time"
    if isinstance(event, Deletion) or not isinstance(event, VideoEvent):
        return ""
    if event.user is None and event.session is None:
        return "user: missing, as is the session"
    for name in ("user", "session", "request_id", "video"):
        value = getattr(event, name)
        is_missing = value is None and name != "video"
        if not is_missing and not (isinstance(value, str) and 0 < len(value) <= _MAX_ID):
            return f"{name}: is no text of 1 to {_MAX_ID} letters"
    if isinstance(event, Play) and not _is_number(event.watched_seconds, highest=_MAX_SECONDS):
        return f"watched_seconds: {event.watched_seconds!r} is not within 0 and {_MAX_SECONDS:g}"
    if isinstance(event, Impression):
        if event.propensity is not None and not _is_number(event.propensity, highest=1.0):
            return f"propensity: {event.propensity!r} is no probability"
        if not isinstance(event.position, int):
            return f"position: {event.position!r} is no whole number"
    return ""


def _is_number(value: Any, *, highest: float) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= highest


class DeadLetters:
    """A file of lines of JSON: the log positions of refused events, and why.

    What an event says stays in the log alone, so that the deletion of a user need not look here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = 0
        if path.exists():
            content = path.read_text(encoding="utf-8")
            if content and not content.endswith("\n"):
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")
            for line in content.splitlines():
                try:
                    self._last = max(self._last, int(json.loads(line)["log_position"]))
                except (ValueError, KeyError, TypeError):
                    continue  # half a line, of a process that was killed

    def add(self, log_position: int, reason: str) -> None:
        """Adds a line, once, even where the event is read again after a kill."""
        if log_position > self._last:
            self._last = log_position
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"log_position": log_position, "reason": reason}) + "\n")
