"""Some shards of an index -> the candidates for a query, in the generation that it asks for."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.indexing.candidates import CandidateSet, CollectionStatistics, GatherRequest
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.shards.gathering import InTurn, ShardChoice, ShardFindings
from reelseek.indexing.shards.query import ReaderQuery
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.serving.cluster.source import (
    Generation,
    IndexSource,
    Location,
    positions_of,
    shards_part,
)

logger = logging.getLogger(__name__)

_KEPT = 3  # generations: queries that began in one end in it


class StaleGeneration(Exception):
    """The generation that a query reads is not here any more; the newest one is to be read."""


@dataclass(frozen=True)
class Reply:
    """What a replica answers.

    Attributes:
        value: of the call.
        refused: why the call was wrong; empty where it was not.
        is_stale: whether the generation is not here, and nothing was read.
    """

    value: Any = None
    refused: str = ""
    is_stale: bool = False


class ShardGroup:
    """Reads every n-th shard of an index, in the last few generations; threads may share it.

    Args:
        location: of the index.
        group: 0 to `num_groups - 1`; shards at positions `group`, `group + num_groups`, ...
        num_groups: that the index is read in.

    Raises:
        ValueError: there is no index, it is damaged, or nothing in it can be searched yet.
    """

    def __init__(self, location: Location, *, group: int, num_groups: int) -> None:
        self._positions = positions_of(group, num_groups)
        self._source = IndexSource(location, part=shards_part(location, self._positions))
        self._looking = threading.Lock()
        self._kept: OrderedDict[Generation, IndexReader] = OrderedDict()
        self._newest: IndexReader | None = None
        self._calls: dict[str, Callable[..., Any]] = {
            each.__name__: each
            for each in (
                self.find,
                self.rescore,
                self.read,
                self.statistics,
                self.term_statistics,
                self.copies,
                self.count,
                self.metadata_fields,
                self.names,
                self.metadata,
            )
        }
        self.look()

    def look(self) -> None:
        """Opens the newest generation, if that is not open yet. Others go on being read meanwhile.

        Raises:
            ValueError: it cannot be opened.
        """
        with self._looking:
            folder = self._source.folder()
            if self._newest is None or self._newest.folder != folder:
                self._newest = IndexReader(folder, auto_refresh=False, positions=self._positions)
                self._newest.statistics()  # which the first query would wait for
            else:
                self._newest.refresh()
            generation = Generation.of(self._newest.manifest)
            if generation not in self._kept:
                self._kept[generation] = self._newest.pinned()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)

    def answer(self, call: str, generation: Generation, arguments: Sequence[Any]) -> Reply:
        """Does a call in a generation; an error that is the caller's comes back as a text."""
        try:
            return Reply(self._calls[call](self._at(generation), *arguments))
        except StaleGeneration:
            return Reply(is_stale=True)
        except ValueError as error:
            return Reply(refused=str(error))

    def check(self) -> None:
        """Raises an error where the files of the shards cannot be read."""
        assert self._newest is not None
        _ = self._newest.revision

    def _at(self, generation: Generation) -> IndexReader:
        reader = self._kept.get(generation)
        if reader is None:
            self.look()
            reader = self._kept.get(generation)
        if reader is None:
            raise StaleGeneration
        return reader

    # What can be called; each reads one generation, and deletions up to now.

    # The steps of a search, see `indexing.shards.gathering.ShardQueries`. The router has compared
    # the filter with the fields of all shards.

    @staticmethod
    def find(
        reader: IndexReader, request: GatherRequest, is_near: Sequence[bool]
    ) -> list[ShardFindings]:
        return _queries(reader, request).find(is_near)

    @staticmethod
    def rescore(
        reader: IndexReader, request: GatherRequest, locations: Sequence[Sequence[np.ndarray]]
    ) -> list[list[np.ndarray]]:
        return _queries(reader, request).rescore(locations)

    @staticmethod
    def read(
        reader: IndexReader, request: GatherRequest, choices: Sequence[ShardChoice]
    ) -> list[CandidateSet | None]:
        return _queries(reader, request).read(choices)

    @staticmethod
    def statistics(reader: IndexReader) -> CollectionStatistics:
        return reader.statistics()

    @staticmethod
    def term_statistics(reader: IndexReader, stems: Sequence[str]) -> dict[str, TermStatistics]:
        return reader.term_statistics(stems)

    @staticmethod
    def copies(
        reader: IndexReader, contents: Sequence[str], where: str | None
    ) -> list[VideoRecord]:
        return [r for shard in reader.shards for r in shard.copies(contents, where=where)]

    @staticmethod
    def count(reader: IndexReader, where: str) -> int:
        return sum(shard.count(where) for shard in reader.shards)

    @staticmethod
    def metadata_fields(reader: IndexReader) -> set[str]:
        return set().union(*(shard.catalogue.metadata_fields() for shard in reader.shards))

    @staticmethod
    def names(reader: IndexReader) -> list[tuple[str, str]]:
        return [pair for shard in reader.shards for pair in shard.names()]

    @staticmethod
    def metadata(reader: IndexReader) -> list[tuple[str, dict[str, Any]]]:
        return list(reader.metadata())


def _queries(reader: IndexReader, request: GatherRequest) -> InTurn:
    return InTurn([ReaderQuery(shard, request) for shard in reader.shards], request)
