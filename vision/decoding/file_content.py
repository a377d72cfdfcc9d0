"""A file -> its size, time and hash; what is no regular file is refused, and never waited for."""

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
    """What tells whether a file is still the one that it was."""

    size_bytes: int
    modified_ns: int
    sha256: str


def read_content(
    path: str | Path, *, after_block: Callable[[], None] = lambda: None
) -> FileContent:
    """Reads a whole file.

    Args:
        after_block: called after each MB.

    Raises:
        VideoDecodeError: it is not a regular file.
        OSError: it cannot be read.
    """
    _require_regular(os.stat(path))
    # Should another process put a FIFO there just now: opening it does not wait for its other end.
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
    """For people."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "no such file"
    return f"it cannot be read ({error.strerror})"


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise VideoDecodeError(f"it is {kind}, not a file")
