"""Parquet files of impressions, a history, and CSV tables -> columns that the learner takes.

The files are those of KuaiRand (Gao et al., CIKM 2022): one row for each impression, with its
outcomes; of each user the videos watched before, and those watched for long.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.recommendation.learning.impressions import (
    HEADS,
    NO_ID,
    History,
    Impressions,
    Outcomes,
    Profiles,
)

__all__ = ["check_table", "read_history", "read_impressions", "read_profiles", "read_video_groups"]

_LABELS = {"long_view": "long_view", "click": "is_click", "like": "is_like"}
_IDS = ("user_id", "video_id", "time_ms", "tab")
_OPTIONAL = ("author_id", "tag", "duration_ms", "upload_dt")
_MAX_VALUES = 64  # of a column of a table; more make no group
_DAY_MS = 86_400_000
_LONG_WATCH_LOG = 5.0  # log(1 + seconds) that counts as 1: two and a half minutes


def check_table(option: str, path: Path) -> None:
    """Raises a ValueError where an option's file cannot be read."""
    if not path.is_file():
        found = "is not a file" if path.exists() else "no such file"
        raise ValueError(f"{option}={path}: {found}; name a file of events")


def read_impressions(option: str, paths: Sequence[Path]) -> tuple[Impressions, Outcomes, int]:
    """Reads events in order of time; of exact repeats (user, video, time), only the first is kept.

    Returns:
        Impressions, their outcomes, and the number of repeats that were dropped.

    Raises:
        ValueError: a file is no Parquet, lacks a column, or holds what is no number.
    """
    parts = [_read_columns(option, path) for path in paths]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    num = len(columns["time_ms"])
    if not num:
        raise ValueError(f"{option}={paths[0]}: holds no events")
    order = np.argsort(columns["time_ms"], kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    triples = np.stack([columns[name].astype(np.int64) for name in _IDS[:3]], axis=1)
    _, kept = np.unique(triples, axis=0, return_index=True)
    kept.sort()
    columns = {name: values[kept] for name, values in columns.items()}
    impressions = Impressions(
        user=columns["user_id"],
        video=columns["video_id"],
        time_ms=columns["time_ms"],
        tab=columns["tab"],
        author=columns["author_id"],
        tag=columns["tag"],
        duration_ms=columns["duration_ms"],
        upload_day=columns["upload_dt"],
        position=np.zeros(len(kept), np.int64),
        query=np.full(len(kept), "", object),
    )
    labels = np.stack([columns[_LABELS[head]] for head in HEADS], axis=1).astype(np.float64)
    seconds = np.maximum(columns["play_time_ms"], 0) / 1000
    watched = np.minimum(np.log1p(seconds) / _LONG_WATCH_LOG, 1.0)
    return impressions, Outcomes(labels, watched), num - len(kept)


def read_history(option: str, path: Path, *, before_ms: int) -> History:
    """Reads what users watched, without users whose history ends after a time.

    Each pair of a user and a video counts once, as a long watch if it ever was one.
    """
    columns = ("user_id", "last_time_ms", "watch_seq", "long_watch_seq")
    rows = _table(option, path, columns)
    users: list[int] = []
    videos: list[int] = []
    is_long: list[bool] = []
    found = (rows[name].to_pylist() for name in columns)
    for user, last_ms, watched, long_watched in zip(*found, strict=True):
        if last_ms >= before_ms:
            continue
        long_videos = set(long_watched or ())
        distinct = sorted(long_videos.union(watched or ()))
        users += [user] * len(distinct)
        videos += distinct
        is_long += [video in long_videos for video in distinct]
    return History(np.array(users, np.int64), np.array(videos, np.int64), np.array(is_long, bool))


def read_profiles(option: str, path: Path, *, key: str) -> Profiles:
    """Reads the columns of a CSV that have few values.

    Args:
        key: the column of ids.
    """
    rows = _read_csv(option, path, key=key)
    names = [name for name in rows[0] if name != key]
    values = {name: dict.fromkeys(row[name] for row in rows) for name in names}
    names = [name for name in names if 1 < len(values[name]) <= _MAX_VALUES]
    position: dict[tuple[str, str], int] = {}
    for name in names:
        for value in sorted(values[name]):
            position[name, value] = len(position)
    codes: dict[object, np.ndarray] = {
        int(row[key]): np.array([position[name, row[name]] for name in names], np.int64)
        for row in rows
    }
    return Profiles(codes, len(names), len(position))


def read_video_groups(option: str, path: Path) -> tuple[dict[object, object], dict[object, object]]:
    """Reads the author and the tag of each video of a CSV."""
    rows = _read_csv(option, path, key="video_id")
    for name in ("author_id", "tag"):
        if name not in rows[0]:
            raise ValueError(f"{option}={path}: has no column {name}")
    authors: dict[object, object] = {int(row["video_id"]): int(row["author_id"]) for row in rows}
    return authors, {int(row["video_id"]): row["tag"] for row in rows}


def _read_csv(option: str, path: Path, *, key: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{option}={path}: is not UTF-8; save it as UTF-8") from error
    if not rows or key not in rows[0]:
        raise ValueError(f"{option}={path}: has no rows with a column {key}")
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{option}={path}: has rows that are longer or shorter than its header")
    return rows


def _read_columns(option: str, path: Path) -> dict[str, np.ndarray]:
    wanted = (*_IDS, *_LABELS.values(), "play_time_ms")
    rows = _table(option, path, wanted, optional=_OPTIONAL)
    num = rows.num_rows
    columns = {name: _numbers(option, path, rows, name=name) for name in wanted}
    names = set(rows.column_names)
    authors = _values(rows, "author_id") if "author_id" in names else [None] * num
    columns["author_id"] = np.array([NO_ID if a is None else int(a) for a in authors], np.int64)
    tags = _values(rows, "tag") if "tag" in names else [None] * num
    columns["tag"] = np.array(["" if tag is None else str(tag) for tag in tags], object)
    durations = _values(rows, "duration_ms") if "duration_ms" in names else [None] * num
    columns["duration_ms"] = np.array([np.nan if d is None else d for d in durations], np.float64)
    days = _values(rows, "upload_dt") if "upload_dt" in names else [None] * num
    dates = np.array(["NaT" if day is None else str(day)[:10] for day in days], "datetime64[D]")
    columns["upload_dt"] = np.where(np.isnat(dates), np.nan, dates.astype(np.int64))
    return columns


def _values(rows: Any, name: str) -> list[Any]:
    return rows[name].to_pylist()


def _numbers(option: str, path: Path, rows: Any, *, name: str) -> np.ndarray:
    values = rows[name].to_pylist()
    if any(isinstance(value, str) or value is None or value != value for value in values):
        raise ValueError(f"{option}={path}: {name} must be a number in each row")
    return np.array(values, np.int64)


def _table(option: str, path: Path, wanted: Sequence[str], *, optional: Sequence[str] = ()) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files need PyArrow: pip install 'reelseek[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
        names = set(file.schema_arrow.names)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"{option}={path}: has no column {missing[0]}")
        return file.read(columns=[*wanted, *(name for name in optional if name in names)])
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{option}={path}: is no Parquet file that can be read") from error
