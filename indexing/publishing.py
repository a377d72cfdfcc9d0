"""Catalogue and embeddings -> FAISS shards, the words, and the manifest that names them: what
searchers see.

What is new goes into the delta shard, which is small and made anew each time; when it is not
small, the main shard takes it up. The main shard is rebuilt when it has doubled, when much of it is
deleted, or when the recall that is measured at each publishing falls below what was asked for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np

from reelseek.indexing.hits import LEVELS
from reelseek.indexing.lexical import publishing as lexical_publishing
from reelseek.indexing.store import query_log
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import FaissOptions, LevelInfo, Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.shard import (
    TABLE_DTYPE,
    Shard,
    ShardInfo,
    file_checksum,
    locations,
    write_index,
    write_table,
)

CATALOGUE_NAME = "videos.sqlite"
EMBEDDINGS_NAME = "embeddings"

_SMALL = 10_000  # vectors that are searched exactly without a question
_DELTA_MIN = (
    2_000  # vectors that a delta may always have: a tenth of a second's search of a million
)
_DELTA_FRACTION = 0.005  # of the main shard, up to which the delta grows
_DELETED_FRACTION = 0.3  # of the main shard, beyond which it is rebuilt
_GROWTH = 2  # since the main shard was trained, beyond which it is rebuilt
_SLACK = 0.02  # of the recall: a measurement on a sample is not exact
_MIN_SAMPLE_QUERIES = 32  # sentences, below which their recall says little
_MAX_SAMPLE_QUERIES = 256


def publish(
    folder: Path,
    catalogue: Catalogue,
    parts: EmbeddingParts,
    manifest: Manifest,
    *,
    options: FaissOptions | None = None,
    rebuild: bool = False,
) -> Manifest:
    """Makes what the catalogue holds searchable, if anything has changed since the last time or a
    file has suffered.

    The manifest is replaced last; what earlier generations alone used is deleted after that.

    Args:
        options: what the FAISS indexes are to be like from now on; default: as they were.
        rebuild: make the main shards anew.
    """
    options = manifest.faiss if options is None else options
    revision = catalogue.counter("revision")
    is_same = revision == manifest.revision and options == manifest.faiss and not rebuild
    is_lexical_current = lexical_publishing.is_current(folder, manifest.lexical)
    if is_same and not manifest.rebuild and is_lexical_current and _is_intact(folder, manifest):
        return manifest
    generation = manifest.generation + 1
    tables = level_tables(catalogue.scan())
    keeps_options = options == manifest.faiss and not rebuild
    levels, recall, reason = {}, {}, ""
    for level in LEVELS:
        builder = _LevelBuilder(folder, level, generation, parts, options, tables[level])
        before = manifest.levels.get(level, LevelInfo()) if keeps_options else LevelInfo()
        again = bool(manifest.rebuild) or builder.must_rebuild(before)
        made = builder.rebuilt() if again else builder.extended(before)
        made, recalls = builder.probed(made)
        levels[level] = made
        if level == "moment":
            recall = recalls
            low = [name for name, fraction in recalls.items() if fraction < options.recall - _SLACK]
            if low and not again:
                reason = f"recall of {' and '.join(low)} queries is below {options.recall}"
    published = replace(
        manifest,
        generation=generation,
        revision=revision,
        num_videos=len(tables["video"]),
        num_segments=len(tables["moment"]),
        faiss=options,
        levels=levels,
        recall=recall,
        rebuild=reason,
        lexical=lexical_publishing.publish_words(
            folder, catalogue, manifest.lexical, generation=generation
        ),
    )
    published.write(folder)
    clean(folder, published, parts, catalogue)
    catalogue.checkpoint()
    return published


def clean(folder: Path, manifest: Manifest, parts: EmbeddingParts, catalogue: Catalogue) -> None:
    """Deletes what the published generation does not use, and what a killed run was writing."""
    used = {path for level in manifest.levels.values() for path in level.files(folder)}
    for pattern in ("video-*", "moment-*"):
        for path in folder.glob(pattern):
            if path not in used and not path.is_dir():
                path.unlink()
    lexical_publishing.clean(folder, manifest.lexical)
    parts.keep_only({record.location[0] for record in catalogue.scan() if record.location})


@dataclass
class _LevelBuilder:
    """Makes the shards of one level.

    Attributes:
        table: of all that is to be searchable.
    """

    folder: Path
    level: str
    generation: int
    parts: EmbeddingParts
    options: FaissOptions
    table: np.ndarray

    def must_rebuild(self, before: LevelInfo) -> bool:
        """Whether the main shard that there is cannot be extended, or should not be."""
        main = self._main_table(before)
        if main is None or before.main is None:
            return True
        new, deleted = self._diff(main)
        if before.main.kind == faiss_tuning.FLAT:
            return len(new) > self._largest_delta(main) or deleted.sum() > _DELETED_FRACTION * len(
                main
            )
        has_grown = len(self.table) > _GROWTH * before.main.trained_on
        return has_grown or deleted.sum() > _DELETED_FRACTION * len(main)

    def rebuilt(self) -> LevelInfo:
        """One main shard of all; where exact and small will do, one delta."""
        count = len(self.table)
        kind = self.options.kind
        if kind == "auto":
            kind = (
                faiss_tuning.FLAT
                if count <= _SMALL
                else faiss_tuning.choose_factory(
                    count,
                    self._block,
                    recall=self.options.recall,
                    memory_bytes=self.options.memory_bytes if self.level == "moment" else 0,
                    sample_queries=self._sample_queries(),
                )
            )
        if kind.lower() == "flat" or count == 0:
            kind = faiss_tuning.FLAT
        return LevelInfo(main=self._shard("main", self.table, kind))

    def extended(self, before: LevelInfo) -> LevelInfo:
        """The main shard as it was, with what has changed since."""
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
        """The recall of the main shard, which is tuned again where that has become too low."""
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
        """None where there is no main shard, or its files have suffered."""
        if before.main is None:
            return None
        try:
            shard = Shard(self.folder, before.main, embedding_dim=self.parts.embedding_dim)
        except (FileNotFoundError, ValueError):
            return None
        return shard.table

    def _diff(self, main: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that the main shard lacks, and which of its own are deleted."""
        return (
            self.table[~np.isin(self.table["video"], main["video"])],
            ~np.isin(main["video"], self.table["video"]),
        )

    def _moved(
        self, info: ShardInfo, main: np.ndarray, deleted: np.ndarray
    ) -> tuple[ShardInfo, np.ndarray]:
        """The main shard with the places that its embeddings have now."""
        table = main.copy()
        table["part"][deleted] = -1
        table[~deleted] = self.table[np.isin(self.table["video"], main["video"])]
        if (table == main).all():
            return info, main
        info = replace(info, table=self._name("main"))
        checksum = write_table(info.files(self.folder)[1], table)
        return replace(info, table_checksum=checksum), table

    def _shard(self, name: str, table: np.ndarray, kind: str) -> ShardInfo:
        """A new shard of these rows."""
        index = faiss_tuning.build(
            kind, len(table), self._block_of(table), embedding_dim=self.parts.embedding_dim
        )
        name = self._name(name)
        info = ShardInfo(name, name, len(table), kind, trained_on=len(table))
        return self._written(info, index, table)

    def _grown(self, info: ShardInfo, main: np.ndarray, new: np.ndarray) -> ShardInfo:
        """The main shard with more rows, in the lists that it has."""
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
        """Queries of each sort, and the positions of their true nearest in a table."""
        live = np.flatnonzero(table["part"] >= 0)
        random = np.random.default_rng(1)
        some = np.sort(random.choice(live, min(len(live), 4096), replace=False))
        queries = {"stored": faiss_tuning.probe_queries(self._read(table[some]))}
        queries |= self._sample_queries()
        return faiss_tuning.make_probes(queries, live, self._block_of(table[live]), len(table))

    def _sample_queries(self) -> dict[str, np.ndarray]:
        """Embeddings of sentences, as far as there are enough of a sort to measure on."""
        names = {"sentences": query_log.SENTENCES, "logged": query_log.QUERIES}
        query_types = {
            query_type: query_log.read(self.folder, name, embedding_dim=self.parts.embedding_dim)
            for query_type, name in names.items()
        }
        return {
            query_type: some[-_MAX_SAMPLE_QUERIES:]
            for query_type, some in query_types.items()
            if len(some) >= _MIN_SAMPLE_QUERIES
        }

    def _block(self, first: int, last: int) -> np.ndarray:
        return self._read(self.table[first:last])

    def _block_of(self, table: np.ndarray) -> Callable[[int, int], np.ndarray]:
        return lambda first, last: self._read(table[first:last])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        return self.parts.read(locations(rows))


def level_tables(records: Iterable[VideoRecord]) -> dict[str, np.ndarray]:
    """What is to be searchable, of each level, in the order of the videos' ids."""
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


def _is_intact(folder: Path, manifest: Manifest) -> bool:
    """Whether all files of the published generation are what was written."""
    if manifest.generation == 0:
        return False
    try:
        for level in manifest.levels.values():
            for info in (level.main, level.delta):
                if info is not None:
                    Shard(folder, info, embedding_dim=manifest.settings.embedding_dim)
            if level.deleted and file_checksum(folder / level.deleted) != level.deleted_checksum:
                return False
    except (FileNotFoundError, ValueError):
        return False
    return True
