"""The catalogue of an index, in SQLite: its videos, their segments, times, metadata and outcomes,
and the texts that were read or heard in them.

Each change is one transaction, made after the embeddings that it names are safely on disk: a killed
run leaves its complete changes and nothing of the others.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.store.database import marks
from reelseek.indexing.store.edits import EDIT_TABLES, EditTables, changed_metadata
from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.metadata import metadata_fields
from reelseek.indexing.store.text_table import TextTable
from reelseek.indexing.store.texts import TEXTS_TABLE
from reelseek.indexing.store.videos import (
    VIDEOS_COLUMNS,
    VIDEOS_TABLE,
    NewVideo,
    VideoRecord,
    from_row,
    is_whole,
    to_row,
)

SCHEMA = f"""
{VIDEOS_TABLE}
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('revision', 0), ('next_part', 1);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
{TEXTS_TABLE}
{EDIT_TABLES}
"""
_AT_ONCE = 1000
_CACHED_RECORDS = 16_384  # of a catalogue that is only read: searches meet the same videos again
_ROW = ", ".join(VIDEOS_COLUMNS)
_BY_CONTENT = f"SELECT {_ROW} FROM videos WHERE part NOT NULL AND content_sha256 IN ({{marks}})"


class Catalogue(TextTable, EditTables):
    """An open catalogue.

    Args:
        path: the SQLite file; made if missing, unless `read_only`.
        read_only: for searching; refuses all changes.

    Raises:
        ValueError: the file is missing (when only reading) or is damaged.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(path, schema=SCHEMA, read_only=read_only)
        self._parse = lru_cache(_CACHED_RECORDS)(from_row) if read_only else from_row
        self._is_read_only = read_only
        self._known: tuple[int, dict[int, VideoRecord]] = (-1, {})

    def records(self, root: str = "") -> dict[str, VideoRecord]:
        """Returns the videos of one root, by key."""
        return {record.key: record for record in self.scan() if record.root == root}

    def scan(self, *, after: int = -1) -> Generator[VideoRecord, None, None]:
        """Yields the videos whose id is greater than `after`, in the order of their ids.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        with closing(self._rows(after)) as rows:
            for row in rows:
                yield self._record(row)

    def check_entries(self) -> None:
        """Compares the checksum of every entry.

        Raises:
            ValueError: the catalogue or an entry of it is damaged.
        """
        for row in self._rows():
            if not is_whole(row):
                self._record(row)  # raises

    def videos(self, ids: Sequence[int]) -> dict[int, VideoRecord]:
        """Returns those of these videos that exist, by id."""
        ids = [int(number) for number in ids]
        known = self._known_records() if self._is_read_only else {}
        sql = f"SELECT {_ROW} FROM videos WHERE id IN ({{marks}})"
        unknown = [number for number in ids if number not in known]
        known.update((row[0], self._record(row)) for row in self._query_in(sql, unknown))
        return {number: known[number] for number in ids if number in known}

    def by_public_id(self, public_ids: Iterable[str]) -> dict[str, VideoRecord]:
        """Returns those of these videos that exist, by the id that hits have."""
        sql = f"SELECT {_ROW} FROM videos WHERE public_id IN ({{marks}})"
        records = map(self._record, self._query_in(sql, list(public_ids)))
        return {record.public_id: record for record in records}

    def of_contents(self, contents: Iterable[str]) -> dict[str, list[VideoRecord]]:
        """Returns the searchable videos with each of these contents, in the order of their ids."""
        found: dict[str, list[VideoRecord]] = {}
        for row in self._query_in(f"{_BY_CONTENT} ORDER BY id", list(contents)):
            record = self._record(row)
            found.setdefault(record.signature.content_sha256, []).append(record)
        return found

    def in_public_order(self) -> Iterator[tuple[str, int]]:
        """Yields public id and id of each searchable video, by public id."""
        sql = (
            "SELECT public_id, id FROM videos WHERE part NOT NULL AND public_id > ? "
            f"ORDER BY public_id LIMIT {_AT_ONCE}"
        )
        last, rows = "", [("", 0)] * _AT_ONCE
        while len(rows) == _AT_ONCE:
            rows = self._query(sql, (last,))
            yield from rows
            last = rows[-1][0] if rows else ""

    def names(self) -> list[tuple[str, str, int]]:
        """Returns key, public id and id of every video."""
        return self._query("SELECT key, public_id, id FROM videos")

    def metadata_fields(self) -> set[str]:
        """Returns the names in the videos' metadata, which filters may use as fields."""
        with self.alone() as connection:
            return metadata_fields(connection)

    def text_inputs(self) -> Iterator[tuple[int, str, str]]:
        """Yields id, key and metadata, as stored, of each searchable video, ascending: with
        `text_checksums`, all that its documents in a lexical index are made from."""
        return self._stream("SELECT id, key, metadata FROM videos WHERE part NOT NULL ORDER BY id")

    def searchable_ids(self) -> np.ndarray:
        """Returns `(n,)` int64, the ids of the videos that have embeddings, ascending."""
        return self.matching_ids("1", ())

    def matching_ids(self, condition: str, values: Sequence) -> np.ndarray:
        """Returns `(n,)` int64, the ids of the searchable videos for which an SQL condition holds,
        ascending."""
        rows = self._query(
            f"SELECT id FROM videos WHERE part NOT NULL AND ({condition}) ORDER BY id", values
        )
        return np.array(rows, dtype=np.int64).reshape(-1)

    def matching(self, condition: str, values: Sequence) -> list[VideoRecord]:
        """Returns the videos for which an SQL condition holds, also those that failed."""
        rows = self._query(f"SELECT {_ROW} FROM videos WHERE {condition} ORDER BY id", values)
        return [self._record(row) for row in rows]

    def ids_by_name(self) -> dict[str, list[int]]:
        """Returns the ids of the videos with each key, which several roots may share, and each
        public id."""
        found: dict[str, list[int]] = {}
        for key, public_id, video_id in self.names():
            for name in {key, public_id}:
                found.setdefault(name, []).append(video_id)
        return found

    def has_content(self, start: str) -> bool:
        """Whether a searchable video has a content whose hash begins like this."""
        condition = "content_sha256 >= ? AND content_sha256 < ?"
        return len(self.matching_ids(condition, (start, f"{start}g"))) > 0

    def counter(self, name: str) -> int:
        """Returns `revision`, the number of changes so far, or `next_part`, the first unused
        number.

        Raises:
            ValueError: the catalogue is damaged.
        """
        rows = self._query("SELECT value FROM counters WHERE name = ?", (name,))
        if not rows or not isinstance(rows[0][0], int):
            raise ValueError(self._damaged(f"the counter {name}"))
        return rows[0][0]

    def raise_counters(self, *, revision: int, next_part: int) -> None:
        """Sets the counters that are lower than these, or lost."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO counters VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value "
                "WHERE typeof(value) != 'integer' OR value < excluded.value",
                [("revision", revision), ("next_part", next_part)],
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

        A video with the root and key of a stored one replaces it: `public_id` stays, and the old
        `id` is retired.

        Args:
            locations: of each video's first embedding; None where it failed.
            next_part: the new first unused number of a part, where parts were written.
            deleted_keys: of the videos to delete.
            root: of the deleted keys.
        """
        with self._transaction():
            for key in deleted_keys:
                self._delete(root, key)
            next_id = self._next_id()
            for number, (video, location) in enumerate(zip(videos, locations, strict=True)):
                named = replace(video, public_id=self._public_id(video))
                self._delete(video.root, video.key)
                self._connection.execute(
                    f"INSERT INTO videos ({_ROW}) VALUES ({marks(len(VIDEOS_COLUMNS))})",
                    to_row(next_id + number, named, location),
                )
            self._count_change(next_part)

    def update(self, record: VideoRecord, **changes: Any) -> None:
        """Changes fields of a video whose content, and so its embeddings, are the same.

        Args:
            changes: new values of `root`, `key`, `path`, `signature` or `metadata`.
        """
        self._write([replace(record, **changes)])

    def exclude(self, records: Iterable[VideoRecord]) -> None:
        """Deletes videos, and notes that runs of the service leave them out from now on."""
        with self._transaction():
            for record in records:
                self._delete(record.root, record.key)
                self._connection.execute(
                    "INSERT OR REPLACE INTO excluded VALUES (?, ?, ?)",
                    (record.root, record.key, record.path),
                )
                self._connection.execute(
                    "DELETE FROM edits WHERE public_id = ?", (record.public_id,)
                )
            self._count_change()

    def edit(self, record: VideoRecord, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes metadata of a video so that they prevail over those of a list; returns all of
        its metadata.

        Args:
            changes: new values; None removes one.
        """
        metadata = changed_metadata(record.metadata, changes)
        with self._transaction():
            self._add_edit(record.public_id, changes)
            self._write_rows([replace(record, metadata=metadata)])
            self._count_change()
        return metadata

    def move_root(self, root: str, path: str) -> None:
        """Changes the path of a root and of all its videos."""
        start = f"{path.rstrip('/')}/"
        with self._transaction():
            self._write_rows(
                replace(record, path=f"{start}{key}") for key, record in self.records(root).items()
            )
            self._connection.execute(
                "UPDATE excluded SET path = ? || key WHERE root = ?", (start, root)
            )
            self._count_change()

    def relocate(
        self, moves: Iterable[tuple[VideoRecord, tuple[int, int]]], *, next_part: int
    ) -> None:
        """Changes the location of embeddings that have been copied there."""
        self._write((replace(record, location=to) for record, to in moves), next_part=next_part)

    def index_metadata(self, name: str) -> str | None:
        """Returns the text that `set_index_metadata` stored under a name."""
        rows = self._query("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def all_index_metadata(self) -> dict[str, str]:
        """Returns all texts that `set_index_metadata` stored, by name."""
        return dict(self._query("SELECT name, value FROM facts"))

    def set_index_metadata(self, name: str, value: str) -> None:
        """Stores a text about the index, which outlives a lost manifest."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def public_ids(self) -> dict[tuple[str, str], str]:
        """Returns the id that hits have of each video, by root and key."""
        rows = self._query("SELECT root, key, public_id FROM videos")
        return {(root, key): public_id for root, key, public_id in rows}

    def count_vectors(self) -> dict[str, int]:
        """Returns the number of searchable videos and segments, by level."""
        sql = "SELECT count(*), coalesce(sum(length(spans)), 0) FROM videos WHERE part NOT NULL"
        ((videos, span_bytes),) = self._query(sql)
        return {"video": videos, "moment": span_bytes // 16}

    def public_id_of(self, root: str, key: str) -> str | None:
        """Returns the id that hits have of the video with this root and key, if it exists."""
        rows = self._query("SELECT public_id FROM videos WHERE root = ? AND key = ?", (root, key))
        return rows[0][0] if rows else None

    def drop_damaged(self) -> list[str]:
        """Deletes the entries whose checksum is wrong; returns their keys as they stand.

        Raises:
            ValueError: the file as a whole is damaged.
        """
        problems = self.integrity_problems()
        if problems:
            raise ValueError(self._damaged(problems[0]))
        bad = [row[:2] for row in self._rows() if not is_whole(row)]
        with self._transaction():
            self._connection.executemany(
                "DELETE FROM videos WHERE id = ?", [(video_id,) for video_id, _ in bad]
            )
            self._count_change()
        return [str(key).encode(errors="backslashreplace").decode() for _, key in bad]

    def _write(self, records: Iterable[VideoRecord], *, next_part: int | None = None) -> None:
        with self._transaction():
            self._write_rows(records)
            self._count_change(next_part)

    def _write_rows(self, records: Iterable[VideoRecord]) -> None:
        sets = ", ".join(f"{name} = ?" for name in VIDEOS_COLUMNS)
        rows = ((*to_row(r.id, r, r.location), r.id) for r in records)
        self._connection.executemany(f"UPDATE videos SET {sets} WHERE id = ?", rows)

    def _delete(self, root: str, key: str) -> None:
        """Deletes a video and its texts, if it exists."""
        same, root_and_key = "root = ? AND key = ?", (root, key)
        self._connection.execute(
            f"DELETE FROM texts WHERE video_id IN (SELECT id FROM videos WHERE {same})",
            root_and_key,
        )
        self._connection.execute(f"DELETE FROM videos WHERE {same}", root_and_key)

    def _next_id(self) -> int:
        """Returns an id that no video has had."""
        (last,) = self._connection.execute(
            "SELECT max(coalesce((SELECT max(id) FROM videos), 0), "
            "coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'videos'), 0))"
        ).fetchone()
        return last + 1

    def _public_id(self, video: NewVideo) -> str:
        """Returns the public id of the video that this one replaces, else its own, where no other
        video has it."""
        execute = self._connection.execute
        same = "SELECT public_id FROM videos WHERE root = ? AND key = ?"
        if replaced := execute(same, (video.root, video.key)).fetchone():
            return replaced[0]
        made = (make_video_id(video.root, video.key, number) for number in count())
        for name in chain([video.public_id] if video.public_id else [], made):
            if not execute("SELECT 1 FROM videos WHERE public_id = ?", (name,)).fetchone():
                return name
        raise AssertionError("unreachable")

    def _rows(self, after: int = -1) -> Generator[tuple, None, None]:
        return self._stream(f"SELECT {_ROW} FROM videos WHERE id > ? ORDER BY id", (after,))

    def _known_records(self) -> dict[int, VideoRecord]:
        """Returns the records that were read since the last change. Each change raises the
        revision, so that none of them is another by now."""
        revision = self.counter("revision")
        known_at, known = self._known
        if known_at != revision or len(known) > _CACHED_RECORDS:
            known = {}
            self._known = revision, known
        return known

    def _record(self, row: tuple) -> VideoRecord:
        try:
            return self._parse(row)
        except ValueError as error:
            raise ValueError(self._damaged(error)) from error
