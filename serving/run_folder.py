"""The folder of a running service: its sockets, its metrics, and files that are searched by."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["run_folder"]

_PREFIX = "reelseek-serve-"
_LOCK = "lock"


@contextmanager
def run_folder() -> Iterator[Path]:
    """Makes a folder for this user alone, and removes it in the end.

    A service that is killed cannot do so, and what people have uploaded would stay: those folders
    are removed now. The system gives up the lock of a folder with the process that made it.
    """
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name:
        path = Path(name, _LOCK)
        new = path.with_suffix(".new")
        lock = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(path)  # not before it is locked, or another start would remove the folder
            yield Path(name)
        finally:
            os.close(lock)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # of another user, removed by another start, or one that lives
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
