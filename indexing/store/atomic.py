"""Files that appear whole or not at all, and stay after a power loss."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_PROBE_BYTES = 1 << 16


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the path, syncs, and renames over it."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    publish_file(path, write)


def publish_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a file beside the path, syncs it, and renames it over the path."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        named = _named(error, temporary, path)
        if named is None:
            raise
        raise named from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_can_write_file(option: str, path: Path) -> None:
    """Raises a ValueError where an option's file cannot be written, before work is done for it."""
    if path.is_dir():
        raise ValueError(f"{option}={path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"{option}={path}: there is no folder {path.parent}; make it first")
    if reason := write_failure(path.parent):
        raise ValueError(f"{option}={path}: cannot be written ({reason})")


def check_can_write_folder(option: str, folder: Path) -> None:
    """Likewise of an option's folder, which is still to be made where it is missing."""
    there = nearest_existing(folder)
    if not there.is_dir():
        raise ValueError(f"{option}={folder}: {there} is not a folder; name another")
    if reason := write_failure(there):
        raise ValueError(f"{option}={folder}: cannot be written ({reason})")


def nearest_existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def write_failure(folder: Path) -> str:
    """Why no file can be made in a folder; empty where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, so that they stay after a power loss."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def sync_new_folder(folder: Path, written: Iterable[str]) -> None:
    """Makes a folder stay after a power loss, with the files that were written into it; links to
    files that were safe before need no more."""
    for name in written:
        _sync(folder / name)
    _sync_folder(folder)
    _sync_folder(folder.parent)


def _named(error: OSError | RuntimeError, temporary: Path, path: Path) -> OSError | None:
    """What stopped the writing, with its path; None where it was no matter of the disk."""
    number = getattr(error, "errno", None)
    if number is None:  # NumPy and FAISS say only how many bytes were written: ask once more
        try:
            with temporary.open("ab") as file:
                file.write(bytes(_PROBE_BYTES))
            return None
        except OSError as again:
            number = again.errno
    return OSError(number, os.strerror(number or errno.EIO), str(path))


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is synced by itself
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
