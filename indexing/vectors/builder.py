"""Tables of what is to be searchable -> the FAISS shards of a level.

New rows go into the delta shard, which is small and made anew each time; when it would not be
small, the main shard takes them up. The main shard is rebuilt when it has doubled, when much of it
is deleted, or when the recall that is measured at each publishing is too low.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from reelseek.indexing.store import query_log
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import FaissOptions, LevelInfo
from reelseek.indexing.store.videos import VideoRecord
from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.shard import (
    TABLE_DTYPE,
    Shard,
    ShardInfo,
    locations,
    write_index,
    write_table,
)

_SMALL = 10_000  # vectors that are always searched exactly
# Vectors that a delta may always have: a tenth of the time to search a million.
_DELTA_MIN = 2_000
_DELTA_FRACTION = 0.005  # of the main shard, up to which the delta grows
_DELETED_FRACTION = 0.3  # of the main shard, beyond which it is rebuilt
GROWTH = 2  # since the main shard was trained, beyond which it is rebuilt
_MIN_SAMPLE_QUERIES = 32  # fewer sentences say little about recall
_MAX_SAMPLE_QUERIES = 256


@dataclass(frozen=True)
class Quantiser:
    """A trained FAISS index without vectors, and what FAISS's `index_factory` calls it."""

    kind: str
    index: faiss.Index


def needs_training(count: int, kind: str) -> bool:
    """Whether so many vectors are searched by a trained index; few are always searched exactly.

    Args:
        kind: of `FaissOptions`.
    """
    return not (count == 0 or kind.lower() == "flat" or (kind == "auto" and count <= _SMALL))


def sample_queries(folder: Path, *, embedding_dim: int) -> dict[str, np.ndarray]:
    """Returns embeddings of sentences that an index keeps, of each type that has enough to measure
    on."""
    names = {"sentences": query_log.SENTENCES, "logged": query_log.QUERIES}
    query_types = {
        query_type: query_log.read(folder, name, embedding_dim=embedding_dim)
        for query_type, name in names.items()
    }
    return {
        query_type: some[-_MAX_SAMPLE_QUERIES:]
        for query_type, some in query_types.items()
        if len(some) >= _MIN_SAMPLE_QUERIES
    }


def level_tables(records: Iterable[VideoRecord]) -> dict[str, np.ndarray]:
    """Returns the table of each level, of the videos that have embeddings, in the order of ids."""
    videos, segments = [], []
    for record in records:
        if record.location is not None:
            videos.append(_video_row(record))
            segments.append(_segment_rows(record))
    return {
        "video": np.concatenate([np.empty(0, TABLE_DTYPE), *videos]),
        "moment": np.concatenate([np.empty(0, TABLE_DTYPE), *segments]),
    }


def _video_row(record: VideoRecord) -> np.ndarray:
    assert record.location is not None
    return np.array([(record.id, 0.0, record.duration_seconds, *record.location)], TABLE_DTYPE)


def _segment_rows(record: VideoRecord) -> np.ndarray:
    assert record.location is not None
    rows = np.empty(len(record.spans), TABLE_DTYPE)
    rows["video"] = record.id
    rows["start"], rows["end"] = record.spans[:, 0], record.spans[:, 1]
    rows["part"] = record.location[0]
    rows["row"] = record.location[1] + 1 + np.arange(len(rows))
    return rows


