"""The values of `videos=` -> the videos of each source, each with its key and its metadata.

A source is a folder, a file, a glob or a list. A key is a path relative to the source's root: the
folder, that of the file or the list, or the glob's fixed part. As with rsync, `/./` ends the root
of a file: `films/./2024/a.mp4` has the key `2024/a.mp4`.
"""

import glob
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.sources.captions import CaptionReader, unique
from reelseek.indexing.sources.walking import PassedOver, Walk, walk_folder
from reelseek.text import strict_json
from reelseek.text.urls import is_url, public_url
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

LIST_SUFFIXES = (".jsonl", ".txt")


@dataclass(frozen=True)
class VideoItem:
    """A video of a source.

    Attributes:
        key: its path relative to its root.
        path: where it lies, absolute; of a remote video, where its copy lies while it is decoded.
        metadata: further values of its line in a `.jsonl`: captions, title, tags, anything.
        root: its root's name in the index; empty before that is known.
        is_described: whether a `.jsonl` gives its metadata, even if there are none.
        remote: the object, of a video that is not on this machine's file systems.
    """

    key: str
    path: Path
    metadata: dict = field(default_factory=dict)
    root: str = ""
    is_described: bool = False
    remote: RemoteObject | None = None

    @property
    def address(self) -> str:
        """Its path or URL, as the catalogue keeps it."""
        return str(self.path) if self.remote is None else self.remote.url

    @property
    def root_and_key(self) -> tuple[str, str]:
        """Root and key, which no other video has."""
        return self.root, self.key

    @property
    def captions(self) -> list[str]:
        """The sentences that its list gives it."""
        return self.metadata.get("captions", [])


@dataclass(frozen=True)
class Source:
    """One value of `videos=`.

    Attributes:
        name: as it was given.
        root: the folder that keys are relative to, absolute.
        items: its videos.
        problem: why it has none, such as `no such file or folder`; else empty.
        walk: the contents of a folder; None for other sources.
        scope: a folder or file; a video below it that is not listed is gone. None for a list.
        is_silent: whether its file system does not answer.
    """

    name: str
    root: Path
    items: list[VideoItem] = field(default_factory=list)
    problem: str = ""
    walk: Walk | None = None
    scope: Path | None = None
    is_silent: bool = False

    @property
    def is_folder(self) -> bool:
        return self.walk is not None


def collect_videos(videos: str) -> list[VideoItem]:
    """Lists the videos of one source; see `read_source`.

    Raises:
        ValueError: nothing is there, the list is malformed (its line is named), it holds no video,
            or one that is remote.
    """
    source = read_source(videos)
    if source.problem:
        raise ValueError(f"videos={videos}: {source.problem}")
    for item in source.items:
        if item.remote is not None:
            raise ValueError(f"{videos}: names {item.address}; only indexing reads URLs")
    return source.items


def read_source(videos: str, *, images: bool = False) -> Source:
    """Lists the videos of one source; where there are none, the source says why.

    Args:
        videos: a folder (searched recursively for files with a video's suffix, hidden ones passed
            over), a video or image file, a glob, a `.txt` with a path a line, or a `.jsonl` with
            an object a line: `video` (or `image`), optional `captions`, and any further metadata.
            Paths inside a list are relative to the list.
        images: take the photos of a folder too.

    Raises:
        ValueError: the list is malformed (its line is named).
    """
    if not videos:
        raise ValueError("videos is empty: name a folder, a file, a glob, a .txt or a .jsonl")
    path = Path(videos)
    absolute = Path(os.path.abspath(path))
    is_list = path.suffix.lower() in LIST_SUFFIXES
    scope = absolute.parent if is_list else absolute  # a list that is away speaks for its folder
    source = Source(videos, absolute.parent, problem="no such file or folder", scope=scope)
    try:
        if path.is_dir():
            suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
            walk = walk_folder(absolute, suffixes)
            items = [VideoItem(key, absolute / key) for key in walk.files]
            source = Source(videos, absolute, items, walk.problem, walk, absolute)
        elif path.exists():
            items = read_list(path) if is_list else [VideoItem(path.name, absolute)]
            above, marker, _ = videos.partition("/./")
            root = Path(os.path.abspath(above)) if marker and not is_list else absolute.parent
            source = Source(videos, root, items, scope=None if is_list else absolute)
        elif glob.has_magic(videos):
            source = _from_glob(videos)
    except OSError as error:
        return replace(source, problem=f"cannot be read ({error.strerror})")
    if not source.items and not source.problem:
        return replace(source, problem="holds no video")
    return source


