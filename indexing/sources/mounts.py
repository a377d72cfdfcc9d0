"""File systems that may not answer, such as a network drive that is away: whether any are mounted,
and which ones are no longer waited for."""

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_NETWORKS = frozenset(
    "9p afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs "
    "virtiofs".split()
)
_MAX_SILENT = 4  # consecutive files, each of which has cost the workers' deadline


class SilentMounts:
    """Counts, for each file system, the consecutive files that did not answer."""

    def __init__(self) -> None:
        self._num_silent: dict[str, int] = {}

    def note(self, path: Path, *, is_silent: bool) -> None:
        """Notes whether a file has answered."""
        if is_silent:
            mount = _mount_of(path)
            self._num_silent[mount] = self._num_silent.get(mount, 0) + 1
        elif self._num_silent:
            self._num_silent.pop(_mount_of(path), None)

    def is_silent(self, path: Path) -> bool:
        """Whether the last file there did not answer."""
        return self._count(path) > 0

    def is_given_up(self, path: Path) -> bool:
        """Whether too many did not answer to wait for another."""
        return self._count(path) >= _MAX_SILENT

    def _count(self, path: Path) -> int:
        return self._num_silent.get(_mount_of(path), 0) if self._num_silent else 0


def may_hang() -> bool:
    """Whether a network or user-space file system is mounted: a link may lead there."""
    return any(_is_network(kind) for _, kind in _mounts())


def is_remote(path: Path) -> bool:
    """Whether a file lies on a network or user-space file system."""
    mount = _mount_of(path)
    return any(_is_network(kind) for folder, kind in _mounts() if folder == mount)


def _is_network(kind: str) -> bool:
    return kind in _NETWORKS or kind.partition(".")[0] == "fuse"


def _mount_of(path: Path) -> str:
    """Returns the folder at which a file system is mounted, without touching the file system
    itself; the file's folder where the system does not list them."""
    mounts = [folder for folder, _ in _mounts()]
    inside = [folder for folder in mounts if path.is_relative_to(folder)]
    return max(inside, key=len, default=str(path.parent))


def _mounts() -> list[tuple[str, str]]:
    """Returns the folder and the type of each file system; none where the system does not list
    them."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [(_unescaped(folder), kind) for _, folder, kind, *_ in fields]


def _unescaped(folder: str) -> str:
    """Decodes the octal numbers that the kernel writes for blanks and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), folder)
