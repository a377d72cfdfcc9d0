"""What the library process refuses; the messages reach people, and name no path of this machine."""

import re
from collections.abc import Mapping
from pathlib import Path

# Whatever looks like an absolute path of several parts.
_PATH = re.compile(r"(?<![\w.])/[^\s/:;,)]+(?:/[^\s:;,)]*)+")


class InvalidRequest(ValueError):
    """The request cannot be meant so."""


class NotFound(ValueError):
    """The index, or the folder, has no such video."""


class Busy(ValueError):
    """Another program writes the index just now."""


def without_paths(text: str, names: Mapping[str, str]) -> str:
    """Returns a message without the paths of this machine.

    Args:
        names: what to call known folders, by path.
    """
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(f"{path}/", f"{names[path]}/").replace(path, names[path])
    return _PATH.sub(lambda match: Path(match[0]).name, text)
