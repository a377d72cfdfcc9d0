"""The folder of an index -> what reads or changes it, whole or in shards."""

from pathlib import Path
from typing import TypeAlias

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.shards.catalogue import ShardedCatalogue
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import IndexSettings, Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.indexing.writer import IndexWriter

AnyWriter: TypeAlias = IndexWriter | ShardedWriter
AnyCatalogue: TypeAlias = Catalogue | ShardedCatalogue


class IndexEmbeddings:
    """Reads the embeddings of an index, whole or in shards.

    Args:
        folder: of the index.
        manifest: of the index.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        dim = manifest.settings.embedding_dim
        self._parts = [
            EmbeddingParts(shard / EMBEDDINGS_NAME, embedding_dim=dim)
            for shard in manifest.shard_manifests(folder)
        ]

    def of(self, record: VideoRecord) -> EmbeddingParts:
        """Returns the parts that hold the embeddings of a record of `open_catalogue`."""
        return self._parts[record.id % len(self._parts)]


def open_writer(
    folder: Path, settings: IndexSettings | None = None, *, num_shards: int | None = None
) -> AnyWriter:
    """Opens an index for changing.

    Args:
        folder: of the index; made if missing.
        settings: of the index; None for those of an existing one.
        num_shards: of a new index, default 1; an existing one must have as many.

    Raises:
        ValueError: the folder cannot hold an index, another process is writing it, or it has
            another number of shards.
        IndexMismatchError: the index was built with other settings.
    """
    if not Manifest.exists(folder):
        if num_shards is None or num_shards == 1:
            return IndexWriter(folder, settings)
        return ShardedWriter(folder, settings, num_shards=num_shards)
    manifest = Manifest.read(folder)
    check_num_shards(manifest, folder, num_shards)
    if manifest.sharding is None:
        return IndexWriter(folder, settings)
    return ShardedWriter(folder, settings)


def check_num_shards(manifest: Manifest, folder: Path, num_shards: int | None) -> None:
    """Raises a ValueError where an index has another number of shards than was asked for."""
    has = len(manifest.shard_manifests(folder))
    if num_shards is not None and num_shards != has:
        raise ValueError(
            f"shards={num_shards}: index={folder} has {has}; leave shards out, or divide it anew: "
            f"reelseek shard --index {folder} --shards {num_shards}"
        )


def open_catalogue(folder: Path) -> AnyCatalogue:
    """Opens the catalogue of an index for reading.

    Raises:
        ValueError: the folder is not an index, or is damaged.
    """
    manifest = Manifest.read(folder)
    catalogues: list[Catalogue] = []
    try:
        for shard in manifest.shard_manifests(folder):
            catalogues.append(Catalogue(shard / CATALOGUE_NAME, read_only=True))
    except BaseException:
        for catalogue in catalogues:
            catalogue.close()
        raise
    return catalogues[0] if manifest.sharding is None else ShardedCatalogue(catalogues)