def merge_metadata(first: VideoItem, second: VideoItem) -> VideoItem:
    """Merges two items of one video, and their captions, as MSR-VTT's lists need."""
    if not second.is_described:
        return first
    if not first.is_described:
        return replace(first, metadata=second.metadata, is_described=True)
    captions = unique([*first.captions, *second.captions])
    metadata = {**first.metadata, "captions": captions} if captions else first.metadata
    return replace(first, metadata=metadata)


def passed_over(sources: Sequence[Source]) -> PassedOver:
    """Returns the files in the folders that are no videos."""
    found = PassedOver()
    for source in sources:
        if source.walk is not None:
            found.update(source.walk.passed_over)
    return found


def read_list(
    path: Path,
    *,
    name: str = "",
    locate: Callable[[str, dict | None], VideoItem] | None = None,
) -> list[VideoItem]:
    """Reads a `.txt` or `.jsonl`; a video that it names again is taken once.

    Args:
        name: of the list in messages; default: its path.
        locate: makes an item of a name in the list and its metadata; by default names are paths
            relative to the list, or URLs.

    Raises:
        ValueError: the list is malformed (its line is named).
        OSError: it cannot be read.
    """
    name, locate = name or str(path), locate or partial(_listed, path)
    if not path.is_file():  # a FIFO would be waited for
        return [VideoItem(path.name, Path(os.path.abspath(path)))]
    if path.suffix.lower() == ".jsonl":
        return _without_repeats(_from_jsonl(path, name, locate=locate))
    lines = [line.strip() for line in _read_lines(path)]
    named = [line for line in lines if line and not line.startswith("#")]
    return _without_repeats([locate(line, None) for line in named])


def glob_root(pattern: str) -> Path:
    """Returns the fixed part of a glob: the folder that all it matches lies below."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])


def _from_glob(pattern: str) -> Source:
    root = glob_root(pattern)
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    found = [
        Path(match)
        for match in sorted(glob.glob(pattern, recursive=True))
        if Path(match).suffix.lower() in suffixes and Path(match).is_file()
    ]
    items = [
        VideoItem(path.relative_to(root).as_posix(), Path(os.path.abspath(path))) for path in found
    ]
    absolute = Path(os.path.abspath(root))
    return Source(pattern, absolute, items, scope=absolute)


def _from_jsonl(
    path: Path, name: str, *, locate: Callable[[str, dict | None], VideoItem]
) -> list[VideoItem]:
    items = []
    reader = CaptionReader(name)
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            record = strict_json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is not JSON ({error})") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: must be an object with `video`, is {line.strip()[:60]!r}")
        video = record.pop("video", None) or record.pop("image", None)
        if not isinstance(video, str) or not video:
            raise ValueError(f"{where}: the key `video` is missing or is not a path")
        captions = unique(reader.read(record.pop("captions", None), f"line {number}"))
        if captions:
            record["captions"] = captions
        items.append(locate(video, record))
    reader.report()
    return items


def remote_item(url: str, metadata: dict | None = None) -> VideoItem:
    """Returns the video at a URL, which is its key until its root is known."""
    shown = public_url(url)
    remote = RemoteObject(shown, request_url="" if shown == url else url)
    return VideoItem(
        shown,
        Path(remote.cached_name()),
        metadata or {},
        is_described=metadata is not None,
        remote=remote,
    )


def _listed(list_path: Path, name: str, metadata: dict | None = None) -> VideoItem:
    if is_url(name):
        return remote_item(name, metadata)
    if name.startswith(("~", "$")) and not os.path.lexists(list_path.parent / name):
        name = os.path.expanduser(os.path.expandvars(name))
    path = Path(os.path.abspath(list_path.parent / name))
    key = Path(os.path.normpath(name)).as_posix()
    return VideoItem(key, path, metadata or {}, is_described=metadata is not None)


def _without_repeats(items: list[VideoItem]) -> list[VideoItem]:
    """Keeps one item for each key."""
    by_key: dict[str, VideoItem] = {}
    for item in items:
        first = by_key.setdefault(item.key, item)
        if first is not item:
            by_key[item.key] = merge_metadata(first, item)
    if len(by_key) < len(items):
        logger.info("%d videos are listed more than once", len(items) - len(by_key))
    return list(by_key.values())


def _read_lines(path: Path) -> list[str]:
    try:
        # Not `splitlines`, which also cuts at characters that JSON allows inside a string.
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text (byte {error.start})") from error