@dataclass
class LevelBuilder:
    """Makes the shards of one level.

    Attributes:
        table: of all that is to be searchable.
        train: whether training is allowed, which takes minutes for a large index; else a main shard
            that needs it is exact for the time being.
        quantiser: to fill instead of training one.
    """

    folder: Path
    level: str
    generation: int
    parts: EmbeddingParts
    options: FaissOptions
    table: np.ndarray
    train: bool = True
    quantiser: Quantiser | None = None

    def must_rebuild(self, before: LevelInfo) -> bool:
        """Whether the main shard cannot, or should not, be extended."""
        main = self._main_table(before)
        if main is None or before.main is None:
            return True
        is_trained = before.main.kind != faiss_tuning.FLAT
        if is_trained and not self.train:
            return False
        new, deleted = self._diff(main)
        if deleted.sum() > _DELETED_FRACTION * len(main):
            return True
        if not is_trained:
            return len(new) > self._largest_delta(main)
        return len(self.table) > GROWTH * before.main.trained_on

    def rebuilt(self) -> LevelInfo:
        """Returns one main shard of all rows."""
        count = len(self.table)
        kind = self.options.kind
        if not self._needs_training or not self.train:
            kind = faiss_tuning.FLAT
        elif self.quantiser is not None:
            index = faiss.clone_index(self.quantiser.index)
            return LevelInfo(main=self._filled("main", self.table, self.quantiser.kind, index))
        elif kind == "auto":
            kind = faiss_tuning.choose_factory(
                count,
                self._block_of(self.table),
                recall=self.options.recall,
                memory_bytes=self.options.memory_bytes if self.level == "moment" else 0,
                sample_queries=self._sample_queries(),
            )
        return LevelInfo(main=self._shard("main", self.table, kind))

    def is_postponed(self, made: LevelInfo) -> bool:
        """Whether the main shard is exact only because training was not allowed."""
        is_flat = made.main is not None and made.main.kind == faiss_tuning.FLAT
        return not self.train and is_flat and self._needs_training

    @property
    def _needs_training(self) -> bool:
        return needs_training(len(self.table), self.options.kind)

    def extended(self, before: LevelInfo) -> LevelInfo:
        """Returns the main shard as it was, with the changes since."""
        main = self._main_table(before)
        assert main is not None and before.main is not None
        new, deleted = self._diff(main)
        main_info, main = self._moved(before.main, main, deleted)
        level = LevelInfo(main=main_info)
        if len(new) > self._largest_delta(main):
            level = replace(level, main=self._grown(main_info, main, new))
            deleted = np.concatenate([deleted, np.zeros(len(new), dtype=bool)])
        elif len(new):
            level = replace(level, delta=self._shard("delta", new, faiss_tuning.FLAT))
        if deleted.any():
            name = f"{self.level}-deleted-{self.generation:08d}.npy"
            checksum = write_table(self.folder / name, np.packbits(deleted, bitorder="little"))
            level = replace(level, deleted=name, deleted_checksum=checksum)
        return level

    def probed(self, level: LevelInfo) -> tuple[LevelInfo, dict[str, float]]:
        """Measures the recall of the main shard, and tunes it again where that is too low."""
        if level.main is None or level.main.kind == faiss_tuning.FLAT:
            return level, {}
        shard = Shard(self.folder, level.main, embedding_dim=self.parts.embedding_dim)
        probes = self._probes(shard.table)
        tuning = level.main.tuning
        recalls = faiss_tuning.measure_recall(shard.index, probes, tuning)
        if not tuning or min(recalls.values()) < self.options.recall:
            tuning = faiss_tuning.tune(shard.index, probes, recall=self.options.recall)
            recalls = faiss_tuning.measure_recall(shard.index, probes, tuning)
        return replace(level, main=replace(level.main, tuning=tuning)), recalls

    def _largest_delta(self, main: np.ndarray) -> int:
        return max(_DELTA_MIN, int(_DELTA_FRACTION * len(main)))

    def _main_table(self, before: LevelInfo) -> np.ndarray | None:
        """Returns None where there is no main shard, or its files are damaged."""
        if before.main is None:
            return None
        try:
            shard = Shard(self.folder, before.main, embedding_dim=self.parts.embedding_dim)
        except (FileNotFoundError, ValueError):
            return None
        return shard.table

    def _diff(self, main: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows that the main shard lacks, and a mask of its own that are deleted."""
        return (
            self.table[~np.isin(self.table["video"], main["video"])],
            ~np.isin(main["video"], self.table["video"]),
        )

    def _moved(
        self, info: ShardInfo, main: np.ndarray, deleted: np.ndarray
    ) -> tuple[ShardInfo, np.ndarray]:
        """Returns the main shard with the present locations of its embeddings."""
        table = main.copy()
        table["part"][deleted] = -1
        table[~deleted] = self.table[np.isin(self.table["video"], main["video"])]
        if (table == main).all():
            return info, main
        info = replace(info, table=self._name("main"))
        checksum = write_table(info.files(self.folder)[1], table)
        return replace(info, table_checksum=checksum), table

    def _shard(self, name: str, table: np.ndarray, kind: str) -> ShardInfo:
        """Makes a new shard of these rows."""
        index = faiss_tuning.trained(
            kind, len(table), self._block_of(table), embedding_dim=self.parts.embedding_dim
        )
        return self._filled(name, table, kind, index)

    def _filled(self, name: str, table: np.ndarray, kind: str, index: faiss.Index) -> ShardInfo:
        """Makes a new shard by adding these rows to an empty index."""
        faiss_tuning.add(index, len(table), self._block_of(table))
        name = self._name(name)
        info = ShardInfo(name, name, len(table), kind, trained_on=len(table))
        return self._written(info, index, table)

    def _grown(self, info: ShardInfo, main: np.ndarray, new: np.ndarray) -> ShardInfo:
        """Adds rows to the main shard, in the lists that it has."""
        index = faiss.read_index(str(info.files(self.folder)[0]))
        faiss_tuning.add(index, len(new), self._block_of(new))
        table = np.concatenate([main, new])
        name = self._name("main")
        info = replace(info, name=name, table=name, count=len(table))
        return self._written(info, index, table)

    def _written(self, info: ShardInfo, index: faiss.Index, table: np.ndarray) -> ShardInfo:
        faiss_path, table_path = info.files(self.folder)
        return replace(
            info,
            faiss_checksum=write_index(faiss_path, index),
            table_checksum=write_table(table_path, table),
        )

    def _name(self, shard: str) -> str:
        return f"{self.level}-{shard}-{self.generation:08d}"

    def _probes(self, table: np.ndarray) -> faiss_tuning.Probes:
        """Returns queries of each type, with the positions of their true nearest in a table."""
        live = np.flatnonzero(table["part"] >= 0)
        random = np.random.default_rng(1)
        some = np.sort(random.choice(live, min(len(live), 4096), replace=False))
        queries = {"stored": faiss_tuning.probe_queries(self._read(table[some]))}
        queries |= self._sample_queries()
        return faiss_tuning.make_probes(queries, live, self._block_of(table[live]), len(table))

    def _sample_queries(self) -> dict[str, np.ndarray]:
        return sample_queries(self.folder, embedding_dim=self.parts.embedding_dim)

    def _block_of(self, table: np.ndarray) -> Callable[[int, int], np.ndarray]:
        return lambda first, last: self._read(table[first:last])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        return self.parts.read(locations(rows))
