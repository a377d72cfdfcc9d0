"""The vectors of all shards -> quantisers that every shard fills with its own.

Trained on vectors spread over all shards, as many as one shard has, and kept empty beside the
manifest: a new shard costs only the adding. Where every shard is small nothing is trained.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import faiss
import numpy as np

from reelseek.indexing.publishing import POSTPONED
from reelseek.indexing.store.manifest import LEVELS, FaissOptions, Manifest, QuantiserInfo
from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.builder import (
    GROWTH,
    Quantiser,
    level_tables,
    needs_training,
    sample_queries,
)
from reelseek.indexing.vectors.shard import file_checksum, locations, write_index
from reelseek.indexing.writer import IndexWriter


class SharedQuantisers:
    """The quantisers of a sharded index.

    Args:
        folder: of the index.
        manifest: that names those there are.
        shards: writers of all shards, whose videos are saved.
        options: of the FAISS indexes from now on.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        shards: Sequence[IndexWriter],
        options: FaissOptions,
    ) -> None:
        assert manifest.sharding is not None
        self._folder = folder
        self._shards = shards
        self._options = options
        self._generation = manifest.generation + 1
        has_low_recall = any(s.manifest.rebuild not in ("", POSTPONED) for s in shards)
        self._is_outdated = options != manifest.faiss or has_low_recall
        self.infos = dict(manifest.sharding.quantisers)
        self.opened: dict[str, Quantiser] = {}

    def prepare(self, *, train: bool, rebuild: bool) -> None:
        """Opens the quantisers that shards need, and trains them where there are none, where their
        options have changed or recall has fallen, or where the shards have doubled since.

        Args:
            train: whether training is allowed, which takes minutes for a large index.
            rebuild: train them in any case.
        """
        counts = [shard.catalogue.count_vectors() for shard in self._shards]
        for level in LEVELS:
            of_level = [count[level] for count in counts]
            if not any(needs_training(count, self._options.kind) for count in of_level):
                self.infos.pop(level, None)
                continue
            info = self.infos.get(level)
            is_outdated = rebuild or self._is_outdated or info is None
            if info is not None and not is_outdated and sum(of_level) <= GROWTH * info.trained_on:
                with suppress(OSError, ValueError, RuntimeError):  # damaged: is trained again
                    self.opened[level] = self._read(info)
                    continue
            if train:
                self._train(level)

    def _read(self, info: QuantiserInfo) -> Quantiser:
        path = self._folder / info.name
        if file_checksum(path) != info.checksum:
            raise ValueError(f"{path} is damaged")
        return Quantiser(info.kind, faiss.read_index(str(path)))

    def _train(self, level: str) -> None:
        owners, rows = self._sample(level)
        dim = self._shards[0].parts.embedding_dim

        def block(first: int, last: int) -> np.ndarray:
            vectors = np.empty((last - first, dim), np.float32)
            for position in np.unique(owners[first:last]).tolist():
                own = owners[first:last] == position
                of_shard = self._shards[position].parts
                vectors[own] = of_shard.read(locations(rows[first:last][own]))
            return vectors

        kind = faiss_tuning.FLAT if self._options.kind.lower() == "flat" else self._options.kind
        if kind == "auto":
            limit = self._options.memory_bytes // len(self._shards)
            kind = faiss_tuning.choose_factory(
                len(rows),
                block,
                recall=self._options.recall,
                memory_bytes=limit if level == "moment" else 0,
                sample_queries=sample_queries(self._shards[0].folder, embedding_dim=dim),
            )
        index = faiss_tuning.trained(kind, len(rows), block, embedding_dim=dim)
        name = f"quantiser-{level}-{self._generation:08d}.faiss"
        checksum = write_index(self._folder / name, index)
        total = sum(shard.catalogue.count_vectors()[level] for shard in self._shards)
        self.infos[level] = QuantiserInfo(name, kind, total, checksum)
        self.opened[level] = Quantiser(kind, index)

    def _sample(self, level: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of the tables, one of each N of N shards, and the shards they are of."""
        tables = [level_tables(shard.catalogue.scan())[level] for shard in self._shards]
        owners = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        stride = len(tables)
        return owners[::stride], np.concatenate(tables)[::stride]
