"""Typed events <-> rows of the table `events`."""

import uuid
from typing import Any

import msgspec

from reelseek.recommendation.events.schema import KINDS, AnyEvent, Deletion, Event, sha256_of

# In the order of the table. What a user typed stands beside the pseudonyms.
_TYPES = {
    "event_id": "TEXT NOT NULL UNIQUE",
    "kind": "TEXT NOT NULL",
    "schema_version": "INTEGER NOT NULL",
    "time_seconds": "REAL NOT NULL",
    "received_seconds": "REAL NOT NULL",
    "user": "TEXT",
    "session": "TEXT",
    "query": "TEXT",
    "num_hits": "INTEGER",
    "request_id": "TEXT",
    "video": "TEXT",
    "start_seconds": "REAL",
    "end_seconds": "REAL",
    "position": "INTEGER",
    "surface": "TEXT",
    "propensity": "REAL",
    "watched_seconds": "REAL",
    "liked": "INTEGER",
    "pseudonym_sha256": "TEXT",
}
COLUMNS = tuple(_TYPES)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    -- grows with each event and is never given twice, as readers go by it
    log_position INTEGER PRIMARY KEY AUTOINCREMENT,
    {", ".join(f"{name} {kind}" for name, kind in _TYPES.items())}
);
-- deletions of users of which something may still be in a file
CREATE TABLE IF NOT EXISTS unwiped (deletion INTEGER PRIMARY KEY AUTOINCREMENT);
-- `dropped_position`: of the last event that was too old, or too many
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value);
"""

Row = tuple[Any, ...]

_CLASSES: dict[str, type[Event]] = {**KINDS, str(Deletion.__struct_config__.tag): Deletion}
# Of each kind, the columns that its fields are in.
_FIELDS = {
    kind: [(name, COLUMNS.index(name)) for name in event.__struct_fields__]
    for kind, event in _CLASSES.items()
}
_KIND, _RECEIVED, _LIKED = (COLUMNS.index(n) for n in ("kind", "received_seconds", "liked"))


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as it is in the log.

    Attributes:
        log_position: grows from event to event; what a reader goes on from.
        received_seconds: Unix time by the server's clock, on arrival.
    """

    log_position: int
    received_seconds: float
    event: AnyEvent | Deletion


def to_row(event: AnyEvent | Deletion, received_seconds: float) -> Row:
    values = [getattr(event, name, None) for name in COLUMNS]
    values[_KIND] = event.__struct_config__.tag
    values[_RECEIVED] = received_seconds
    return tuple(values)


def deletion_row(user: str, now_seconds: float) -> Row:
    """Returns the row which says that all events of a pseudonym were deleted."""
    event_id = f"deletion-{uuid.uuid4().hex}"
    digest = sha256_of(user)
    deletion = Deletion(event_id=event_id, time_seconds=now_seconds, pseudonym_sha256=digest)
    return to_row(deletion, now_seconds)


def from_row(row: Row) -> LoggedEvent:
    """Args: row: `log_position`, then `COLUMNS`."""
    log_position, *values = row
    if values[_LIKED] is not None:
        values[_LIKED] = bool(values[_LIKED])
    kind = values[_KIND]
    event: Any = _CLASSES[kind](**{name: values[column] for name, column in _FIELDS[kind]})
    return LoggedEvent(log_position, values[_RECEIVED], event)
