"""Writes files that appear whole or not at all, and stay after a power loss."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_PROBE_BYTES = 1 << 16


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a temporary file, syncs it, and renames it to the path."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    publish_file(path, write)


def publish_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a temporary file, syncs it, and renames it to the path."""
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
    """Raises a ValueError where an option's file cannot be written, before any work."""
    if path.is_dir():
        raise ValueError(f"{option}={path}: is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"{option}={path}: there is no folder {path.parent}; make it first")
    if reason := write_failure(path.parent):
        raise ValueError(f"{option}={path}: cannot be written ({reason})")


def check_can_write_folder(option: str, folder: Path) -> None:
    """Raises a ValueError where an option's folder can be neither made nor written to."""
    there = nearest_existing(folder)
    if not there.is_dir():
        raise ValueError(f"{option}={folder}: {there} is not a folder; name another")
    if reason := write_failure(there):
        raise ValueError(f"{option}={folder}: cannot be written ({reason})")


def nearest_existing(folder: Path) -> Path:
    """Returns the folder, or the first above it that exists."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def write_failure(folder: Path) -> str:
    """Returns why no file can be made in a folder; empty where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents durably."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def sync_new_folder(folder: Path, written: Iterable[str]) -> None:
    """Makes a new folder durable, with the files written into it. Links to files that were durable
    before need no more."""
    for name in written:
        _sync(folder / name)
    _sync_folder(folder)
    _sync_folder(folder.parent)


def _named(error: OSError | RuntimeError, temporary: Path, path: Path) -> OSError | None:
    """Returns the disk's error with the path; None where the disk is not at fault."""
    number = getattr(error, "errno", None)
    if number is None:  # NumPy and FAISS do not pass it on: write once more
        try:
            with temporary.open("ab") as file:
                file.write(bytes(_PROBE_BYTES))
            return None
        except OSError as again:
            number = again.errno
    return OSError(number, os.strerror(number or errno.EIO), str(path))


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # other systems sync a rename by themselves
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
