"""A video inside a shard -> a file: decoders seek."""

import hashlib
import shutil
import tarfile
from pathlib import Path
from typing import IO

from filelock import FileLock

from reelseek.indexing.store.atomic import publish_file

_PROBE_BYTES = 64 * 1024


class VideoCache:
    """A folder of unpacked videos, each written atomically.

    A file's name is a hash of the shard's size and modification time, the offset in the shard, and
    the first and last 64 KiB of the video. So a second run finds the file without reading the whole
    shard, a changed shard is unpacked again, and no name from the shard becomes a path.

    Args:
        folder: of the files; made with the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / "unpacking.lock")
        self._is_swept = False

    def unpack(self, shard: tarfile.TarFile, member: tarfile.TarInfo, *, suffix: str) -> Path:
        """Returns the file of a shard's video; writes it if it is missing.

        Raises:
            OSError: the shard cannot be read or the folder cannot be written.
            EOFError: the shard ends before the video does.
        """
        source = shard.extractfile(member)
        assert source is not None, "the caller passes regular files only"
        with source:
            path = self._folder / f"{_fingerprint(shard, member, source)}{suffix}"
            if _is_whole(path, member):
                return path
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._lock:  # several processes of one training read the same shards
                self._sweep()
                if not _is_whole(path, member):
                    publish_file(path, lambda temporary: _copy(source, temporary, member))
        return path

    def _sweep(self) -> None:
        """Removes the partial files of a killed run: nobody else writes under the lock."""
        if not self._is_swept:
            for leftover in self._folder.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
            self._is_swept = True


def _is_whole(path: Path, member: tarfile.TarInfo) -> bool:
    return path.is_file() and path.stat().st_size == member.size


def _fingerprint(shard: tarfile.TarFile, member: tarfile.TarInfo, source: IO[bytes]) -> str:
    state = Path(str(shard.name)).stat()
    origin = (state.st_size, state.st_mtime_ns, member.offset_data, member.size)
    digest = hashlib.sha256(repr(origin).encode())
    digest.update(source.read(_PROBE_BYTES))
    source.seek(max(0, member.size - _PROBE_BYTES))
    digest.update(source.read(_PROBE_BYTES))
    return digest.hexdigest()[:32]


def _copy(source: IO[bytes], target: Path, member: tarfile.TarInfo) -> None:
    source.seek(0)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, 1024 * 1024)
    if target.stat().st_size != member.size:
        raise EOFError(f"ends within {member.name!r}")
