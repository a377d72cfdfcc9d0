"""The service's log of events, and public files -> an `InteractionLog`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reelseek.recommendation.data.files import check_file
from reelseek.recommendation.data.interactions import Interaction, InteractionLog
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Deletion, Like, Play, VideoEvent

__all__ = ["from_event_log", "from_kuairand", "from_sequences"]

_BATCH = 10_000  # rows of a file
_CONTEXT_OF_EVENTS = (
    *("session", "request_id", "surface", "position", "propensity"),
    *("start_seconds", "end_seconds", "watched_seconds"),
)
_KUAIRAND_COLUMNS = (
    *("user_id", "video_id", "time_ms", "is_click", "is_like", "is_hate", "play_time_ms"),
    *("duration_ms", "tab", "author_id", "tag", "long_view"),
)
_CONTEXT_OF_KUAIRAND = ("tab", "author_id", "tag", "duration_ms", "long_view")


def from_event_log(
    log: EventLog, *, duration_seconds: Callable[[str], float | None] | None = None
) -> InteractionLog:
    """Reads all events about videos that the service's log holds.

    A user who has no pseudonym goes by that of the session. Users who are deleted while this reads
    are left out.

    Args:
        duration_seconds: of a video by its id, None where it is not known; what is watched becomes
            a share by it.

    Raises:
        EventsUnavailable: the log cannot be read.
    """
    found: list[Interaction] = []
    for logged in log.scan():
        event = logged.event
        if isinstance(event, Deletion):
            found = [
                row
                for row in found
                if not (event.is_of(row.user) or event.is_of(row.context.get("session")))
            ]
        elif isinstance(event, VideoEvent):
            found.append(_from_event(event, duration_seconds))
    return InteractionLog.of(found)


def from_sequences(sequences: Sequences) -> InteractionLog:
    """Turns sequences or pairs into choices without times, in the order of each user's items."""
    ids = sequences.items.ids()
    return InteractionLog.of(
        Interaction(user, ids[item])
        for user, history in zip(sequences.users, sequences.histories(), strict=True)
        for item in history
    )


def from_kuairand(path: Path, *, option: str = "events") -> InteractionLog:
    """Reads impressions in KuaiRand's columns (Gao et al., CIKM 2022) from a Parquet file.

    A row becomes an impression, and a click, a play with its share of the video, a like, or a skip
    (`is_hate`) at the same time, as far as it says so.

    Raises:
        ValueError: the file is missing, is no Parquet, or lacks a column.
        ImportError: PyArrow is not installed.
    """
    check_file(option, path)
    return InteractionLog.of(_kuairand_rows(f"{option}={path}", path))


def _from_event(
    event: VideoEvent, duration_seconds: Callable[[str], float | None] | None
) -> Interaction:
    kind = str(event.__struct_config__.tag)
    if isinstance(event, Like) and not event.liked:
        kind = "unlike"
    share = float("nan")
    if isinstance(event, Play) and duration_seconds is not None:
        length = duration_seconds(event.video)
        share = event.watched_seconds / length if length else share
    values = {name: getattr(event, name, None) for name in _CONTEXT_OF_EVENTS}
    return Interaction(
        user=event.user or event.session or "",
        item=event.video,
        time_seconds=event.time_seconds,
        kind=kind,
        watched_share=share,
        context={name: value for name, value in values.items() if value is not None},
    )


def _kuairand_rows(name: str, path: Path) -> Iterator[Interaction]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise ImportError("Parquet files need PyArrow: pip install 'reelseek[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{name}: is no Parquet file") from error
    with file:
        missing = [c for c in _KUAIRAND_COLUMNS if c not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"{name}: lacks the column {missing[0]}; see KuaiRand's description")
        for batch in file.iter_batches(_BATCH, columns=list(_KUAIRAND_COLUMNS)):
            for row in batch.to_pylist():
                yield from _from_impression(row)


def _from_impression(row: dict[str, Any]) -> Iterator[Interaction]:
    duration, played = row["duration_ms"] or 0, row["play_time_ms"] or 0
    share = played / duration if duration > 0 else float("nan")
    kinds = {
        "impression": True,
        "click": row["is_click"],
        "play": played > 0,
        "like": row["is_like"],
        "skip": row["is_hate"],
    }
    context = {name: row[name] for name in _CONTEXT_OF_KUAIRAND}
    for kind, holds in kinds.items():
        if holds:
            yield Interaction(
                user=str(row["user_id"]),
                item=str(row["video_id"]),
                time_seconds=row["time_ms"] / 1000,
                kind=kind,
                watched_share=share if kind == "play" else float("nan"),
                context=context,
            )
