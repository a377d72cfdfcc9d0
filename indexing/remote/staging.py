"""The folder of an index, whole or in shards -> a copy that no writer changes, made in a moment.

Files that are never changed are linked, the others copied, while the index is locked; what the copy
is used for may then take hours. Left out: locks, what is unfinished, and what tells of users, paths
and options: logs of queries, the report, the configuration.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store import query_log
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.writer import only_writer

_STAGING = "publishing"
_LEFT_OUT_FOLDERS = frozenset({_STAGING, "unfinished", "fetched"})
_LEFT_OUT_FILES = frozenset({"config.yaml", "report.jsonl", query_log.QUERIES})
_LEFT_OUT_SUFFIXES = (".lock", ".journal", ".tmp", "-wal", "-shm")
_CHANGED_IN_PLACE = frozenset({query_log.SENTENCES})
_COPIED_BYTES = 1 << 16  # small files are as quickly copied


@contextmanager
def staged_index(folder: Path) -> Iterator[Path]:
    """Makes the copy, and deletes it in the end.

    Raises:
        ValueError: the folder is not an index, another process is writing it, or publishes it.
    """
    Manifest.read(folder)
    staging = folder / _STAGING
    lock = FileLock(folder / f"{_STAGING}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"index={folder}: another process is publishing it; wait until it has finished"
        ) from error
    try:
        shutil.rmtree(staging, ignore_errors=True)  # of a killed process
        with ExitStack() as locks:
            for path in _index_folders(folder):
                locks.callback(only_writer(path).release)
            for path in sorted(_files(folder)):
                to = staging / path.relative_to(folder)
                to.parent.mkdir(parents=True, exist_ok=True)
                _copy(path, to)
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        lock.release()


def _index_folders(folder: Path) -> list[Path]:
    """Returns the folders of an index that have a writer: itself, and its shards."""
    below = sorted(path.parent for path in folder.glob(f"shards/*/{Manifest.path(folder).name}"))
    return [folder, *below]


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files to publish; links are not followed."""
    with os.scandir(folder) as scan:
        for entry in scan:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _LEFT_OUT_FOLDERS:
                    yield from _files(path)
            elif (
                entry.is_file(follow_symlinks=False)
                and entry.name not in _LEFT_OUT_FILES
                and not entry.name.endswith(_LEFT_OUT_SUFFIXES)
            ):
                yield path


def _copy(path: Path, to: Path) -> None:
    if path.name == CATALOGUE_NAME:
        _copy_database(path, to)
        return
    if path.name not in _CHANGED_IN_PLACE and path.stat().st_size > _COPIED_BYTES:
        try:
            os.link(path, to)
            return
        except OSError:  # a file system without links
            pass
    shutil.copyfile(path, to)


def _copy_database(path: Path, to: Path) -> None:
    """Copies an SQLite file with what its log holds, so that the copy needs no log."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
