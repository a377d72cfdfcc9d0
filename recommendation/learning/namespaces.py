"""What is counted: for each impression, the keys of its counters.

A counter belongs to the values of some columns, such as a user and a tag. Its parent has fewer of
them; a rate that rests on little is shrunk to that of the parent.
"""

from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.learning.id_table import Key
from reelseek.recommendation.learning.impressions import Impressions

__all__ = ["NAMESPACES", "Namespace", "duration_bins", "keys_of"]

_HOUR = 1 / 24  # days
_DURATION_BOUNDS_MS = np.array([5, 10, 18, 30, 60, 90, 120, 180, 240, 400]) * 1e3


@dataclass(frozen=True)
class Namespace:
    """Counters of one kind.

    Attributes:
        columns: whose values make the key.
        parent: name of the namespace that its rates are shrunk to; "" for the root.
        half_life_days: after which an event counts half.
        smoothing: events with the parent's rate that each counter begins with.
    """

    name: str
    columns: tuple[str, ...]
    parent: str
    half_life_days: float
    smoothing: float


# Parents stand before their children.
NAMESPACES = (
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


def duration_bins(duration_ms: np.ndarray) -> np.ndarray:
    """Returns the number that stands for each duration in keys."""
    return np.digitize(duration_ms, _DURATION_BOUNDS_MS)


def keys_of(
    impressions: Impressions, namespaces: tuple[Namespace, ...] = NAMESPACES
) -> list[list[Key]]:
    """Returns, for each namespace, the key of each impression."""
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
    keys: list[list[Key]] = []
    for number, namespace in enumerate(namespaces):
        parts = [columns[name] for name in namespace.columns]
        keys.append([(number, *key) for key in zip(*parts, strict=True)])
        if not parts:
            keys[-1] = [(number,)] * len(impressions)
    return keys
