"""What `reelseek serve` is given -> the folder of the index, and the videos to index into it."""

import glob
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from reelseek.configs.schema import ServeConfig
from reelseek.indexing.sources.collection import glob_root
from reelseek.indexing.store.manifest import Manifest

_HASH_LETTERS = 8
_NAME_LETTERS = 40


@dataclass(frozen=True)
class Target:
    """What to serve.

    Attributes:
        index: the folder of the index; may not exist yet where there are videos.
        videos: folders, files, globs and lists to index and watch; empty to serve an index as it
            is.
    """

    index: Path
    videos: tuple[str, ...] = ()


def resolve_target(config: ServeConfig) -> Target:
    """Tells an index from videos, and chooses a folder for the index of videos.

    Raises:
        ValueError: nothing is given or it does not exist; in one line.
    """
    named = None if config.index is None else Path(os.path.abspath(config.index))
    indexes = [name for name in config.videos if Manifest.exists(Path(name))]
    if indexes and (named is not None or len(config.videos) > 1):
        raise ValueError(
            f"videos={indexes[0]}: is an index; give it alone, or index it into another with "
            "reelseek merge"
        )
    if indexes:
        return Target(_checked_index(Path(os.path.abspath(indexes[0]))))
    for name in config.videos:
        if not os.path.lexists(source_folder(name) if is_glob(name) else name):
            raise ValueError(f"videos={name}: no such file or folder")
    videos = tuple(os.path.abspath(name) for name in config.videos)
    if named is None and not videos:
        raise ValueError("give a folder of videos, or the folder of an index")
    if named is None:
        return Target(index_of(videos), videos)
    return Target(named if videos else _checked_index(named), videos)


def is_glob(name: str) -> bool:
    """Whether a value of `videos=` is a glob, and no file or folder of this name."""
    return glob.has_magic(name) and not os.path.lexists(name)


def source_folder(name: str) -> str:
    """Returns the folder in which the videos of a source come and go: a folder itself, that of a
    file or a list, or the fixed part of a glob."""
    if is_glob(name):
        return str(glob_root(name))
    return name if os.path.isdir(name) else os.path.dirname(name)


def index_of(videos: Sequence[str]) -> Path:
    """Returns the folder of the index of some videos, among the user's data: nothing is written
    beside the videos themselves.

    Args:
        videos: absolute paths; in any order.
    """
    text = "\0".join(sorted(videos))
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LETTERS]
    first = source_folder(videos[0]) if is_glob(videos[0]) else videos[0]
    name = re.sub(r"[^\w.-]+", "-", Path(first).name).strip("-.")[:_NAME_LETTERS] or "videos"
    return user_data_path("reelseek") / "libraries" / f"{name}-{digest}"


def _checked_index(folder: Path) -> Path:
    Manifest.read(folder)  # raises where it is none, or damaged
    return folder
