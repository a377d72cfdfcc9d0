"""Files that appear whole or not at all, and stay after a power loss."""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

_PROBE_BYTES = 1 << 16


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside the path, syncs, and renames over it."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    publish_file(path, write)


def publish_file(path: Path, write: Callable[[Path], None]) -> None:
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
