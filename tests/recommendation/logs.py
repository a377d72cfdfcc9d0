"""Logged events, made in memory, and videos of an index that they are about."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reelseek.indexing import IndexReader
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import (
    AnyEvent,
    Click,
    Deletion,
    Impression,
    Like,
    Play,
    Skip,
    sha256_of,
)
from tests.indexing.small_index import D, ids_by_key, make_index, video_of

NOW = 1.78e9
DAY = 86400.0
_ids = itertools.count()
CLASSES = {"click": Click, "play": Play, "skip": Skip, "like": Like, "impression": Impression}


def event(kind: str, user: str, video: str, *, at: float = NOW, **fields) -> AnyEvent:
    """An event with an id of its own; `user` may be "user@session"."""
    name, _, session = user.partition("@")
    if kind == "play":
        fields.setdefault("watched_seconds", 10.0)
    if kind == "impression":
        fields.setdefault("position", 1)
    return CLASSES[kind](
        event_id=f"e{next(_ids)}",
        time_seconds=at,
        user=name or None,
        session=session or None,
        video=video,
        **fields,
    )


def logged(events: Sequence[AnyEvent | Deletion], *, first: int = 1) -> list[LoggedEvent]:
    """As the log gives them, each received when it happened."""
    return [
        LoggedEvent(first + index, each.time_seconds, each) for index, each in enumerate(events)
    ]


def deletion(pseudonym: str, *, at: float = NOW) -> Deletion:
    return Deletion(
        event_id=f"d{next(_ids)}", time_seconds=at, pseudonym_sha256=sha256_of(pseudonym)
    )


def watch(log: EventLog, user: str, videos: Sequence[str], *, start: float | None = None) -> None:
    """Appends clicks of one user, a minute after each other."""
    start = NOW if start is None else start
    log.append([event("click", user, v, at=start + 60 * i) for i, v in enumerate(videos)])


def index_of_axes(folder: Path, axes: Sequence[int], **metadata: Sequence) -> IndexReader:
    """An index of `0.mp4`, `1.mp4`, ... each near one of `D` axes; lists of metadata by name."""
    rng = np.random.default_rng(0)
    videos = []
    for number, axis in enumerate(axes):
        segments = np.eye(D)[[axis]] + 0.15 * rng.normal(size=(1, D))
        values = {name: given[number] for name, given in metadata.items() if given[number]}
        videos.append(video_of(f"{number}.mp4", segments, metadata=values))
    make_index(folder, videos)
    return IndexReader(folder)


def ids_in_order(reader: IndexReader, num: int) -> list[str]:
    ids = ids_by_key(reader)
    return [ids[f"{number}.mp4"] for number in range(num)]
