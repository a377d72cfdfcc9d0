"""The catalogue of an index, in SQLite: which videos, their segments, times, metadata, outcomes,
and what was read or heard in them.

A change is one transaction, made after the embeddings it names are safely on disk; a killed run
leaves the changes that were complete and nothing of the others. It is kept in write-ahead mode, so
that searching does not wait for writing.
"""

import errno
import os
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.sources.identity import make_video_id
from reelseek.indexing.store.atomic import publish_file
from reelseek.indexing.store.texts import (
    TEXTS_COLUMNS,
    TEXTS_TABLE,
    TimedText,
    VideoTexts,
    from_row,
    in_order,
    to_row,
)
from reelseek.text import strict_json

_TIMEOUT_SECONDS = 30  # that one who writes waits for another
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    root TEXT NOT NULL,
    public_id TEXT NOT NULL UNIQUE,
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
    spans BLOB NOT NULL,  -- of the segments: pairs of float64 seconds, little-endian
    frame_times BLOB NOT NULL,  -- of the frames whose embeddings are kept: float64 seconds
    part INTEGER,  -- where the video's embeddings lie: its own, the segments', the frames';
    row INTEGER,   -- NULL where the outcome is failed
    checksum INTEGER NOT NULL,  -- CRC-32 of all of the above
    UNIQUE (root, key)
);
CREATE INDEX IF NOT EXISTS videos_by_content ON videos (content_sha256);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('revision', 0), ('next_part', 1);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
    + TEXTS_TABLE
)

# By what SQLite says of them: Python 3.10 does not pass on the codes.
_DISK_ERRORS = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
}
_FAR = 1 << 32  # beyond all ids that may have been given, where that is no longer known
_COLUMNS = (
    *("key", "root", "public_id", "path"),
    *("size_bytes", "modified_ns", "content_sha256", "outcome", "reason"),
    *("decoder", "num_frames", "duration_seconds", "metadata", "spans", "frame_times"),
    *("part", "row"),
)
_ROW = ", ".join(("id", *_COLUMNS, "checksum"))
_TEXTS_ROW = ", ".join(TEXTS_COLUMNS)


@dataclass(frozen=True)
class FileSignature:
    """What tells whether a file is still the one that was indexed."""

    size_bytes: int
    modified_ns: int
    content_sha256: str


_STAMP = tuple(f.name for f in fields(FileSignature))


def _no_spans() -> np.ndarray:
    return np.empty((0, 2))


def _no_times() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class NewVideo:
    """A video to be stored.

    Attributes:
        key: its path below its root.
        path: where it lies, or lay when it was last seen.
        outcome: `ok`, `partial` or `failed`, with its reason (empty for `ok`).
        spans: `(S, 2)` float64, the segments' start and end seconds; S is 0 where it failed.
        frame_times: `(T,)` float64 seconds, of the frames whose embeddings are kept.
        root: the folder that it belongs to, see `indexing.sources.identity`.
        public_id: what hits call it; made of root and key when it is first stored.
    """

    key: str
    path: str
    signature: FileSignature
    outcome: str
    reason: str = ""
    decoder: str = ""
    num_frames: int = 0
    duration_seconds: float = 0.0
    metadata: dict = field(default_factory=dict)
    spans: np.ndarray = field(default_factory=_no_spans)
    frame_times: np.ndarray = field(default_factory=_no_times)
    root: str = ""
    public_id: str = ""

    @property
    def root_and_key(self) -> tuple[str, str]:
        """Root and key, which no other video has."""
        return self.root, self.key

    @property
    def root_path(self) -> str:
        """The folder that its key is relative to."""
        return self.path.removesuffix(f"/{self.key}") or "/"

    @property
    def num_rows(self) -> int:
        """Embeddings it has: its own, its segments' and its frames'; none where it failed."""
        return 0 if self.outcome == "failed" else 1 + len(self.spans) + len(self.frame_times)


@dataclass(frozen=True)
class VideoRecord(NewVideo):
    """A video as the catalogue knows it.

    Attributes:
        id: never used again for another video or another content.
        location: part and row of its first embedding; None where it failed.
    """

    id: int = -1
    location: tuple[int, int] | None = None


