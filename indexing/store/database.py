"""An open SQLite file whose errors name the file and the remedy.

The file is in write-ahead mode: searches do not wait for a writer, and a killed writer leaves whole
transactions only.
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 30  # a writer waits for another this long
_VALUES_PER_STATEMENT = 500  # older SQLite accepts 999

# Errors of the disk, by SQLite's text: Python 3.10 does not pass on the codes.
_DISK_ERRORS = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
}


class Database:
    """A connection to one SQLite file.

    Args:
        path: of the file; made if missing, unless `read_only`.
        schema: SQL that makes missing tables.

    Raises:
        ValueError: the file is missing (when only reading) or is damaged.
    """

    def __init__(self, path: Path, *, schema: str, read_only: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        if path.is_dir():
            raise ValueError(self._damaged("it is a folder"))
        with self._named_errors():
            if read_only:
                self._connection = _connect_read_only(path)
            else:
                self._connection = sqlite3.connect(path, timeout=TIMEOUT_SECONDS)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.executescript(schema)
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.text_factory = decode

    def close(self) -> None:
        self._connection.close()

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the file and truncates it, which keeps the log of a
        long-lived writer small. Does as much as readers and disk space allow; the rest stays in the
        log."""
        with suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.execute(f"PRAGMA busy_timeout = {1000 * TIMEOUT_SECONDS}")

    def integrity_problems(self) -> list[str]:
        """Returns the faults that SQLite finds in the file, a line each."""
        try:
            found = [text for (text,) in self._query("PRAGMA integrity_check(10)") if text != "ok"]
        except ValueError as error:
            return [str(error)]
        return [f"{self._path.name}: {' '.join(text.split())}" for text in found]

    def _query(self, sql: str, values: Sequence = ()) -> list:
        with self.alone() as connection, closing(connection.execute(sql, values)) as cursor:
            return cursor.fetchall()

    def _query_in(self, sql: str, values: Sequence) -> Iterator[tuple]:
        """Runs a query whose `{marks}` stand for any number of values, some at a time."""
        for first in range(0, len(values), _VALUES_PER_STATEMENT):
            some = values[first : first + _VALUES_PER_STATEMENT]
            yield from self._query(sql.format(marks=marks(len(some))), some)

    def _stream(self, sql: str, values: Sequence = ()) -> Generator[tuple, None, None]:
        """Yields rows without holding all of them in memory."""
        with self._named_errors(), closing(self._connection.execute(sql, values)) as cursor:
            yield from cursor

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection to one thread at a time, with errors that name the file.

        An open statement pins the connection's snapshot of the file: threads whose statements
        always overlap would never see a writer's deletions.
        """
        with self._lock, self._named_errors():
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._named_errors(), self._connection:
            yield

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # a bug of ours, such as use of a closed connection
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self._named(error) from error

    def _named(self, error: Exception) -> Exception:
        """Returns the system's error where the disk is at fault, else a ValueError."""
        number = _DISK_ERRORS.get(str(error))
        if number is not None:
            return OSError(number, os.strerror(number), str(self._path))
        if "locked" in str(error):
            return ValueError(f"{self._path}: another program holds it locked; close that first")
        return ValueError(self._damaged(error))

    def _damaged(self, reason: object) -> str:
        return (
            f"{self._path} is missing or damaged ({' '.join(str(reason).split())}); "
            "run reelseek repair --index DIR"
        )


def connect_to_damaged(path: Path) -> sqlite3.Connection:
    """Opens a file whose schema may be damaged, with the right to mend it."""
    connection = sqlite3.connect(path, timeout=TIMEOUT_SECONDS)
    connection.text_factory = decode
    connection.execute("PRAGMA writable_schema = ON")  # also skips what is wrong in it
    return connection


def decode(data: bytes) -> str:
    """Reads text that may no longer be UTF-8; the checksum of its entry then differs."""
    return data.decode(errors="surrogateescape")


def marks(count: int) -> str:
    """Returns the placeholders of an SQL statement for `count` values."""
    return ", ".join("?" * count)


def _connect_read_only(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri()
    # A server's threads share a searcher; SQLite serialises their calls.
    options: Any = {"uri": True, "timeout": TIMEOUT_SECONDS, "check_same_thread": False}
    connection = sqlite3.connect(f"{uri}?mode=ro", **options)
    try:
        connection.execute("SELECT value FROM counters LIMIT 1").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if not path.is_file() or (log.exists() and log.stat().st_size):
            raise
        # A read-only disk has no room for the write-ahead log's index, and nobody can change the
        # file either.
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", **options)
        connection.execute("SELECT value FROM counters LIMIT 1").fetchone()
    return connection
