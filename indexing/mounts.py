"""File systems that do not answer, as a network drive that is away: after a few files of one the
rest of it is not waited for."""

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_MOST_SILENT = 4  # files behind each other, of which each has cost the workers' deadline


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

    def is_given_up(self, path: Path) -> bool:
        if not self._num_silent:
            return False
        return self._num_silent.get(_mount_of(path), 0) >= _MOST_SILENT


def _mount_of(path: Path) -> str:
    """The folder at which a file system is mounted, found without a look at the file system
    itself; where the system does not list them, the file's folder."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return str(path.parent)
    mounts = [line.split(" ")[1].replace("\\040", " ") for line in lines]
    parts = path.parts
    inside = [mount for mount in mounts if parts[: len(Path(mount).parts)] == Path(mount).parts]
    return max(inside, key=len, default=os.sep)
