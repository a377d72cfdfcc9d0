"""A damaged catalogue -> a new one with the entries that can still be read."""

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from reelseek.indexing.store.atomic import publish_file
from reelseek.indexing.store.catalogue import SCHEMA
from reelseek.indexing.store.database import connect_to_damaged, marks
from reelseek.indexing.store.edits import EDITS_COLUMNS, EXCLUDED_COLUMNS
from reelseek.indexing.store.texts import TEXTS_COLUMNS
from reelseek.indexing.store.videos import VIDEOS_COLUMNS

_ID_GAP = 1 << 32  # more ids than were ever given, where the last one is no longer known
_TABLES = {
    "videos": VIDEOS_COLUMNS,
    "texts": TEXTS_COLUMNS,
    "facts": ("name", "value"),
    "excluded": EXCLUDED_COLUMNS,
    "edits": EDITS_COLUMNS,
}


def rebuild_catalogue(path: Path, *, next_part: int) -> int:
    """Replaces a catalogue by one of the entries that can still be read; returns their number.

    Args:
        next_part: a number that no part of the embeddings has had.
    """
    temporary = path.with_name(f"{path.name}.rebuilt")
    for stale in path.parent.glob(f"{temporary.name}*"):
        stale.unlink()
    rows, next_id, revision = _salvage(path)
    with closing(sqlite3.connect(temporary)) as made, made:
        made.executescript(SCHEMA)
        for table, columns in _TABLES.items():
            insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)})"
            made.executemany(f"{insert} VALUES ({marks(len(columns))})", rows[table])
        made.execute("DELETE FROM sqlite_sequence")
        made.execute("INSERT INTO sqlite_sequence VALUES ('videos', ?)", (next_id - 1,))
        made.executemany(
            "UPDATE counters SET value = ? WHERE name = ?",
            [(revision + 1, "revision"), (next_part, "next_part")],
        )
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    publish_file(path, temporary.rename)
    return len(rows["videos"])


def _salvage(path: Path) -> tuple[dict[str, list[tuple]], int, int]:
    """Returns the rows of each table that can be read, the next id and the revision.

    Reads a copy, whose schema is replaced by the right one. Reads each table from both ends as far
    as that goes, since a damaged page stops a scan.
    """
    copy = path.with_name(f"{path.name}.rebuilt.damaged")
    for suffix in ("", "-wal"):
        if path.with_name(path.name + suffix).is_file():
            shutil.copyfile(path.with_name(path.name + suffix), f"{copy}{suffix}")
    try:
        _mend_schema(copy)
        rows = {}
        for table, columns in _TABLES.items():
            select = f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid"
            found = dict.fromkeys([*_read(copy, f"{select} ASC"), *_read(copy, f"{select} DESC")])
            rows[table] = list(found)
        last_id = max((row[0] for row in rows["videos"]), default=0)
        sequence = _number(
            copy, "SELECT seq FROM sqlite_sequence WHERE name = 'videos'", minimum=last_id
        )
        next_id = (last_id + _ID_GAP if sequence is None else sequence) + 1
        revision = _number(copy, "SELECT value FROM counters WHERE name = 'revision'", minimum=0)
        return rows, next_id, revision or 0
    finally:
        for file in copy.parent.glob(f"{copy.name}*"):
            file.unlink()


def _read(path: Path, sql: str) -> list[tuple]:
    """Returns the rows up to the first damaged page."""
    found = []
    with (
        suppress(sqlite3.DatabaseError, UnicodeDecodeError),
        closing(connect_to_damaged(path)) as damaged,
    ):
        for row in damaged.execute(sql):
            found.append(row)
    return found


def _number(path: Path, sql: str, *, minimum: int) -> int | None:
    rows = _read(path, sql)
    return rows[0][0] if rows and isinstance(rows[0][0], int) and rows[0][0] >= minimum else None


def _mend_schema(path: Path) -> None:
    """Overwrites a database's schema with the right tables and indexes."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        expected = fresh.execute("SELECT type, tbl_name, sql, name FROM sqlite_schema").fetchall()
    with (
        suppress(sqlite3.DatabaseError, UnicodeDecodeError),  # then it is read as it is
        closing(connect_to_damaged(path)) as damaged,
        damaged,
    ):
        damaged.executemany(
            "UPDATE sqlite_schema SET type = ?, tbl_name = ?, sql = ? WHERE name = ?", expected
        )
