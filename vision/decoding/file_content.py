"""Reads a file's size, modification time and hash; refuses pipes and devices without waiting."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reelseek.vision.errors import VideoDecodeError

_BLOCK_BYTES = 1 << 20
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@dataclass(frozen=True)
class FileContent:
    """Identifies the content of a file."""

    size_bytes: int
    modified_ns: int
    sha256: str


def read_content(
    path: str | Path, *, after_block: Callable[[], None] = lambda: None
) -> FileContent:
    """Reads a whole file.

    Args:
        path: The file.
        after_block: Called after each MB.

    Raises:
        VideoDecodeError: It is not a regular file.
        OSError: It cannot be read.
    """
    _require_regular(os.stat(path))
    # Another process may replace the file with a FIFO now; opening it does not block.
    descriptor = os.open(path, _OPEN_FLAGS)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        _require_regular(status)
        digest = hashlib.sha256()
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            after_block()
    return FileContent(status.st_size, status.st_mtime_ns, digest.hexdigest())


def why_unreadable(error: OSError) -> str:
    """Returns the reason for users."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no such file"
    return f"it cannot be read ({error.strerror})"


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise VideoDecodeError(f"it is {kind}, not a file")
