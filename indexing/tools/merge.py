"""`python -m indexing.merge sources=[DIR,DIR] index=DIR`: brings indexes together.

Each machine of several indexes its share of a collection; the embeddings are then copied, not made
again.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from reelseek.configs import command_line
from reelseek.configs.schema import MergeConfig
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.identity import make_root_id
from reelseek.indexing.store.manifest import Manifest, check_settings
from reelseek.indexing.store.texts import SOURCES
from reelseek.indexing.store.videos import NewVideo, VideoRecord
from reelseek.indexing.writer import IndexWriter

USAGE = """usage: python -m indexing.merge sources=[DIR,DIR] index=DIR [prefix=true]

Adds all videos of some indexes to one; made with the same model, sampling and segments. The last
line on stdout is a JSON object."""


def merge_indexes(sources: list[Path], folder: Path, *, prefix: bool = False) -> tuple[int, int]:
    """Adds the videos of some indexes to one.

    Args:
        sources: folders of indexes; they are only read.
        folder: of the index to add to, made if missing.
        prefix: put the name of a source's folder before its keys.

    Returns:
        How many videos were added, and how many were there already with the same content.

    Raises:
        ValueError: a source is not an index.
        IndexMismatchError: they were not built alike.
    """
    first = Manifest.read(sources[0])
    for source in sources:
        if source.resolve() == folder.resolve():
            raise ValueError(f"index={folder}: is one of the sources; name another folder")
        Manifest.read(source)
    with IndexWriter(folder, first.settings) as writer:
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
    """The roots of an index, as others join them.

    A root of another index is one of these where the two have a video in common, and none that
    differs. Else it stays apart, even if it has the same path, as folders of two machines may.
    """

    def __init__(self, records: Iterable[VideoRecord]) -> None:
        self._contents: dict[str, dict[str, str]] = {}  # by root and key
        self._paths: dict[str, str] = {}
        for record in records:
            self.add(record)

    def name_of(self, records: Sequence[VideoRecord], path: str) -> str:
        """What the root of these videos, which all have the same one, is called here."""
        same_path = [known for known, its_path in self._paths.items() if its_path == path]
        for known in dict.fromkeys([records[0].root, *same_path]):
            if self._is_same(known, records):
                return known
        name, number = records[0].root, 0
        while name in self._contents:
            name, number = make_root_id(path, number), number + 1
        return name

    def add(self, record: VideoRecord) -> bool:
        """Adds a video; False where it is there already."""
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
    """Reads one index, to add its videos to another."""

    def __init__(self, source: Path, writer: IndexWriter) -> None:
        manifest = Manifest.read(source)
        check_settings(manifest.settings, writer.manifest.settings, writer.folder)
        self._writer = writer
        self._embedding_dim = manifest.settings.embedding_dim
        self._catalogue = Catalogue(source / CATALOGUE_NAME, read_only=True)
        self._parts = EmbeddingParts(source / EMBEDDINGS_NAME, embedding_dim=self._embedding_dim)
        self.records = list(self._catalogue.scan())
        self._roots_and_keys: dict[int, tuple[str, str]] = {}  # of its videos in the other index
        self._new: list[VideoRecord] = []

    def __enter__(self) -> "IndexCopy":
        return self

    def __exit__(self, *error: object) -> None:
        self._catalogue.close()

    def rename(self, prefix: str, roots: _MergedRoots) -> None:
        """Settles what its videos are to be called, and which of them are new."""
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
        """Adds the videos that are new; returns how many."""
        for record in self._new:
            embeddings = np.empty((0, self._embedding_dim), np.float32)
            if record.location is not None:
                embeddings = self._parts.read_run(*record.location, record.num_rows)
            values = {field.name: getattr(record, field.name) for field in fields(NewVideo)}
            self._writer.add(NewVideo(**values), embeddings)
        return len(self._new)

    def add_texts(self) -> None:
        """Adds the texts of its videos to those of them that have none of the same source."""
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


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, MergeConfig)
    for source in config.sources:
        if not Manifest.exists(Path(source)):
            found = "is not an index" if Path(source).is_dir() else "no such folder"
            raise ValueError(f"sources={source}: {found}; name folders of indexes: [DIR,DIR]")
    added, known = merge_indexes(
        [Path(source) for source in config.sources], Path(config.index), prefix=config.prefix
    )
    command_line.print_json({"added": added, "known": known})
