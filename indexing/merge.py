"""`python -m indexing.merge sources=[DIR,DIR] index=DIR`: brings indexes together.

Each machine of several indexes its share of a collection; the embeddings are then copied, not made
again.
"""

from contextlib import ExitStack
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from configs import command_line
from configs.schema import MergeConfig
from indexing.catalogue import Catalogue, NewVideo, VideoRecord
from indexing.embeddings import EmbeddingParts
from indexing.manifest import Manifest, check_settings
from indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from indexing.timed_texts import SOURCES
from indexing.writer import IndexWriter

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
        ValueError: two videos of different content have one key, or a source is not an index.
        IndexMismatchError: they were not built alike.
    """
    first = Manifest.read(sources[0])
    for source in sources:
        if source.resolve() == folder.resolve():
            raise ValueError(f"index={folder}: is one of the sources; name another folder")
        Manifest.read(source)
    known = 0
    with IndexWriter(folder, first.settings) as writer:
        if not writer.manifest.frame_spread:
            writer.set_frame_spread(first.frame_spread)
        there = {
            key: record.stamp.content_sha256 for key, record in writer.catalogue.records().items()
        }
        with ExitStack() as stack:
            copies = [stack.enter_context(IndexCopy(source, writer)) for source in sources]
            wanted: list[tuple[IndexCopy, VideoRecord, str]] = []  # all is checked before any copy
            for source, copy in zip(sources, copies, strict=True):
                for record in copy.records:
                    key = f"{source.resolve().name}/{record.key}" if prefix else record.key
                    content = record.stamp.content_sha256
                    if there.get(key) == content:
                        known += 1
                    elif key in there:
                        raise ValueError(
                            f"sources: {source} has another video {key} than an index before it; "
                            + ("rename its folder" if prefix else "use prefix=true")
                        )
                    else:
                        wanted.append((copy, record, key))
                        there[key] = content
            for copy, record, key in wanted:
                copy.add(record, key)
            writer.save()
            for source, copy in zip(sources, copies, strict=True):
                copy.add_texts(f"{source.resolve().name}/" if prefix else "")
        writer.publish()
    return len(wanted), known


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

    def __enter__(self) -> "IndexCopy":
        return self

    def __exit__(self, *error: object) -> None:
        self._catalogue.close()

    def add(self, record: VideoRecord, key: str) -> None:
        embeddings = np.empty((0, self._embedding_dim), np.float32)
        if record.location is not None:
            embeddings = self._parts.read_run(*record.location, record.num_rows)
        values = {field.name: getattr(record, field.name) for field in fields(NewVideo)}
        self._writer.add(replace(NewVideo(**values), key=key), embeddings)

    def add_texts(self, prefix: str) -> None:
        """Adds the texts of its videos to those of them that have none of the same source."""
        catalogue = self._writer.catalogue
        ids = {key: record.id for key, record in catalogue.records().items()}
        left = {source: set(catalogue.without_texts(source)) for source in SOURCES}
        there = {record.id: ids[prefix + record.key] for record in self.records}
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
    added, known = merge_indexes(
        [Path(source) for source in config.sources], Path(config.index), prefix=config.prefix
    )
    command_line.print_json({"added": added, "known": known})


if __name__ == "__main__":
    command_line.run(main, config_name="merge", usage=USAGE)
