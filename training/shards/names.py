"""What a user names -> the paths of tar shards: a file, a folder, a glob, a range or a list."""

import glob
import re
from pathlib import Path

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 1_000_000


def is_shards(data: str) -> bool:
    """Whether `data` names shards: a .tar, a pattern of them, or a folder that holds some."""
    return data.lower().endswith(".tar") or (Path(data).is_dir() and any(_tars_in(Path(data))))


def find_shards(data: str) -> list[str]:
    """Returns the shards that a file, a folder, a glob or a range names; or a .txt of these, one a
    line, relative to that file.

    Raises:
        ValueError: one of a range or of a list, or all, are not there.
    """
    if Path(data).is_file():
        return _listed_shards(Path(data)) if data.lower().endswith(".txt") else [data]
    if Path(data).is_dir():
        return [str(path) for path in _tars_in(Path(data))]
    shards = []
    for pattern in expand_ranges(data):
        is_pattern = glob.has_magic(pattern) and not Path(pattern).exists()
        found = sorted(glob.glob(pattern, recursive=True)) if is_pattern else [pattern]
        if not found or not all(Path(shard).is_file() for shard in found):
            raise ValueError(f"{pattern}: no such shard")
        shards += found
    return list(dict.fromkeys(shards))


def _listed_shards(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ValueError(f"{path}: {reason}") from error
    shards: list[str] = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        if line.lower().endswith(".txt"):
            raise ValueError(f"{path}, line {number}: {line} is a list itself; name shards")
        try:
            shards += find_shards(str(path.parent / line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not shards:
        raise ValueError(f"{path}: names no shard")
    return list(dict.fromkeys(shards))


def expand_ranges(pattern: str) -> list[str]:
    """`a-{08..10}.tar` -> `a-08.tar`, `a-09.tar`, `a-10.tar`; zeros in front are kept, as in Bash.

    Raises:
        ValueError: that would be more than a million names.
    """
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    is_padded = any(len(end) > 1 and end.startswith("0") for end in match.groups())
    width = max(map(len, match.groups())) if is_padded else 0
    tails = expand_ranges(pattern[match.end() :])
    if (abs(last - first) + 1) * len(tails) > _MAX_SHARDS:
        raise ValueError(f"{pattern}: names more than {_MAX_SHARDS} shards")
    step = 1 if first <= last else -1
    head = pattern[: match.start()]
    return [
        f"{head}{number:0{width}d}{tail}"
        for number in range(first, last + step, step)
        for tail in tails
    ]


def _tars_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".tar" and not path.name.startswith(".")
    )
