"""What `videos=` names -> the list of videos, each with its key and its metadata.

The key is a video's identity in the index: its path relative to the folder, the list or the glob
it came from. A collection that moves to another disk as a whole keeps its keys.
"""

import glob
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from text import strict_json
from vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoItem:
    """A video that is asked for.

    Attributes:
        key: its identity in the index.
        path: where it lies, absolute.
        metadata: what the `.jsonl` says beside `video`: captions, title, tags, anything.
    """

    key: str
    path: Path
    metadata: dict = field(default_factory=dict)

    @property
    def captions(self) -> list[str]:
        """The sentences that its list gives it."""
        return self.metadata.get("captions", [])


def collect_videos(videos: str) -> list[VideoItem]:
    """Lists a collection.

    Args:
        videos: a folder (searched recursively for files with a video's suffix, hidden ones passed
            over), a video or image file, a glob, a `.txt` with a path a line, or a `.jsonl` with
            an object a line: `video` (or `image`), optional `captions`, and any further metadata.
            Paths inside a list are relative to the list.

    Raises:
        ValueError: nothing is there, the list is malformed (its line is named), or it holds no
            video.
    """
    if not videos:
        raise ValueError("videos is empty: name a folder, a file, a glob, a .txt or a .jsonl")
    path = Path(videos)
    try:
        if path.is_dir():
            items = _from_folder(path)
        elif path.is_file():
            items = _from_file(path)
        elif glob.has_magic(videos):
            items = _from_glob(videos)
        else:
            raise ValueError(f"videos={videos}: no such file or folder")
    except OSError as error:
        raise ValueError(f"videos={videos}: cannot be read ({error.strerror})") from error
    if not items:
        raise ValueError(f"videos={videos}: holds no video")
    return _without_repeats(items)


def _from_folder(folder: Path) -> list[VideoItem]:
    keys = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                keys.append(Path(parent, name).relative_to(folder).as_posix())
    return [VideoItem(key, Path(os.path.abspath(folder / key))) for key in sorted(keys)]


def _from_file(path: Path) -> list[VideoItem]:
    if path.suffix.lower() == ".jsonl":
        return _from_jsonl(path)
    if path.suffix.lower() == ".txt":
        lines = [line.strip() for line in _read_lines(path)]
        return [_listed(path, line) for line in lines if line and not line.startswith("#")]
    return [VideoItem(path.name, Path(os.path.abspath(path)))]


def _from_glob(pattern: str) -> list[VideoItem]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    found = [
        Path(match)
        for match in sorted(glob.glob(pattern, recursive=True))
        if Path(match).suffix.lower() in suffixes and Path(match).is_file()
    ]
    return [
        VideoItem(path.relative_to(root).as_posix(), Path(os.path.abspath(path))) for path in found
    ]


def _from_jsonl(path: Path) -> list[VideoItem]:
    items = []
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = strict_json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: must be an object with `video`, is {line.strip()[:60]!r}")
        name = record.pop("video", None) or record.pop("image", None)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: the key `video` is missing or is not a path")
        captions = record.get("captions", [])
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
            raise ValueError(f"{where}: `captions` must be a list of sentences")
        if captions:
            record["captions"] = captions
        items.append(_listed(path, name, record))
    return items


def _listed(list_path: Path, name: str, metadata: dict | None = None) -> VideoItem:
    path = Path(os.path.abspath(list_path.parent / name))
    return VideoItem(Path(os.path.normpath(name)).as_posix(), path, metadata or {})


def _without_repeats(items: list[VideoItem]) -> list[VideoItem]:
    """One item a key; the captions of repeated lines come together, as MSR-VTT's lists need."""
    by_key: dict[str, VideoItem] = {}
    for item in items:
        first = by_key.setdefault(item.key, item)
        if first is not item and "captions" in item.metadata:
            seen = first.metadata.setdefault("captions", [])
            seen += [caption for caption in item.metadata["captions"] if caption not in seen]
    if len(by_key) < len(items):
        logger.info("%d videos are listed more than once", len(items) - len(by_key))
    return list(by_key.values())


def _read_lines(path: Path) -> list[str]:
    try:
        # Not `splitlines`, which also cuts at characters that JSON allows inside a string.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text (byte {error.start})") from error
