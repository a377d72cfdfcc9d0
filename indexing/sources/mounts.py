"""File systems that may not answer, as a network drive that is away: whether there are any, and
which of them are not waited for any more."""

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_NETWORKS = frozenset(
    "9p afs beegfs ceph cifs coda davfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs "
    "virtiofs".split()
)
_MAX_SILENT = 4  # files behind each other, of which each has cost the workers' deadline


class SilentMounts:
    """Counts, for each file system, the files behind each other that did not answer."""

    def __init__(self) -> None:
        self._num_silent: dict[str, int] = {}

    def note(self, path: Path, *, is_silent: bool) -> None:
        """Takes notice of whether a file has answered."""
        if is_silent:
            mount = _mount_of(path)
            self._num_silent[mount] = self._num_silent.get(mount, 0) + 1
        elif self._num_silent:
            self._num_silent.pop(_mount_of(path), None)

    def is_silent(self, path: Path) -> bool:
        """Whether the last file there did not answer."""
        return self._count(path) > 0

    def is_given_up(self, path: Path) -> bool:
        """Whether so many did not that the next is not to be waited for."""
        return self._count(path) >= _MAX_SILENT

    def _count(self, path: Path) -> int:
        return self._num_silent.get(_mount_of(path), 0) if self._num_silent else 0


def may_hang() -> bool:
    """Whether any network's or user's file system is mounted; a link may lead there from
    anywhere."""
    return any(kind in _NETWORKS or kind.partition(".")[0] == "fuse" for _, kind in _mounts())


def _mount_of(path: Path) -> str:
    """The folder at which a file system is mounted, found without a look at the file system
    itself; where the system does not list them, the file's folder."""
    mounts = [folder for folder, _ in _mounts()]
    inside = [folder for folder in mounts if path.is_relative_to(folder)]
    return max(inside, key=len, default=str(path.parent))


def _mounts() -> list[tuple[str, str]]:
    """The folder and the kind of each file system; none where the system does not list them."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [(_unescaped(folder), kind) for _, folder, kind, *_ in fields]


def _unescaped(folder: str) -> str:
    """The kernel writes blanks and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), folder)
