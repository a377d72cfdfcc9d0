"""`python -m indexing.merge sources=[DIR,DIR] index=DIR`: merges indexes.

For collections that several machines index in parts: copies the embeddings instead of making them
again.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.schema import MergeConfig
from reelseek.indexing.shards.opening import (
    AnyWriter,
    IndexEmbeddings,
    open_catalogue,
    open_writer,
)
from reelseek.indexing.store.identity import make_root_id
from reelseek.indexing.store.manifest import Manifest, check_settings
from reelseek.indexing.store.texts import SOURCES
from reelseek.indexing.store.videos import NewVideo, VideoRecord

USAGE = """usage: python -m indexing.merge sources=[DIR,DIR] index=DIR [prefix=true]

Adds all videos of some indexes to one; made with the same model, sampling and segments. The last
line on stdout is a JSON object."""


def merge_indexes(sources: list[Path], folder: Path, *, prefix: bool = False) -> tuple[int, int]:
    """Adds the videos of several indexes to one.

    Args:
        sources: folders of indexes; they are only read.
        folder: of the index to add to, made if missing.
        prefix: put the name of a source's folder before its keys.

    Returns:
        The number of added videos, and of those that were there with the same content.

    Raises:
        ValueError: a source is not an index.
        IndexMismatchError: they were built with different settings.
    """
    first = Manifest.read(sources[0])
    for source in sources:
        if source.resolve() == folder.resolve():
            raise ValueError(f"index={folder}: is one of the sources; name another folder")
        Manifest.read(source)
    with open_writer(folder, first.settings) as writer:
        if not writer.manifest.frame_spread:
            writer.set_frame_spread(first.frame_spread)
        roots = _MergedRoots(writer.catalogue.scan())
        with ExitStack() as stack:
            copies = [stack.enter_context(IndexCopy(source, writer)) for source in sources]
            for source, copy in zip(sources, copies, strict=True):
                copy.rename(f"{source.resolve().name}/" if prefix else "", roots)
            added = sum(copy.add() for copy in copies)
            writer.save()
            for copy in copies:
                copy.add_texts()
        writer.publish()
    return added, sum(len(copy.records) for copy in copies) - added


class _MergedRoots:
    """The roots of an index that others are merged into.

    A root of another index is the same as one of these if they have a video in common, and no video
    differs. Otherwise it stays apart, even with the same path, as folders of two machines may have.
    """

    def __init__(self, records: Iterable[VideoRecord]) -> None:
        self._contents: dict[str, dict[str, str]] = {}  # by root and key
        self._paths: dict[str, str] = {}
        for record in records:
            self.add(record)

    def name_of(self, records: Sequence[VideoRecord], path: str) -> str:
        """Returns the name here of the one root of these videos."""
        same_path = [known for known, its_path in self._paths.items() if its_path == path]
        for known in dict.fromkeys([records[0].root, *same_path]):
            if self._is_same(known, records):
                return known
        name, number = records[0].root, 0
        while name in self._contents:
            name, number = make_root_id(path, number), number + 1
        return name

    def add(self, record: VideoRecord) -> bool:
        """Adds a video; returns False for a known one."""
        own = self._contents.setdefault(record.root, {})
        self._paths.setdefault(record.root, record.root_path)
        is_new = own.get(record.key) != record.signature.content_sha256
        own[record.key] = record.signature.content_sha256
        return is_new

    def _is_same(self, root: str, records: Sequence[VideoRecord]) -> bool:
        own = self._contents.get(root)
        if own is None:
            return False
        shared = [record for record in records if record.key in own]
        differs = any(own[record.key] != record.signature.content_sha256 for record in shared)
        return not differs and (bool(shared) or not root)  # of an unnamed root nothing is known


class IndexCopy:
    """Copies the videos of one index into another."""

    def __init__(self, source: Path, writer: AnyWriter) -> None:
        manifest = Manifest.read(source)
        check_settings(manifest.settings, writer.manifest.settings, writer.folder)
        self._writer = writer
        self._embedding_dim = manifest.settings.embedding_dim
        self._catalogue = open_catalogue(source)
        self._embeddings = IndexEmbeddings(source, manifest)
        self.records = list(self._catalogue.scan())
        self._roots_and_keys: dict[int, tuple[str, str]] = {}  # of its videos in the other index
        self._new: list[VideoRecord] = []

    def __enter__(self) -> "IndexCopy":
        return self

    def __exit__(self, *error: object) -> None:
        self._catalogue.close()

    def rename(self, prefix: str, roots: _MergedRoots) -> None:
        """Chooses the roots and keys of its videos, and finds the new ones."""
        by_root: dict[str, list[VideoRecord]] = {}
        for record in self.records:
            by_root.setdefault(record.root, []).append(record)
        for own in by_root.values():
            renamed = [replace(record, key=prefix + record.key) for record in own]
            root = roots.name_of(renamed, own[0].root_path)
            for record in renamed:
                placed = replace(record, root=root)
                self._roots_and_keys[record.id] = placed.root_and_key
                if roots.add(placed):
                    self._new.append(placed)

    def add(self) -> int:
        """Adds the new videos; returns their number."""
        for record in self._new:
            embeddings = np.empty((0, self._embedding_dim), np.float32)
            if record.location is not None:
                parts = self._embeddings.of(record)
                embeddings = parts.read_run(*record.location, record.num_rows)
            values = {field.name: getattr(record, field.name) for field in fields(NewVideo)}
            self._writer.add(NewVideo(**values), embeddings)
        return len(self._new)

    def add_texts(self) -> None:
        """Adds texts to videos that have none of the same source."""
        catalogue = self._writer.catalogue
        ids = {record.root_and_key: record.id for record in catalogue.scan()}
        left = {source: set(catalogue.without_texts(source)) for source in SOURCES}
        there = {record.id: ids[self._roots_and_keys[record.id]] for record in self.records}
        entries = (
            replace(entry, video_id=there[entry.video_id])
            for entry in self._catalogue.text_entries(list(there))
            if there[entry.video_id] in left[entry.source]
        )
        if first := next(entries, None):
            catalogue.add_texts(chain([first], entries))


def main(config: MergeConfig) -> None:
    for source in config.sources:
        if not Manifest.exists(Path(source)):
            found = "is not an index" if Path(source).is_dir() else "no such folder"
            raise ValueError(f"sources={source}: {found}; name folders of indexes: [DIR,DIR]")
    added, known = merge_indexes(
        [Path(source) for source in config.sources], Path(config.index), prefix=config.prefix
    )
    command_line.print_json({"added": added, "known": known})
