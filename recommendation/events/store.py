"""The SQLite file of events, as one connection sees it.

A commit is on the disk before a reader sees it (write-ahead log, synchronous=FULL), and writers
take turns, so that positions become visible in their order: who has read up to one misses none
before it.

Nothing here may open the file but SQLite: closing another descriptor of it drops the locks of all
of this process's connections (https://sqlite.org/howtocorrupt.html, section 2.2).
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from reelseek.indexing.store.atomic import make_folder
from reelseek.indexing.store.database import Database
from reelseek.recommendation.events.residue import file_contains
from reelseek.recommendation.events.rows import COLUMNS, SCHEMA, Row, deletion_row
from reelseek.recommendation.events.schema import Deletion

FILE_NAME, LOCK_NAME = "events.sqlite", "events.lock"
_FORMAT = 1  # of the file, in `user_version`

_INSERT = (
    f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    "ON CONFLICT (event_id) DO NOTHING"
)
_SELECT = f"SELECT log_position, {', '.join(COLUMNS)} FROM events"
_OF_USER = "(user = ?1 OR session = ?1)"


class EventsUnavailable(Exception):
    """Events could not be stored, read or deleted; the same call may succeed later."""


class EventsUnreachable(EventsUnavailable):
    """The server of the log, or its replica, does not answer; the same call may succeed soon."""


class _EventFile(Database):
    """Names what is wrong with the file, and passes errors on as EventsUnavailable."""

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            with super()._named_errors():
                yield
        except (OSError, ValueError) as error:
            raise EventsUnavailable(str(error)) from error

    def _damaged(self, reason: object) -> str:
        return f"{self._path} cannot be used ({' '.join(str(reason).split())})"


class EventReader(_EventFile):
    """Reads the events; threads may share it."""

    def __init__(self, folder: Path) -> None:
        EventStore(folder).close()  # makes the file where there is none
        super().__init__(folder / FILE_NAME, schema="", read_only=True)

    def rows(self, *, after: int, limit: int) -> list[Row]:
        """Returns rows of `log_position` and `COLUMNS`, in order."""
        sql = f"{_SELECT} WHERE log_position > ? ORDER BY log_position LIMIT ?"
        return self._query(sql, (after, limit))

    def num_deletions(self, *, after: int) -> int:
        """Returns how many users were deleted after a position."""
        sql = "SELECT count(*) FROM events WHERE log_position > ? AND kind = ?"
        ((number,),) = self._query(sql, (after, str(Deletion.__struct_config__.tag)))
        return int(number)

    def bounds(self) -> tuple[int, int]:
        """Returns the last position that retention has dropped, and the last that was given; 0
        where there is none."""
        # sqlite_sequence also knows of a last event that has been deleted since.
        sql = (
            "SELECT (SELECT value FROM counters WHERE name = 'dropped_position'), "
            "(SELECT seq FROM sqlite_sequence WHERE name = 'events')"
        )
        ((dropped, last),) = self._query(sql)
        return dropped or 0, last or 0


class EventStore(_EventFile):
    """Writes the events; belongs to the thread that opened it.

    Raises:
        EventsUnavailable: the file cannot be made, opened or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._lock_file: int | None = None
        path = folder / FILE_NAME
        try:
            if not folder.is_dir():
                make_folder(folder)
                folder.chmod(0o700)  # what people do is nobody else's business
            self._lock_file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
            with self._turn():
                with suppress(FileExistsError):
                    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                super().__init__(path, schema="PRAGMA secure_delete = ON")
                self._check_format()
        except OSError as error:
            self._close_lock()
            raise EventsUnavailable(str(error)) from error
        except EventsUnavailable:
            self._close_lock()
            raise

    def close(self) -> None:
        super().close()
        self._close_lock()

    def append(self, batches: Sequence[Sequence[Row]]) -> list[int]:
        """Stores all batches in one transaction, on the disk when this returns.

        Returns the number of events of each batch that were new.
        """
        num_new = []
        with self._turn(), self._transaction():
            for rows in batches:
                before = self._connection.total_changes
                self._connection.executemany(_INSERT, rows)
                num_new.append(self._connection.total_changes - before)
        return num_new

    def delete_user(self, user: str, *, now_seconds: float) -> int:
        """Deletes the events that have this pseudonym, as user or as session, from all files, and
        appends a `Deletion`, also where there are none: readers may know of older ones.

        SQLite overwrites what it deletes. Copies are left in the write-ahead log, which is emptied,
        and can be left where rows had moved to another page before: then the file is written anew.

        Returns the number of deleted events.

        Raises:
            EventsUnavailable: something of them is left; the next call, or the next writer that
                starts, wipes that too.
        """
        # There is no index by user, as pages of an index keep copies. So what is there already is
        # searched before the writers have to wait.
        ((last,),) = self._query("SELECT coalesce(max(log_position), 0) FROM events")
        found = self._query(
            f"SELECT log_position FROM events WHERE {_OF_USER} AND log_position <= ?2", (user, last)
        )
        with self._turn(), self._transaction():
            before = self._connection.total_changes
            self._connection.executemany("DELETE FROM events WHERE log_position = ?", found)
            self._connection.execute(
                f"DELETE FROM events WHERE {_OF_USER} AND log_position > ?2", (user, last)
            )
            num_deleted = self._connection.total_changes - before
            self._connection.execute(_INSERT, deletion_row(user, now_seconds))
            if num_deleted:
                sql = "INSERT INTO unwiped DEFAULT VALUES"
                deletion = self._connection.execute(sql).lastrowid
        if num_deleted:
            self._empty_log()
            if file_contains(self._path, user.encode()):
                self._rewrite()
            self._forget_unwiped([(deletion,)])
        self.wipe()
        return num_deleted

    def wipe(self) -> None:
        """Completes deletions that were committed, but did not get to the end of their wiping."""
        if unwiped := self._query("SELECT deletion FROM unwiped"):
            self._rewrite()
            self._forget_unwiped(unwiped)

    def drop_oldest(self, *, before_seconds: float, max_bytes: float, limit: int) -> int:
        """Deletes events that arrived before a time, or are too many; the oldest first.

        Args:
            before_seconds: Unix time by the server's clock.
            max_bytes: that the events may take, with their index.
            limit: the most to delete now, as writers wait meanwhile.

        Returns the number of deleted events.
        """
        sql = "SELECT log_position, received_seconds FROM events ORDER BY log_position LIMIT ?"
        oldest = self._query(sql, (limit,))
        expired = takewhile(lambda row: row[1] < before_seconds, oldest)
        num = sum(1 for _ in expired)
        if self._used_bytes() > max_bytes:  # some at a time, so as not to drop too many
            num = max(num, len(oldest) // 10, min(1, len(oldest)))
        if num:
            with self._turn(), self._transaction():
                last = oldest[num - 1][0]
                self._connection.execute("DELETE FROM events WHERE log_position <= ?", (last,))
                sql = "INSERT OR REPLACE INTO counters VALUES ('dropped_position', ?)"
                self._connection.execute(sql, (last,))
        return num

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Waits until no other writer is at work.

        SQLite's own waiting is by sleeps of up to 0.1 s, during which a busy writer takes the lock
        again and again: others then starve for seconds.
        """
        assert self._lock_file is not None
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _close_lock(self) -> None:
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _check_format(self) -> None:
        ((found,),) = self._query("PRAGMA user_version")
        if found > _FORMAT:
            self._connection.close()
            raise EventsUnavailable(
                f"{self._path} has format {found}, this version reads {_FORMAT}; use a newer one"
            )
        if not found:
            with self._transaction():
                self._connection.executescript(f"{SCHEMA}; PRAGMA user_version = {_FORMAT}")

    def _used_bytes(self) -> int:
        sql = "SELECT page_count - freelist_count, page_size FROM pragma_page_count, "
        sql += "pragma_freelist_count, pragma_page_size"
        ((pages, page_bytes),) = self._query(sql)
        return pages * page_bytes

    def _forget_unwiped(self, deletions: Sequence[Row]) -> None:
        with self._turn(), self._transaction():
            self._connection.executemany("DELETE FROM unwiped WHERE deletion = ?", deletions)

    def _rewrite(self) -> None:
        with self._turn(), self._named_errors():
            self._connection.execute("VACUUM")
        self._empty_log()

    def _empty_log(self) -> None:
        """Moves the write-ahead log into the file and cuts it to nothing.

        Raises:
            EventsUnavailable: a reader needs an earlier state for too long.
        """
        with self._turn():
            ((is_busy, _, _),) = self._query("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            raise EventsUnavailable(f"{self._path}: another program has been reading for too long")
