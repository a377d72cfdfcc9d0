"""A folder -> the videos below it, its unreadable parts, and the files that were passed over and
why.

Follows linked folders after all others, and reads each folder once however many links lead to it,
so a loop of links ends where it began.
"""

import os
import stat
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from reelseek.text.terminal import printable
from reelseek.vision import IMAGE_SUFFIXES

_UNFINISHED_SUFFIXES = frozenset(
    ".!qb .!ut .aria2 .crdownload .download .filepart .opdownload .part .partial .tmp .ytdl".split()
)
_NUM_EXAMPLES = 3  # names that are given for each reason

# Each reason to pass something over, as it is called where there is one and where there are more.
_PLURALS = {
    "photo": "photos",
    "unfinished download": "unfinished downloads",
    "file without suffix": "files without suffix",
    "other file": "other files",
    "FIFO": "FIFOs",
    "socket": "sockets",
    "device": "devices",
    "linked folder that is indexed already": "linked folders that are indexed already",
}
_SPECIAL_FILES = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass
class PassedOver:
    """The files that walks did not take.

    Attributes:
        counts: how many for each reason, such as `photo` or `FIFO`.
        examples: the first few names for each reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _NUM_EXAMPLES:
            examples.append(name)

    def update(self, other: "PassedOver") -> None:
        """Adds those of another walk."""
        self.counts.update(other.counts)
        for reason, names in other.examples.items():
            examples = self.examples.setdefault(reason, [])
            examples += names[: _NUM_EXAMPLES - len(examples)]

    def __str__(self) -> str:
        """Such as `11 photos (images=true indexes them), 1 FIFO (pipe.mp4)`; empty for none."""
        parts = []
        for reason, plural in _PLURALS.items():
            if count := self.counts[reason]:
                names = printable(", ".join(self.examples[reason]))
                detail = f"{names}, ..." if count > len(self.examples[reason]) else names
                if reason == "photo":
                    detail = "images=true indexes them"
                parts.append(f"{count} {reason if count == 1 else plural} ({detail})")
        return ", ".join(parts)


@dataclass
class Walk:
    """The contents of a folder; paths are relative to it, with `/`.

    Attributes:
        files: those with the given suffixes, sorted; links that lead nowhere included.
        unreadable: folders that could not be read, each with the reason; `.` for the folder itself.
        dangling: other links that lead nowhere, such as to a folder on a drive that is away.
        mounts: folders that lie on another file system than the folder above them.
        passed_over: all other files.
    """

    files: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    dangling: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)

    @property
    def problem(self) -> str:
        """Why nothing of the folder could be read; empty where something could."""
        reason = self.unreadable.get(".")
        return f"cannot be read ({reason})" if reason else ""


def walk_folder(folder: Path, suffixes: Collection[str]) -> Walk:
    """Lists the files below a folder, without hidden files and folders.

    Args:
        suffixes: of the files to list, in lower case.
    """
    walk = Walk()
    pending, linked = deque([(".", _device(folder / ".."))]), deque[tuple[str, int]]()
    seen: set[tuple[int, int]] = set()
    while pending or linked:
        below, device_above = pending.popleft() if pending else linked.popleft()
        try:
            status = os.stat(folder / below)
            if (status.st_dev, status.st_ino) in seen:
                walk.passed_over.add("linked folder that is indexed already", below)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder / below) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            walk.unreadable[below] = error.strerror or str(error)
            continue
        if status.st_dev != device_above:
            walk.mounts.append(below)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = entry.name if below == "." else f"{below}/{entry.name}"
            if not _is_folder(entry):
                _take_file(walk, entry, name, suffixes)
            elif entry.is_symlink():
                linked.append((name, status.st_dev))
            else:
                pending.append((name, status.st_dev))
    walk.files.sort()
    return walk


def special_kind(mode: int) -> str:
    """Returns `FIFO`, `socket` or `device`; empty for the `st_mode` of a file or a folder."""
    return _SPECIAL_FILES.get(stat.S_IFMT(mode), "")


def _device(folder: Path) -> int:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return -1


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or without permission
        return False


def _special_kind(entry: os.DirEntry) -> str:
    try:
        return "" if entry.is_file() else special_kind(entry.stat().st_mode)
    except OSError:
        return ""


def _take_file(walk: Walk, entry: os.DirEntry, name: str, suffixes: Collection[str]) -> None:
    suffix = Path(name).suffix.lower()
    if kind := _special_kind(entry):
        walk.passed_over.add(kind, name)
    elif suffix in suffixes:
        walk.files.append(name)
    elif entry.is_symlink() and not os.path.exists(entry.path):
        walk.dangling.append(name)
    elif suffix in IMAGE_SUFFIXES:
        walk.passed_over.add("photo", name)
    elif suffix in _UNFINISHED_SUFFIXES:
        walk.passed_over.add("unfinished download", name)
    else:
        walk.passed_over.add("other file" if suffix else "file without suffix", name)
