"""Impressions and their outcomes, as columns.

What predicts and what is learned from are two types, so that no prediction can see an outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

__all__ = ["HEADS", "NO_ID", "History", "Impressions", "Outcomes", "Profiles", "concatenate"]

HEADS = ("long_view", "click", "like")  # what is predicted, in the order of all arrays of heads
NO_ID = -1  # stands for an author or a tag that is not known

_ColumnsT = TypeVar("_ColumnsT", bound="_Columns")


@dataclass(frozen=True)
class _Columns:
    """Columns of the same length."""

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns must have one length, got {lengths}")

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def take(self: _ColumnsT, index: np.ndarray | slice) -> _ColumnsT:
        """Returns the rows that a mask, indices or a slice select."""
        taken = object.__new__(type(self))  # their lengths need no second look
        vars(taken).update({name: column[index] for name, column in vars(self).items()})
        return taken


@dataclass(frozen=True)
class Impressions(_Columns):
    """What is known when a video is shown; each column is `(n,)`.

    Attributes:
        user, video, author, tag, tab: ids, int64 or str; `NO_ID` where one is not known. The tab is
            the place in the app.
        time_ms: Unix time, int64.
        duration_ms: of the video, float64; NaN where it is not known.
        upload_day: days since 1970-01-01, float64; NaN where it is not known.
        position: in the list, from 1, int64; 0 where it is not known.
        query: that was answered, see `query_key`; "" where it is not known.
    """

    user: np.ndarray
    video: np.ndarray
    time_ms: np.ndarray
    tab: np.ndarray
    author: np.ndarray
    tag: np.ndarray
    duration_ms: np.ndarray
    upload_day: np.ndarray
    position: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class Outcomes(_Columns):
    """What is known after an impression.

    Attributes:
        labels: `(n, len(HEADS))` float64, 0 or 1.
        watched: `(n,)` float64, a bounded measure of the seconds watched, in [0, 1].
    """

    labels: np.ndarray
    watched: np.ndarray


@dataclass(frozen=True)
class History:
    """What users watched before the first impression.

    Attributes:
        user, video: `(n,)` ids, each pair once.
        is_long: `(n,)` bool, whether the user watched the video for long.
    """

    user: np.ndarray
    video: np.ndarray
    is_long: np.ndarray


@dataclass(frozen=True)
class Profiles:
    """A table of users or videos: columns with few values, as numbers from 0.

    Attributes:
        codes: id -> `(num_columns,)` positions among `num_values` of all columns together.
        num_columns, num_values: of the table.
    """

    codes: dict[object, np.ndarray]
    num_columns: int
    num_values: int

    @classmethod
    def empty(cls) -> "Profiles":
        return cls({}, 0, 0)


def concatenate(parts: Sequence[_ColumnsT]) -> _ColumnsT:
    """Joins columns; there must be at least one part."""
    kind = type(parts[0])
    return kind(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind))
    )
