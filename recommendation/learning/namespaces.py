"""What is counted: for each impression, the keys of its counters.

A counter belongs to the values of some columns, such as a user and a tag. Its parent has fewer of
them; a rate that rests on little is shrunk to that of the parent.
"""

import hashlib
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from reelseek.recommendation.learning.id_table import Key
from reelseek.recommendation.learning.impressions import Impressions

__all__ = [
    "CORE_NAMESPACES",
    "NAMESPACES",
    "Namespace",
    "duration_bins",
    "keys_of",
    "query_key",
]

_HOUR = 1 / 24  # days
_MAY_BE_MISSING = frozenset({"position", "query"})
_POSITION_BOUNDS = np.array([*range(1, 12), 16, 24, 40, 100])
_DURATION_BOUNDS_MS = np.array([5, 10, 18, 30, 60, 90, 120, 180, 240, 400]) * 1e3


@dataclass(frozen=True)
class Namespace:
    """Counters of one kind.

    Attributes:
        columns: whose values make the key; there is none where the position or the query is asked
            for and not known.
        parent: name of the namespace that its rates are shrunk to; "" for the root.
        half_life_days: after which an event counts half.
        smoothing: events with the parent's rate that each counter begins with.
    """

    name: str
    columns: tuple[str, ...]
    parent: str
    half_life_days: float
    smoothing: float


# Parents stand before their children. These need no more than what was shown to whom.
CORE_NAMESPACES = (
    Namespace("all", (), "", 14, 20),
    Namespace("tab", ("tab",), "all", 14, 20),
    Namespace("tab_hour", ("tab", "hour"), "tab", 14, 40),
    Namespace("tab_duration", ("tab", "duration"), "tab", 30, 40),
    Namespace("tag", ("tag",), "all", 30, 40),
    Namespace("tag_tab", ("tag", "tab"), "tab", 30, 40),
    Namespace("tag_duration", ("tag", "duration"), "tag", 30, 40),
    Namespace("author", ("author",), "tag", 30, 20),
    Namespace("video", ("video",), "author", 30, 20),
    Namespace("video_day", ("video",), "author", 1, 20),
    Namespace("video_tab", ("video", "tab"), "video", 30, 20),
    Namespace("user", ("user",), "all", 30, 4),
    Namespace("user_day", ("user",), "user", 1, 4),
    Namespace("user_hour", ("user",), "user", _HOUR, 2),
    Namespace("user_mood", ("user",), "user", _HOUR / 12, 1),
    Namespace("user_tab", ("user", "tab"), "user", 30, 4),
    Namespace("user_tag", ("user", "tag"), "user", 30, 4),
    Namespace("user_author", ("user", "author"), "user", 30, 2),
    Namespace("user_duration", ("user", "duration"), "user", 30, 4),
    Namespace("user_hours", ("user", "quarter"), "user", 30, 4),
)
# What explains a click, but says nothing of the video or the user: where it stood, and what was
# asked. The others learn what is left.
NAMESPACES = (
    *CORE_NAMESPACES,
    Namespace("tab_position", ("tab", "position"), "tab", 30, 40),
    Namespace("query", ("query",), "tab", 30, 20),
    Namespace("query_video", ("query", "video"), "video", 30, 20),
)


def duration_bins(duration_ms: np.ndarray) -> np.ndarray:
    """Returns the number that stands for each duration in keys."""
    return np.digitize(duration_ms, _DURATION_BOUNDS_MS)


def query_key(query: str) -> str:
    """Returns what stands for a query in keys, whatever its case and blanks; "" for none. It is a
    hash of 64 bits, as the model's files shall not say what people asked."""
    words = " ".join(query.casefold().split())
    return hashlib.blake2b(words.encode(), digest_size=8).hexdigest() if words else ""


def keys_of(
    impressions: Impressions, namespaces: tuple[Namespace, ...] = NAMESPACES
) -> list[list[Key | None]]:
    """Returns, for each namespace, the key of each impression; None where there is none."""
    hour = impressions.time_ms // 3_600_000 % 24
    duration = duration_bins(impressions.duration_ms)
    columns = {
        "hour": hour.tolist(),
        "quarter": (hour // 6).tolist(),
        "duration": duration.tolist(),
        "user": impressions.user.tolist(),
        "video": impressions.video.tolist(),
        "author": impressions.author.tolist(),
        "tag": impressions.tag.tolist(),
        "tab": impressions.tab.tolist(),
    }
    if any(_MAY_BE_MISSING.intersection(each.columns) for each in namespaces):
        columns["position"] = np.digitize(impressions.position, _POSITION_BOUNDS).tolist()
        columns["query"] = impressions.query.tolist()
    keys: list[list[Key | None]] = []
    for number, namespace in enumerate(namespaces):
        parts = [columns[name] for name in namespace.columns]
        own: list[Key | None]
        if parts:
            own = list(zip(repeat(number), *parts, strict=False))
            for name in _MAY_BE_MISSING.intersection(namespace.columns):
                own = [
                    key if value else None for key, value in zip(own, columns[name], strict=True)
                ]
        else:
            own = [(number,)] * len(impressions)
        keys.append(own)
    return keys