class Catalogue:
    """An open catalogue.

    Args:
        path: the SQLite file; made if missing, unless `read_only`.
        read_only: for searching; the videos are never changed.

    Raises:
        ValueError: the file is missing (when only reading) or is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        if path.is_dir():
            raise ValueError(self._damaged("it is a folder"))
        with self.named_errors():
            if read_only:
                self._connection = _connect_read_only(path)
            else:
                self._connection = sqlite3.connect(path, timeout=_TIMEOUT_SECONDS)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.executescript(_SCHEMA)
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.text_factory = _text

    def close(self) -> None:
        self._connection.close()

    def checkpoint(self) -> None:
        """Brings what SQLite has written ahead into the file and cuts the log off, which a writer
        that stays open would let grow to megabytes; as far as no reader is in the way, and there is
        room. The rest stays in the log, where nothing is lost."""
        with suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.execute(f"PRAGMA busy_timeout = {1000 * _TIMEOUT_SECONDS}")

    def records(self, root: str = "") -> dict[str, VideoRecord]:
        """The videos of one root, by their key."""
        return {record.key: record for record in self.scan() if record.root == root}

    def scan(self, *, after: int = -1) -> Generator[VideoRecord, None, None]:
        """The videos whose id is beyond `after`, in the order of their ids.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        with closing(self._rows(after)) as rows:
            for row in rows:
                yield self._record(row)

    def check_entries(self) -> None:
        """Reads every entry and compares its checksum.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        for row in self._rows():
            self._check(row)

    def videos(self, ids: Sequence[int]) -> dict[int, VideoRecord]:
        """Those of these videos that are still there, by id."""
        records = {}
        for some in _few(ids):
            marks = ", ".join("?" * len(some))
            for row in self._query(f"SELECT {_ROW} FROM videos WHERE id IN ({marks})", some):
                records[row[0]] = self._record(row)
        return records

    def searchable_ids(self) -> np.ndarray:
        """`(n,)` int64, of the videos that have embeddings, in ascending order."""
        rows = self._query("SELECT id FROM videos WHERE part NOT NULL ORDER BY id")
        return np.array(rows, dtype=np.int64).reshape(-1)

    def matching_ids(self, condition: str, values: Sequence) -> np.ndarray:
        """`(n,)` int64, of the searchable videos for which an SQL condition holds, ascending."""
        rows = self._query(
            f"SELECT id FROM videos WHERE part NOT NULL AND ({condition}) ORDER BY id", values
        )
        return np.array(rows, dtype=np.int64).reshape(-1)

    def matching_places(self, condition: str, values: Sequence) -> list[tuple[str, str]]:
        """Root and key of the videos for which an SQL condition holds."""
        return self._query(f"SELECT root, key FROM videos WHERE {condition}", values)

    def same_contents(self, contents: Iterable[str]) -> dict[str, list[tuple[str, str, str]]]:
        """Public id, key and path of the videos that have one of these contents; only of contents
        that several have."""
        expected, found = list(contents), dict[str, list[tuple[str, str, str]]]()
        for first in range(0, len(expected), 500):
            some = expected[first : first + 500]
            for content, *video in self._query(
                "SELECT content_sha256, public_id, key, path FROM videos WHERE part NOT NULL AND "
                f"content_sha256 IN ({', '.join('?' * len(some))}) ORDER BY id",
                some,
            ):
                found.setdefault(content, []).append(tuple(video))
        return {content: videos for content, videos in found.items() if len(videos) > 1}

    def public_ids(self) -> dict[tuple[str, str], str]:
        """What hits call each video, by root and key."""
        return {
            (root, key): public_id
            for root, key, public_id in self._query("SELECT root, key, public_id FROM videos")
        }

    @property
    def connection(self) -> sqlite3.Connection:
        """For those who ask questions of their own, and share it with no other thread."""
        return self._connection

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time, with errors that name the file.

        A statement that is being read holds what the whole connection sees of the file: threads
        whose statements overlap without end would never see what a writer has deleted.
        """
        with self._lock, self.named_errors():
            yield self._connection

    def counter(self, name: str) -> int:
        """`revision`, the number of changes so far, or `next_part`, the first unused number.

        Raises:
            ValueError: the catalogue is damaged.
        """
        rows = self._query("SELECT value FROM counters WHERE name = ?", (name,))
        if not rows or not isinstance(rows[0][0], int):
            raise ValueError(self._damaged(f"the counter {name}"))
        return rows[0][0]

    def raise_counters(self, *, revision: int, next_part: int) -> None:
        """Sets the counters that have fallen below these, or are lost."""
        with self._transaction():
            for name, minimum in (("revision", revision), ("next_part", next_part)):
                self._connection.execute(
                    "INSERT INTO counters VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
                    "WHERE typeof(value) != 'integer' OR value < excluded.value",
                    (name, minimum),
                )

    def store(
        self,
        videos: Sequence[NewVideo],
        locations: Sequence[tuple[int, int] | None],
        *,
        next_part: int | None = None,
        deleted_keys: Iterable[str] = (),
        root: str = "",
    ) -> None:
        """Adds and deletes videos in one transaction.

        Args:
            videos: one whose root and key are there already replaces that and its `public_id`
                stays, while the old `id` is retired.
            locations: of each video's first embedding; None where it failed.
            next_part: the new first unused number of a part, where parts were written.
            deleted_keys: to be removed.
            root: of the deleted keys.
        """
        with self._transaction():
            for key in deleted_keys:
                self._delete(root, key)
            next_id = _next_id(self._connection)
            for number, (video, location) in enumerate(zip(videos, locations, strict=True)):
                named = replace(video, public_id=self._public_id(video))
                self._delete(video.root, video.key)
                self._insert(next_id + number, named, location)
            self._count_change(next_part)

    def update(
        self,
        record: VideoRecord,
        *,
        root: str | None = None,
        key: str | None = None,
        path: str | None = None,
        signature: FileSignature | None = None,
        metadata: dict | None = None,
    ) -> None:
        """Changes what is known of a video whose content, and so its embeddings, are the same."""
        values = _values(record, record.location)
        values["root"] = record.root if root is None else root
        values["key"] = record.key if key is None else key
        values["path"] = record.path if path is None else path
        values["metadata"] = _to_json(record.metadata if metadata is None else metadata)
        signature = signature or record.signature
        values |= {name: getattr(signature, name) for name in _STAMP}
        with self._transaction():
            self._write(record.id, values)
            self._count_change()

    def restore(self, records: Iterable[VideoRecord]) -> None:
        """Puts entries in under the ids that they had in another catalogue."""
        with self._transaction():
            for record in records:
                named = replace(record, public_id=self._public_id(record))
                self._insert(record.id, named, record.location)

    def move_root(self, root: str, path: str) -> None:
        """Notes that a root lies elsewhere now, with all of its videos."""
        with self._transaction():
            for key, record in self.records(root).items():
                moved = replace(record, path=f"{path.rstrip('/')}/{key}")
                self._write(record.id, _values(moved, record.location))
            self._count_change()

    def relocate(
        self, moves: Iterable[tuple[VideoRecord, tuple[int, int]]], *, next_part: int
    ) -> None:
        """Names new places of embeddings, which have been copied there."""
        with self._transaction():
            for record, location in moves:
                self._write(record.id, _values(record, location))
            self._count_change(next_part)

    def texts(self, ids: Sequence[int]) -> dict[int, list[TimedText]]:
        """What was read or heard in these videos, by id and in order of time; videos in which
        nothing was are left out.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        found: dict[int, list[TimedText]] = {}
        for entry in self.text_entries(ids):
            if entry.texts:
                found.setdefault(entry.video_id, []).extend(entry.texts)
        return {video_id: in_order(texts) for video_id, texts in found.items()}

    def text_entries(self, ids: Sequence[int]) -> Iterator[VideoTexts]:
        """The same as it is stored: for each video and each source that was looked at."""
        for row in self._text_rows(ids):
            try:
                yield from_row(row)
            except ValueError as error:
                raise ValueError(self._damaged(error)) from error

    def without_texts(self, source: str) -> list[int]:
        """The ids of the searchable videos in which this source has yet to be looked at."""
        if not self._has_texts():
            return self.searchable_ids().tolist()
        looked_at = "SELECT video_id FROM texts WHERE source = ?"
        return self.matching_ids(f"id NOT IN ({looked_at})", (source,)).tolist()

    def store_texts(
        self, video_id: int, source: str, texts: Sequence[TimedText], *, engine: str
    ) -> None:
        """Keeps what was read or heard in a video, in place of what was before.

        Args:
            source: `ocr` or `speech`, as of each text.
            texts: in any order; none where nothing was found.
            engine: what has read or heard them, with its model.

        Raises:
            ValueError: a text is of another source.
        """
        self.add_texts([VideoTexts(video_id, source, engine, tuple(texts))])

    def add_texts(self, entries: Iterable[VideoTexts]) -> None:
        """Keeps the texts of several videos in one transaction; those of videos that have been
        deleted in the meantime are not kept."""
        marks = ", ".join("?" * len(TEXTS_COLUMNS))
        with self._transaction():
            self._connection.executemany(
                f"INSERT OR REPLACE INTO texts ({_TEXTS_ROW}) SELECT {marks} "
                "WHERE ? IN (SELECT id FROM videos)",
                ((*to_row(entry), entry.video_id) for entry in entries),
            )
            self._count_change()

    def copy_texts(self, source: str) -> int:
        """Gives the texts of a video to those with the same content that have none of this source;
        returns to how many."""
        rows = self._query(
            "SELECT twin.id, min(had.id) FROM videos AS twin "
            "JOIN videos AS had USING (content_sha256) "
            "JOIN texts ON texts.video_id = had.id AND texts.source = ? "
            "WHERE twin.part NOT NULL AND had.part NOT NULL "
            "AND twin.id NOT IN (SELECT video_id FROM texts WHERE source = ?) GROUP BY twin.id",
            (source, source),
        )
        entries = self.text_entries([had for _, had in rows])
        twins = {entry.video_id: entry for entry in entries if entry.source == source}
        copies = [replace(twins[had], video_id=video_id) for video_id, had in rows]
        if copies:
            self.add_texts(copies)
        return len(copies)

    def text_engines(self, source: str) -> dict[int, str]:
        """By the ids of the videos, what has read or heard their texts of this source."""
        if not self._has_texts():
            return {}
        return dict(self._query("SELECT video_id, engine FROM texts WHERE source = ?", (source,)))

    def delete_texts(self, video_id: int, source: str) -> None:
        """Deletes a video's texts of one source: it has yet to be looked at."""
        with self._transaction():
            self._connection.execute(
                "DELETE FROM texts WHERE video_id = ? AND source = ?", (video_id, source)
            )
            self._count_change()

    def text_problems(self) -> list[str]:
        """The videos whose texts are damaged, a line each."""
        return [f"{key}: its {source} texts are damaged" for _, key, source in self._bad_texts()]

    def drop_damaged_texts(self) -> list[str]:
        """Deletes texts whose checksum is wrong, and those of videos that are no more; returns the
        keys of the videos that are to be looked at again."""
        bad = self._bad_texts()
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM texts WHERE rowid = ?", [(rowid,) for rowid, _, _ in bad]
            )
            self._connection.execute(
                "DELETE FROM texts WHERE video_id NOT IN (SELECT id FROM videos)"
            )
            if bad:
                self._count_change()
        return sorted({key for _, key, _ in bad})

    def index_metadata(self, name: str) -> str | None:
        """What `set_index_metadata` has kept under a name."""
        rows = self._query("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def set_index_metadata(self, name: str, value: str) -> None:
        """Keeps a text about the index, for the case that the manifest is lost."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def drop_damaged(self) -> list[str]:
        """Deletes the entries whose checksum is wrong; returns their keys as they stand.

        Raises:
            ValueError: the file as a whole is damaged.
        """
        problems = self.integrity_problems()
        if problems:
            raise ValueError(self._damaged(problems[0]))
        bad = []
        for row in self._rows():
            try:
                self._check(row)
            except ValueError:
                bad.append(row[:2])
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM videos WHERE id = ?", [(video_id,) for video_id, _ in bad]
            )
            self._count_change()
        return [str(key).encode(errors="backslashreplace").decode() for _, key in bad]

    def integrity_problems(self) -> list[str]:
        """What SQLite finds wrong with the file, a line each."""
        try:
            found = [text for (text,) in self._query("PRAGMA integrity_check(10)") if text != "ok"]
        except ValueError as error:
            return [str(error)]
        return [f"{self._path.name}: {' '.join(text.split())}" for text in found]

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Raises what SQLite raises as an error that names the file and the remedy."""
        try:
            yield
        except sqlite3.ProgrammingError:  # our own, such as a connection that has been closed
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._as_named(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self.named_errors(), self._connection:
            yield

    def _delete(self, root: str, key: str) -> None:
        """A video and its texts, if it is there."""
        same, root_and_key = "root = ? AND key = ?", (root, key)
        self._connection.execute(
            f"DELETE FROM texts WHERE video_id IN (SELECT id FROM videos WHERE {same})",
            root_and_key,
        )
        self._connection.execute(f"DELETE FROM videos WHERE {same}", root_and_key)

    def _public_id(self, video: NewVideo) -> str:
        """That of the video which this one replaces; else its own, where no other has it."""
        execute = self._connection.execute
        same = "SELECT public_id FROM videos WHERE root = ? AND key = ?"
        if replaced := execute(same, (video.root, video.key)).fetchone():
            return replaced[0]
        made = (make_video_id(video.root, video.key, number) for number in count())
        for name in chain([video.public_id] if video.public_id else [], made):
            if not execute("SELECT 1 FROM videos WHERE public_id = ?", (name,)).fetchone():
                return name
        raise AssertionError("unreachable")

    def _insert(self, video_id: int, video: NewVideo, location: tuple[int, int] | None) -> None:
        assert (video.outcome == "failed") == (location is None)
        values = (video_id, *_values(video, location).values())
        marks = ", ".join("?" * (len(values) + 1))
        self._connection.execute(
            f"INSERT INTO videos ({_ROW}) VALUES ({marks})", (*values, _checksum(values))
        )

    def _write(self, video_id: int, values: dict) -> None:
        names = ", ".join(f"{name} = ?" for name in (*values, "checksum"))
        self._connection.execute(
            f"UPDATE videos SET {names} WHERE id = ?",
            (*values.values(), _checksum((video_id, *values.values())), video_id),
        )

    def _count_change(self, next_part: int | None = None) -> None:
        self._connection.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision'")
        if next_part is not None:
            self._connection.execute(
                "UPDATE counters SET value = ? WHERE name = 'next_part'", (next_part,)
            )

    def _query(self, sql: str, values: Sequence = ()) -> list:
        with self.alone() as connection, closing(connection.execute(sql, values)) as cursor:
            return cursor.fetchall()

    def _has_texts(self) -> bool:
        """Whether there is such a table: older versions make none, and a reader cannot."""
        return bool(self._query("SELECT 1 FROM sqlite_schema WHERE name = 'texts'"))

    def _text_rows(self, ids: Sequence[int]) -> Iterator[tuple]:
        if not self._has_texts():
            return
        for some in _few(ids):
            marks = ", ".join("?" * len(some))
            yield from self._query(
                f"SELECT {_TEXTS_ROW} FROM texts WHERE video_id IN ({marks}) "
                "ORDER BY video_id, source",
                some,
            )

    def _bad_texts(self) -> list[tuple[int, str, str]]:
        """Rowid, key and source of the texts that are not what was written."""
        if not self._has_texts():
            return []
        bad = []
        key_of = "SELECT key FROM videos WHERE id = video_id"
        sql = f"SELECT rowid, ({key_of}), {_TEXTS_ROW} FROM texts ORDER BY video_id, source"
        with self.named_errors(), closing(self._connection.execute(sql)) as cursor:
            for rowid, key, *row in cursor:
                try:
                    from_row(tuple(row))
                except ValueError:
                    bad.append((rowid, str(key or f"video {row[0]}"), str(row[1])))
        return bad

    def _rows(self, after: int = -1) -> Generator[tuple, None, None]:
        sql = f"SELECT {_ROW} FROM videos WHERE id > ? ORDER BY id"
        with self.named_errors(), closing(self._connection.execute(sql, (after,))) as cursor:
            yield from cursor

    def _check(self, row: tuple) -> None:
        if _checksum(row[:-1]) != row[-1]:
            raise ValueError(self._damaged(f"the entry of video {row[0]}"))

    def _record(self, row: tuple) -> VideoRecord:
        self._check(row)
        named = dict(zip(_COLUMNS, row[1:-1], strict=True))
        part, first_row = named.pop("part"), named.pop("row")
        signature = FileSignature(*(named.pop(name) for name in _STAMP))
        named["metadata"] = strict_json.loads(named["metadata"])
        named["spans"] = np.frombuffer(named["spans"], "<f8").reshape(-1, 2)
        named["frame_times"] = np.frombuffer(named["frame_times"], "<f8")
        location = None if part is None else (part, first_row)
        return VideoRecord(id=row[0], location=location, signature=signature, **named)

    def _as_named(self, error: Exception) -> Exception:
        """What SQLite says, as what the system would say where it is the disk's fault."""
        number = _DISK_ERRORS.get(str(error))
        if number is not None:
            return OSError(number, os.strerror(number), str(self._path))
        if "locked" in str(error):
            return ValueError(f"{self._path}: another program holds it locked; close that first")
        return ValueError(self._damaged(error))

    def _damaged(self, what: object) -> str:
        said = " ".join(str(what).split())
        return (
            f"{self._path} is missing or damaged ({said}); run python -m indexing.repair index=DIR"
        )


def rebuild_catalogue(path: Path, *, next_part: int) -> int:
    """Makes a catalogue anew of the entries that can still be read; returns how many.

    Args:
        next_part: a number that no part of the embeddings has had.
    """
    temporary = path.with_name(f"{path.name}.rebuilt")
    for stale in path.parent.glob(f"{temporary.name}*"):
        stale.unlink()
    rows, texts, facts, next_id, revision = _salvage(path)
    made = Catalogue(temporary)
    marks = ", ".join("?" * (len(_COLUMNS) + 2))
    with made.connection as connection:
        connection.executemany(f"INSERT OR IGNORE INTO videos ({_ROW}) VALUES ({marks})", rows)
        marks = ", ".join("?" * len(TEXTS_COLUMNS))
        connection.executemany(
            f"INSERT OR IGNORE INTO texts ({_TEXTS_ROW}) VALUES ({marks})", texts
        )
        connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)
        connection.execute("DELETE FROM sqlite_sequence")
        connection.execute("INSERT INTO sqlite_sequence VALUES ('videos', ?)", (next_id - 1,))
    made.raise_counters(revision=revision + 1, next_part=next_part)
    made.close()
    replace_catalogue(path, temporary)
    return len(rows)


def replace_catalogue(path: Path, made: Path) -> None:
    """Puts a catalogue that was made beside another, and closed, in its place."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    def move(fresh: Path) -> None:
        made.rename(fresh)

    publish_file(path, move)


def _salvage(path: Path) -> tuple[list[tuple], list[tuple], list[tuple], int, int]:
    """What a damaged catalogue still says: entries, texts, facts, the next id and the revision.

    A copy is read, in which the schema is replaced by what it should be. The entries are read from
    either end as far as that goes, since a damaged page stops a scan.
    """
    copy = path.with_name(f"{path.name}.rebuilt.damaged")
    for suffix in ("", "-wal"):
        if path.with_name(path.name + suffix).is_file():
            shutil.copyfile(path.with_name(path.name + suffix), f"{copy}{suffix}")

    def read(sql: str) -> list[tuple]:
        found = []
        try:
            with closing(_connect_to_damaged(copy)) as damaged:
                for row in damaged.execute(sql):
                    found.append(row)  # as far as it goes
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            pass
        return found

    try:
        _mend_schema(copy)
        ascending = read(f"SELECT {_ROW} FROM videos ORDER BY id ASC")
        descending = read(f"SELECT {_ROW} FROM videos ORDER BY id DESC")
        rows = {row[0]: row for row in (*ascending, *descending)}
        last_id = max(rows, default=0)
        sequence = read("SELECT seq FROM sqlite_sequence WHERE name = 'videos'")
        known = sequence and isinstance(sequence[0][0], int) and sequence[0][0] >= last_id
        next_id = (sequence[0][0] if known else last_id + _FAR) + 1
        revision = read("SELECT value FROM counters WHERE name = 'revision'")
        return (
            [rows[number] for number in sorted(rows)],
            [
                *read(f"SELECT {_TEXTS_ROW} FROM texts ORDER BY rowid ASC"),
                *read(f"SELECT {_TEXTS_ROW} FROM texts ORDER BY rowid DESC"),
            ],
            read("SELECT name, value FROM facts"),
            next_id,
            revision[0][0] if revision and isinstance(revision[0][0], int) else 0,
        )
    finally:
        for file in copy.parent.glob(f"{copy.name}*"):
            file.unlink()


def _mend_schema(path: Path) -> None:
    """Writes into a database what its tables and indexes should be."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(_SCHEMA)
        expected = fresh.execute("SELECT type, tbl_name, sql, name FROM sqlite_schema").fetchall()
    try:
        with closing(_connect_to_damaged(path)) as damaged, damaged:
            damaged.executemany(
                "UPDATE sqlite_schema SET type = ?, tbl_name = ?, sql = ? WHERE name = ?", expected
            )
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return  # then it is read as it is


def _connect_to_damaged(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_TIMEOUT_SECONDS)
    connection.text_factory = _text
    connection.execute("PRAGMA writable_schema = ON")  # also passes over what is wrong in it
    return connection


def _text(data: bytes) -> str:
    """Text that is no longer UTF-8 is still read, for its entry's checksum to tell."""
    return data.decode(errors="surrogateescape")


def _few(ids: Sequence[int]) -> Iterator[list[int]]:
    """As many at once as SQLite takes values in a statement."""
    for first in range(0, len(ids), 500):
        yield [int(value) for value in ids[first : first + 500]]


def _next_id(connection: sqlite3.Connection) -> int:
    """One that no video has had."""
    (last,) = connection.execute(
        "SELECT max(coalesce((SELECT max(id) FROM videos), 0), "
        "coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'videos'), 0))"
    ).fetchone()
    return last + 1


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    # Searchers may be shared by a server's threads; SQLite serialises the calls.
    options: Any = {"uri": True, "timeout": _TIMEOUT_SECONDS, "check_same_thread": False}
    connection = sqlite3.connect(f"{uri}?mode=ro", **options)
    try:
        connection.execute("SELECT value FROM counters LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if not path.is_file() or (log.exists() and log.stat().st_size):
            raise
        # On a disk that cannot be written to there is no place for the write-ahead log's index,
        # and no one who could change the file either.
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", **options)
        connection.execute("SELECT value FROM counters LIMIT 1").fetchone()
    return connection


def _values(video: NewVideo, location: tuple[int, int] | None) -> dict:
    part, row = location or (None, None)
    return {
        "key": video.key,
        "root": video.root,
        "public_id": video.public_id,
        "path": video.path,
        "size_bytes": video.signature.size_bytes,
        "modified_ns": video.signature.modified_ns,
        "content_sha256": video.signature.content_sha256,
        "outcome": video.outcome,
        "reason": video.reason,
        "decoder": video.decoder,
        "num_frames": video.num_frames,
        "duration_seconds": float(video.duration_seconds),
        "metadata": _to_json(video.metadata),
        "spans": np.ascontiguousarray(video.spans, "<f8").tobytes(),
        "frame_times": np.ascontiguousarray(video.frame_times, "<f8").tobytes(),
        "part": part,
        "row": row,
    }


def _checksum(values: Iterable) -> int:
    pieces: list[bytes] = []
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        pieces += (b"|%d|" % len(data), data)
    return zlib.crc32(b"".join(pieces))


def _to_json(metadata: dict) -> str:
    return strict_json.dumps(metadata, sort_keys=True)
