"""The catalogue of an index, in SQLite: which videos, their segments, times, metadata, outcomes.

A change is one transaction, made after the embeddings it names are safely on disk; a killed run
leaves the changes that were complete and nothing of the others.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_SCHEMA = """
CREATE TABLE IF NOT EXISTS videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    content_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'partial', 'failed')),
    reason TEXT NOT NULL,
    decoder TEXT NOT NULL,
    num_frames INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    metadata TEXT NOT NULL,
    part INTEGER,  -- where the video embedding lies; NULL where the outcome is failed
    row INTEGER
);
CREATE INDEX IF NOT EXISTS videos_by_content ON videos (content_sha256);
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    start_seconds REAL NOT NULL,
    end_seconds REAL NOT NULL,
    part INTEGER NOT NULL,
    row INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS segments_by_video ON segments (video_id);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('revision', 0), ('next_part', 1);
"""

_RECORD_COLUMNS = (
    "id, key, path, size_bytes, modified_ns, content_sha256, outcome, reason, decoder, "
    "num_frames, duration_seconds, metadata, part, row"
)


@dataclass(frozen=True)
class FileStamp:
    """What tells whether a file is still the one that was indexed."""

    size_bytes: int
    modified_ns: int
    content_sha256: str


@dataclass(frozen=True)
class VideoRecord:
    """A video as the catalogue knows it. `id` is never used again for another video or content."""

    id: int
    key: str
    path: str
    stamp: FileStamp
    outcome: str
    reason: str
    decoder: str
    num_frames: int
    duration_seconds: float
    metadata: dict
    location: tuple[int, int] | None


@dataclass(frozen=True)
class NewVideo:
    """A video to be stored.

    Attributes:
        outcome: `ok`, `partial` or `failed`, with its reason (empty for `ok`).
        spans: `(S, 2)` float64, the segments' start and end seconds; S is 0 where it failed.
    """

    key: str
    path: str
    stamp: FileStamp
    outcome: str
    reason: str = ""
    decoder: str = ""
    num_frames: int = 0
    duration_seconds: float = 0.0
    metadata: dict = field(default_factory=dict)
    spans: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))


@dataclass(frozen=True)
class SegmentRecord:
    """A stretch of a video and where its embedding lies."""

    id: int
    video_id: int
    start_seconds: float
    end_seconds: float
    location: tuple[int, int]


class Catalogue:
    """An open catalogue.

    Args:
        path: the SQLite file; made if missing, unless `read_only`.
        read_only: for searching; nothing is written, not even a journal.

    Raises:
        ValueError: the file is missing (when only reading) or is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        try:
            if read_only:
                self._connection = _connect_read_only(path)
            else:
                self._connection = sqlite3.connect(path, timeout=30)
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is missing or damaged ({error}); index again") from error

    def close(self) -> None:
        self._connection.close()

    def records(self) -> dict[str, VideoRecord]:
        """All videos by their key."""
        rows = self._query(f"SELECT {_RECORD_COLUMNS} FROM videos ORDER BY id")
        return {record.key: record for record in map(_record, rows)}

    def videos(self, ids: Sequence[int]) -> dict[int, VideoRecord]:
        """Those of these videos that are still there, by id."""
        rows = self._query_many(f"SELECT {_RECORD_COLUMNS} FROM videos WHERE id IN", ids)
        return {record.id: record for record in map(_record, rows)}

    def video_ids_of_segments(self, segment_ids: Sequence[int]) -> dict[int, int]:
        """The video of each of these segments that is still there."""
        return dict(self._query_many("SELECT id, video_id FROM segments WHERE id IN", segment_ids))

    def segments_of_videos(self, ids: Sequence[int]) -> dict[int, list[SegmentRecord]]:
        """The segments of each of these videos, in order of time."""
        select = "SELECT id, video_id, start_seconds, end_seconds, part, row FROM segments"
        rows = self._query_many(f"{select} WHERE video_id IN", ids)
        by_video: dict[int, list[SegmentRecord]] = {video_id: [] for video_id in ids}
        for segment_id, video_id, start, end, part, row in sorted(rows):
            by_video[video_id].append(SegmentRecord(segment_id, video_id, start, end, (part, row)))
        return by_video

    def embedding_table(self, level: str) -> tuple[np.ndarray, np.ndarray]:
        """All searchable ids of a level, `video` or `moment`, and where their embeddings lie.

        Returns:
            `(n,)` int64 ids and `(n, 2)` int64 parts and rows.
        """
        table = {"video": "videos", "moment": "segments"}[level]
        rows = self._query(f"SELECT id, part, row FROM {table} WHERE part NOT NULL ORDER BY id")
        values = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return values[:, 0], values[:, 1:]

    def used_parts(self) -> set[int]:
        """The parts that hold an embedding of some video or segment."""
        rows = self._query("SELECT part FROM videos UNION SELECT part FROM segments")
        return {part for (part,) in rows if part is not None}

    def counter(self, name: str) -> int:
        """`revision`, the number of changes so far, or `next_part`, the first unused number."""
        return int(self._query("SELECT value FROM counters WHERE name = ?", (name,))[0][0])

    def store(
        self,
        videos: Sequence[NewVideo],
        locations: Sequence[np.ndarray],
        *,
        next_part: int | None = None,
        deleted_keys: Iterable[str] = (),
    ) -> None:
        """Adds and deletes videos in one transaction.

        Args:
            videos: a key that is there already is replaced, and its old id retired.
            locations: of each video, `(1 + S, 2)` int64: part and row of its embedding and of
                those of its S segments; `(0, 2)` where it failed.
            next_part: the new first unused number of a part, where parts were written.
            deleted_keys: to be removed.
        """
        with self._connection:
            self._connection.executemany(
                "DELETE FROM videos WHERE key = ?", [(key,) for key in deleted_keys]
            )
            for video, places in zip(videos, locations, strict=True):
                self._insert(video, places.tolist())
            if next_part is not None:
                self._connection.execute(
                    "UPDATE counters SET value = ? WHERE name = 'next_part'", (next_part,)
                )
            self._count_change()

    def update(
        self, video_id: int, *, key: str, path: str, stamp: FileStamp, metadata: dict
    ) -> None:
        """Changes what is known of a video whose content, and so its embeddings, are the same."""
        with self._connection:
            self._connection.execute(
                "UPDATE videos SET key = ?, path = ?, size_bytes = ?, modified_ns = ?, "
                "content_sha256 = ?, metadata = ? WHERE id = ?",
                (key, path, stamp.size_bytes, stamp.modified_ns, stamp.content_sha256,
                 _to_json(metadata), video_id),
            )  # fmt: skip
            self._count_change()

    def _insert(self, video: NewVideo, locations: list[tuple[int, int]]) -> None:
        assert (video.outcome == "failed") == (len(locations) == 0)
        self._connection.execute("DELETE FROM videos WHERE key = ?", (video.key,))
        part, row = locations[0] if locations else (None, None)
        cursor = self._connection.execute(
            "INSERT INTO videos (key, path, size_bytes, modified_ns, content_sha256, outcome, "
            "reason, decoder, num_frames, duration_seconds, metadata, part, row) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (video.key, video.path, video.stamp.size_bytes, video.stamp.modified_ns,
             video.stamp.content_sha256, video.outcome, video.reason, video.decoder,
             video.num_frames, video.duration_seconds, _to_json(video.metadata), part, row),
        )  # fmt: skip
        segments = zip(video.spans.tolist(), locations[1:], strict=True)
        self._connection.executemany(
            "INSERT INTO segments (video_id, start_seconds, end_seconds, part, row) "
            "VALUES (?, ?, ?, ?, ?)",
            [(cursor.lastrowid, *span, *location) for span, location in segments],
        )

    def _count_change(self) -> None:
        self._connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision'")

    def _query(self, sql: str, values: Sequence = ()) -> list:
        try:
            with closing(self._connection.execute(sql, values)) as cursor:
                return cursor.fetchall()
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._path} is damaged ({error}); index again into a new folder"
            ) from error

    def _query_many(self, sql: str, ids: Sequence[int]) -> list:
        """Runs `sql` with `(?, ?, ...)` behind it, as often as SQLite's limit of values asks."""
        rows = []
        for first in range(0, len(ids), 500):
            some = [int(value) for value in ids[first : first + 500]]
            rows += self._query(f"{sql} ({', '.join('?' * len(some))})", some)
        return rows


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    probe = "SELECT value FROM counters LIMIT 1"
    if path.with_name(f"{path.name}-journal").exists():
        # A run killed in the middle of a change leaves its journal, and only a connection that
        # may write can undo that change.
        with closing(sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=30)) as writable:
            writable.execute(probe).fetchone()
    # Searchers may be shared by a server's threads; SQLite serialises the calls.
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=30, check_same_thread=False)
    connection.execute(probe).fetchone()
    return connection


def _record(row: tuple) -> VideoRecord:
    (video_id, key, path, size_bytes, modified_ns, sha256, outcome, reason, decoder, num_frames,
     duration, metadata, part, part_row) = row  # fmt: skip
    return VideoRecord(
        id=video_id,
        key=key,
        path=path,
        stamp=FileStamp(size_bytes, modified_ns, sha256),
        outcome=outcome,
        reason=reason,
        decoder=decoder,
        num_frames=num_frames,
        duration_seconds=duration,
        metadata=json.loads(metadata),
        location=None if part is None else (part, part_row),
    )


def _to_json(metadata: dict) -> str:
    return json.dumps(metadata, sort_keys=True)
