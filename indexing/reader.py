"""An index on disk, whole or in shards -> the candidates for a search, with all that scoring needs
of them.

A reader answers from one published generation, of all shards together, and goes over to the next
when there is one: by itself at the next search, or when `refresh` is called. It leaves out what has
been deleted since at once.
"""

import copy
import logging
import os
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing import filters
from reelseek.indexing.candidates import CandidateSet, CollectionStatistics, GatherRequest
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.shards.clusters import parse_max_asked
from reelseek.indexing.shards.gathering import InTurn, gather
from reelseek.indexing.shards.generation import Generation, OpenedShards
from reelseek.indexing.shards.placement import shard_of
from reelseek.indexing.shards.query import ReaderQuery
from reelseek.indexing.shards.reader import ShardReader
from reelseek.indexing.snapshot import open_latest
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.manifest import Manifest

logger = logging.getLogger(__name__)


class IndexReader:
    """An index, opened for searching; several threads may search at once.

    Args:
        folder: of the index.
        log_queries: keep the embeddings of queries, for measuring and tuning.
        auto_refresh: look for a newer generation before each search, which then waits for it to be
            opened; otherwise only `refresh` goes over to it.
        shards_asked: for the nearest videos, of shards that are placed by cluster: `auto` for as
            many as were measured to hold them, `all`, or a number.
        positions: of the shards to open, for a process that serves only these; None for all.

    Raises:
        ValueError: the folder is not an index, is damaged, or nothing in it is searchable yet.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log_queries: bool = False,
        auto_refresh: bool = True,
        shards_asked: str | int = "auto",
        positions: Container[int] | None = None,
    ) -> None:
        self._folder = folder
        self._log_queries = log_queries
        self._auto_refresh = auto_refresh
        self._max_asked = parse_max_asked(shards_asked)
        self._refreshing = threading.Lock()
        self._signature = _signature(folder)
        self._shards = OpenedShards(folder, positions)
        self._held = threading.local()
        try:
            self._latest = open_latest(folder, lambda manifest: self._shards.open(manifest, None))
        except BaseException:
            self.close()
            raise

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """The manifest of the generation that the latest search read."""
        return self._generation.manifest

    @property
    def shards(self) -> list[ShardReader]:
        """The shards of this generation; an ordinary index is one."""
        return list(self._generation.shards.values())

    @property
    def revision(self) -> int:
        """The catalogue's count of changes so far, deletions included; takes some microseconds for
        each shard."""
        return sum(shard.revision for shard in self.shards)

    def pinned(self) -> "IndexReader":
        """Returns a reader that stays at the generation in use. It shares the files of this one,
        and is closed with it."""
        other = copy.copy(self)
        other._auto_refresh = False
        other._held = threading.local()
        return other

    @property
    def shards_answered(self) -> tuple[int, int]:
        """How many shards the latest answer comes from, and of how many: an index that is read
        whole is one."""
        return 1, 1

    @contextmanager
    def one_generation(self) -> Iterator[None]:
        """Keeps this thread on the newest generation (without `auto_refresh`, on the one in use),
        so that all parts of one answer come from the same state of all shards, whatever other
        threads go over to.
        """
        if self._held_generation is not None:
            yield
            return
        self._refresh()
        self._held.generation = self._latest
        try:
            yield
        finally:
            self._held.generation = None

    def refresh(self, prepare: Callable[[], None] | None = None) -> bool:
        """Opens a newer generation, if there is one, and goes over to it when all that searches
        would wait for is ready; other threads go on answering from the old one meanwhile.

        Args:
            prepare: called in this thread, which then reads the new generation already.

        Returns:
            Whether the reader went over; it stays where the new one cannot be opened.
        """
        with self._refreshing:
            signature = _signature(self._folder)
            if signature == self._signature:
                return False
            try:
                generation = self._open_latest()
            except ValueError as error:
                self._stay(signature, error)
                return False
            held = self._held_generation
            self._held.generation = generation
            try:
                if generation.shards:
                    self.statistics()
                if prepare is not None:
                    prepare()
            finally:
                self._held.generation = held
            self._latest, self._signature = generation, signature
            return True

    def gather(self, request: GatherRequest) -> CandidateSet:
        """Gathers the nearest videos of each embedding and the best texts of all shards, with what
        scoring needs of them.

        Raises:
            ValueError: the filter is wrong, or a file is damaged.
        """
        with self.one_generation():
            self._check(request.where)
            is_near = self._generation.is_near(request, self._max_asked)
            queries = InTurn([ReaderQuery(shard, request) for shard in self.shards], request)
            return gather(queries, request, is_near=is_near.tolist())

    def statistics(self) -> CollectionStatistics:
        """Returns the statistics of the current generation, to be added to those of others."""
        return self._generation.statistics()

    def term_statistics(self, stems: Sequence[str]) -> dict[str, TermStatistics]:
        """Returns the statistics of stems by level of texts; none without a lexical index."""
        return TermStatistics.merge_levels(shard.term_statistics(stems) for shard in self.shards)

    def copies(self, contents: Iterable[str], *, where: str | None = None) -> list[VideoRecord]:
        """Returns all searchable videos that have one of these contents and pass a filter."""
        self._check(where)
        contents = list(contents)
        return [r for shard in self.shards for r in shard.copies(contents, where=where)]

    def count(self, where: str) -> int:
        """Returns how many videos pass a filter.

        Raises:
            ValueError: it cannot be read, or names a field that no video has.
        """
        self._check(where)
        return sum(shard.count(where) for shard in self.shards)

    def record(self, public_id: str) -> VideoRecord | None:
        """Returns the entry of a video by its public id; None if there is none."""
        found = (
            shard.catalogue.by_public_id(ids).get(public_id)
            for shard, ids in self._shards_of([public_id])
        )
        return next(filter(None, found), None)

    def video_embeddings(self, public_ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """Returns those of some videos that are searchable, and `(n, D)` float32, the embedding of
        each whole video, L2-normalised."""
        names: list[str] = []
        found: list[np.ndarray] = [np.zeros((0, self.manifest.settings.embedding_dim), np.float32)]
        for shard, here in self._shards_of(public_ids):
            ids = {
                public_id: record.id
                for public_id, record in shard.catalogue.by_public_id(here).items()
            }
            embeddings = shard.snapshot.video_embeddings(np.array(list(ids.values()), np.int64))
            is_there = np.flatnonzero(embeddings.any(axis=1))
            names += np.array(list(ids), object)[is_there].tolist()
            found.append(embeddings[is_there])
        return names, np.concatenate(found)

    def video_ids(self) -> list[str]:
        """Returns the public ids of all searchable videos, in ascending order."""
        return sorted(public_id for shard in self.shards for _, public_id in shard.names())

    def ids_by_name(self) -> dict[str, list[str]]:
        """Returns the public ids of all searchable videos, by the public id itself and by key,
        which several roots may share."""
        found: dict[str, list[str]] = {}
        for key, public_id in chain.from_iterable(shard.names() for shard in self.shards):
            for name in (key, public_id):
                found.setdefault(name, []).append(public_id)
        return found

    def metadata(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields key and metadata of each searchable video, in no order."""
        for shard in self.shards:
            yield from shard.metadata()

    def log_queries(self, embeddings: Sequence[np.ndarray]) -> None:
        """Keeps the embeddings of a query, if that was asked for."""
        if self._log_queries:
            for shard in self.shards:
                shard.log_queries(embeddings)

    @property
    def has_lexical_index(self) -> bool:
        """Whether the words of the videos' texts can be searched."""
        return any(shard.has_lexical_index for shard in self.shards)

    @property
    def skipped(self) -> str:
        """Why words cannot be searched, with the remedy; empty where they can."""
        if all(shard.has_lexical_index for shard in self.shards):
            return ""
        if not documents.is_installed():
            return "texts are not searched by their words: pip install 'reelseek[lexical]'"
        return (
            "texts are not searched by their words, which this index lacks: run reelseek index "
            "again"
        )

    def check_filter(self, where: str) -> filters.Filter:
        """Reads a filter, without searching.

        Raises:
            ValueError: it cannot be read, or names a field that no video has.
        """
        condition = filters.parse_filter(where)
        fields = (shard.catalogue.metadata_fields() for shard in self.shards)
        filters.check_fields(condition, set().union(*fields))
        return condition

    def close(self) -> None:
        self._shards.close()

    def _shards_of(self, public_ids: Sequence[str]) -> Iterator[tuple[ShardReader, Sequence[str]]]:
        """Yields the shards that may have some videos, with the public ids of these."""
        shards = self.shards
        if self._generation.clusters is not None:  # where they are does not follow from their ids
            yield from ((shard, public_ids) for shard in shards)
            return
        by_shard: dict[int, list[str]] = {}
        for public_id in public_ids:
            by_shard.setdefault(shard_of(public_id, len(shards)), []).append(public_id)
        yield from ((shards[number], ids) for number, ids in by_shard.items())

    def _check(self, where: str | None) -> None:
        if where is not None:
            self.check_filter(where)

    @property
    def _held_generation(self) -> Generation | None:
        return getattr(self._held, "generation", None)

    @property
    def _generation(self) -> Generation:
        return self._held_generation or self._latest

    def _open_latest(self) -> Generation:
        return open_latest(self._folder, lambda manifest: self._shards.open(manifest, self._latest))

    def _refresh(self) -> None:
        """Goes over to a newer generation, if there is one; stays where it cannot be opened."""
        if not self._auto_refresh or self._held_generation is not None:
            return
        signature = _signature(self._folder)
        if signature == self._signature:
            return
        with self._refreshing:
            if signature == self._signature:
                return
            try:
                self._latest = self._open_latest()
                self._signature = signature
            except ValueError as error:
                self._stay(signature, error)

    def _stay(self, signature: tuple, error: ValueError) -> None:
        """Answers from the old generation until the manifest is replaced again."""
        logger.warning("answers come from an earlier state of the index: %s", error)
        self._signature = signature


def _signature(folder: Path) -> tuple:
    """Tells whether the manifest was replaced."""
    try:
        state = os.stat(Manifest.path(folder))
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns
