"""Sources of videos and the entries of an index -> which video is which, and what became of the
others.

A video belongs to a root, the folder that its key is relative to. A file that the index knows stays
the same video, whatever folder, list or link names it now; a new one belongs to the nearest root
above it. A root that was moved as a whole is recognised by its files.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from reelseek.indexing.sources.collection import Source, VideoItem, merge_metadata
from reelseek.indexing.sources.killable import map_killably
from reelseek.indexing.store.dates import without_capture_date
from reelseek.indexing.store.identity import make_root_id
from reelseek.indexing.store.videos import VideoRecord

_Status: TypeAlias = os.stat_result | Exception | None
_MOVED_FRACTION = 0.5  # of a root's files, that make another folder this root


@dataclass
class Collection:
    """The videos of a run, and the state of the others in the index.

    Attributes:
        items: each video once, under its root and key, its path as the index has it.
        moved_roots: new paths of roots, by id.
        away: videos that cannot be looked at, with the reason; they are kept.
        removed: videos to delete: no longer in a given folder that can be read, or with `prune`,
            listed by no source.
        absent: videos of the same roots that no list names any more and that are not on disk; the
            same content elsewhere is one of them that was moved.
        unreadable: folders that cannot be read, with the reason.
        mounts: folders at which another file system was seen.
    """

    items: list[VideoItem] = field(default_factory=list)
    moved_roots: dict[str, str] = field(default_factory=dict)
    away: list[tuple[VideoRecord, str]] = field(default_factory=list)
    removed: list[VideoRecord] = field(default_factory=list)
    absent: list[VideoRecord] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    mounts: set[str] = field(default_factory=set)


class Roots:
    """The roots of an index, and those of the videos to add."""

    def __init__(self, records: Iterable[VideoRecord]) -> None:
        self._ids: dict[str, str] = {}  # by path
        self._of_path: dict[str, VideoRecord] = {}
        self._folders: set[str] = set()  # that hold videos, directly or further below
        self._new_folders: set[str] = set()
        self._real: dict[Path, Path] = {}
        for record in records:
            self._of_path.setdefault(record.path, record)
            self._ids.setdefault(record.root_path, record.root)
            for folder in Path(record.path).parents:
                if str(folder) in self._folders:
                    break
                self._folders.add(str(folder))

    def root_and_key(self, item: VideoItem, source_root: Path) -> VideoItem:
        """Returns the video with its root and key in the index."""
        path = self.canonical(item.path)
        if known := self._of_path.get(str(path)):
            metadata = item.metadata
            if not item.is_described:
                metadata = without_capture_date(known.metadata)
            return replace(item, root=known.root, key=known.key, path=path, metadata=metadata)
        root = self._above(path)
        if root is None:
            root = source_root if path.is_relative_to(source_root) else path.parent
            self.add(root)
        key = path.relative_to(root).as_posix()
        return replace(item, root=self._ids[str(root)], key=key, path=path)

    def add_folder(self, folder: Path) -> None:
        """Makes a folder a root, unless it holds videos of the index or lies in a new root."""
        is_outermost = self._new_folders.isdisjoint(map(str, folder.parents))
        if is_outermost and str(folder) not in self._folders:
            self.add(folder)
            self._new_folders.add(str(folder))

    def add(self, path: Path) -> None:
        """Makes a new root, unless it is one."""
        if str(path) in self._ids:
            return
        number, taken = 0, set(self._ids.values())
        while (made := make_root_id(str(path), number)) in taken:
            number += 1
        self._ids[str(path)] = made
        self._folders.add(str(path))

    def canonical(self, path: Path) -> Path:
        """Returns the path by which the index knows a file below linked folders; else the path
        itself."""
        if self._is_known(path):
            return path
        if path.parent not in self._real:
            self._real[path.parent] = Path(os.path.realpath(path.parent))
        real = self._real[path.parent] / path.name
        return real if self._is_known(real) else path

    def canonical_folder(self, folder: Path) -> Path:
        """Does the same for a folder, which may be a link itself."""
        return self.canonical(folder / "any").parent

    def _is_known(self, path: Path) -> bool:
        return str(path) in self._of_path or str(path) in self._ids or self._above(path) is not None

    def _above(self, path: Path) -> Path | None:
        return next((folder for folder in path.parents if str(folder) in self._ids), None)


def collect(
    sources: Sequence[Source],
    records: Sequence[VideoRecord],
    *,
    mounts: Iterable[str] = (),
    prune: bool = False,
    timeout_seconds: float = 120.0,
) -> Collection:
    """Matches the sources with the entries of the index.

    Args:
        records: all that the index holds.
        mounts: folders at which earlier runs have seen another file system.
        prune: remove videos that no source lists, too, unless they cannot be looked at.
        timeout_seconds: a file that does not answer for so long is away.

    Raises:
        ValueError: no source is there or known to the index.
    """
    collection = Collection()
    collection.moved_roots = _moved_roots(sources, records, timeout_seconds)
    records = [_moved(record, collection.moved_roots) for record in records]
    roots = Roots(records)
    # The outermost first, so that a folder in a folder that was given too is no root of its own.
    folders = [source for source in sources if source.is_folder and not source.problem]
    for source in sorted(folders, key=lambda source: len(source.root.parts)):
        roots.add_folder(roots.canonical_folder(source.root))
    by_root_and_key: dict[tuple[str, str], VideoItem] = {}
    for source in sources:
        for item in source.items:
            placed = roots.root_and_key(item, source.root)
            known = by_root_and_key.get(placed.root_and_key)
            by_root_and_key[placed.root_and_key] = (
                placed if known is None else merge_metadata(known, placed)
            )
    scopes = [_Scope(source, roots, mounts, collection) for source in sources]
    unlisted = [record for record in records if record.root_and_key not in by_root_and_key]
    touched = {root for root, _ in by_root_and_key}
    elsewhere = _roots_with_one_path(records) - touched
    scope_of = {
        record.id: next((scope for scope in scopes if scope.covers(record)), None)
        for record in unlisted
    }
    looks = _look(
        [r.path for r in unlisted if _is_looked_at(r, scope_of[r.id], touched)],
        timeout_seconds,
    )
    for record in unlisted:
        scope, status = scope_of[record.id], looks.get(record.path)
        is_absent = isinstance(status, FileNotFoundError | NotADirectoryError)
        if scope is not None and record.root in elsewhere and not prune:
            reason = f"{record.root_path} holds the videos of another root of this path"
            collection.away.append((record, reason))
        elif scope is not None and (reason := scope.why_away(record, status, prune=prune)):
            collection.away.append((record, reason))
        elif prune or (scope is not None and is_absent):
            collection.removed.append(record)
        elif scope is not None and scope.is_folder and os.path.isfile(record.path):
            # Files that the folder holds and does not list, such as photos, stay.
            item = VideoItem(record.key, Path(record.path), record.metadata, root=record.root)
            by_root_and_key[record.root_and_key] = item
        elif scope is None and is_absent and Path(record.path).parent.is_dir():
            collection.absent.append(record)
    collection.items = list(by_root_and_key.values())
    if not collection.items and not collection.away:
        for source in sources:
            if source.problem:
                raise ValueError(f"videos={source.name}: {source.problem}")
    return collection


class _Scope:
    """Decides about the videos below a source that it does not list."""

    def __init__(
        self, source: Source, roots: Roots, mounts: Iterable[str], collection: Collection
    ) -> None:
        self._source = source
        self._scope = source.scope
        if source.scope is not None and not source.is_silent:
            self._scope = roots.canonical_folder(source.scope)
        self._lost: dict[str, str] = {}  # folders below which nothing can be seen, and why
        if source.walk is not None and self._scope is not None:
            for below, reason in source.walk.unreadable.items():
                folder = self._scope / below
                collection.unreadable[folder] = reason
                self._lost[str(folder)] = f"{folder} cannot be read ({reason})"
            for below in source.walk.dangling:
                self._lost[str(self._scope / below)] = f"{self._scope / below} leads nowhere"
            mounted = {str(self._scope / below) for below in source.walk.mounts}
            collection.mounts |= mounted
            for mount in set(mounts) - mounted:
                if Path(mount).is_relative_to(self._scope):
                    self._lost[mount] = f"{mount} is not mounted"

    def covers(self, record: VideoRecord) -> bool:
        return self._scope is not None and Path(record.path).is_relative_to(self._scope)

    def why_away(self, record: VideoRecord, status: _Status, *, prune: bool) -> str:
        """Returns why nobody can tell whether a video still exists; empty if that can be told.

        Args:
            status: of its file, or the error; None if nobody looked.
        """
        for folder in Path(record.path).parents:
            if str(folder) in self._lost:
                return self._lost[str(folder)]
        # A folder without any video may be the mount point of a drive that is away.
        is_away = bool(self._source.problem) and not (prune and self._is_empty)
        if status is None or isinstance(status, FileNotFoundError | NotADirectoryError):
            return f"{self._source.name}: {self._source.problem}" if is_away else ""
        if isinstance(status, Exception):
            return f"cannot be read ({getattr(status, 'strerror', None) or status})"
        return ""

    @property
    def is_folder(self) -> bool:
        return self._source.is_folder

    @property
    def is_silent(self) -> bool:
        return self._source.is_silent

    @property
    def _is_empty(self) -> bool:
        walk = self._source.walk
        return walk is not None and not walk.problem


def _roots_with_one_path(records: Sequence[VideoRecord]) -> set[str]:
    """Returns roots that share their path with another, such as those of two machines whose indexes
    were merged."""
    roots: dict[str, set[str]] = {}
    for record in records:
        roots.setdefault(record.root_path, set()).add(record.root)
    return {root for same in roots.values() if len(same) > 1 for root in same}


def _is_looked_at(record: VideoRecord, scope: _Scope | None, touched: set[str]) -> bool:
    return record.root in touched if scope is None else not scope.is_silent


def _look(paths: Sequence[str], timeout_seconds: float) -> dict[str, _Status]:
    answers = map_killably(os.lstat, paths, timeout_seconds=timeout_seconds)
    return dict(zip(paths, answers, strict=True))


def _moved(record: VideoRecord, moved_roots: dict[str, str]) -> VideoRecord:
    path = moved_roots.get(record.root)
    return record if path is None else replace(record, path=str(Path(path, record.key)))


def _moved_roots(
    sources: Sequence[Source], records: Sequence[VideoRecord], timeout_seconds: float
) -> dict[str, str]:
    """Returns roots that have left their place, and whose files are in a given folder."""
    of_root: dict[str, list[VideoRecord]] = {}
    for record in records:
        of_root.setdefault(record.root, []).append(record)
    old = {root: own[0].root_path for root, own in of_root.items()}
    moved: dict[str, str] = {}
    for source in sources:
        new = str(source.root)
        if source.problem or new in moved.values():
            continue
        found = _num_found(records, new, timeout_seconds)
        if any(found.get(root) for root, path in old.items() if path == new):
            continue  # it is where it was
        for root, own in of_root.items():
            if root in moved or found.get(root, 0) < max(1, _MOVED_FRACTION * len(own)):
                continue
            if not _num_found(own, old[root], timeout_seconds):
                moved[root] = new
                break
    return moved


def _num_found(
    records: Sequence[VideoRecord], root_path: str, timeout_seconds: float
) -> Counter[str]:
    """Counts, for each root, the videos that have a file of their key and size below a folder."""
    paths = [str(Path(root_path, record.key)) for record in records]
    statuses = map_killably(os.stat, paths, timeout_seconds=timeout_seconds)
    return Counter(
        record.root
        for record, status in zip(records, statuses, strict=True)
        if isinstance(status, os.stat_result) and status.st_size == record.signature.size_bytes
    )
