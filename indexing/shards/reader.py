"""One shard of an index, or the whole of an ordinary one -> the candidates for a search, with all
that scoring needs of them.

Bound to one published snapshot. Leaves out what has been deleted since at once: each candidate's
entry is looked up in the catalogue.
"""

import copy
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing import filters
from reelseek.indexing.candidates import (
    CollectionStatistics,
)
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace
from reelseek.indexing.snapshot import Snapshot
from reelseek.indexing.store import query_log
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.text import strict_json

logger = logging.getLogger(__name__)


class ShardReader:
    """A shard's snapshot and catalogue, opened; several threads may search at once.

    Args:
        folder: of the shard.
        snapshot: that it answers from.
        place: that the shard must have; None for an ordinary index.

    Raises:
        ValueError: the folder is damaged, or another shard's.
    """

    def __init__(self, folder: Path, snapshot: Snapshot, place: ShardPlace | None) -> None:
        self.folder = folder
        self.snapshot = snapshot
        self.catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
        # Of its own: an event loop that asks would wait for searches that use the other.
        self._counting = Catalogue(folder / CATALOGUE_NAME, read_only=True)
        self._entries_checked = False
        self._log_queries = True
        if place is not None and self.catalogue.index_metadata(SHARD_METADATA) != str(place):
            self.close()
            raise ValueError(
                f"{folder}: is not shard {place.position} of this index; put that folder back, or "
                "index again into a new folder"
            )

    def at(self, snapshot: Snapshot) -> "ShardReader":
        """Returns a reader of another snapshot of the same shard."""
        other = copy.copy(self)
        other.snapshot = snapshot
        return other

    @property
    def revision(self) -> int:
        """The catalogue's count of changes so far, deletions included; takes some microseconds."""
        return self._counting.counter("revision")

    def statistics(self) -> CollectionStatistics:
        """Returns the statistics of the snapshot, to be added to those of other shards."""
        return self.snapshot.statistics(lambda: self._measured(self.snapshot))

    def term_statistics(self, stems: Sequence[str]) -> dict[str, TermStatistics]:
        """Returns the statistics of stems by level of texts; none without a lexical index."""
        lexical = self.snapshot.lexical
        return {} if lexical is None else lexical.statistics(stems)

    def copies(self, contents: Iterable[str], *, where: str | None = None) -> list[VideoRecord]:
        """Returns all searchable videos that have one of these contents and pass a filter."""
        found = [r for same in self.catalogue.of_contents(contents).values() for r in same]
        if where is None:
            return found
        passing = set(self.matching(where).tolist())
        return [record for record in found if record.id in passing]

    def records(
        self, video_ids: Iterable[int], snapshot: Snapshot
    ) -> dict[int, VideoRecord] | None:
        """Returns the entries of these videos; None where some were deleted since, and are masked
        now.

        Raises:
            ValueError: entries are lacking though nothing was deleted.
        """
        video_ids = sorted(video_ids)
        records = self.catalogue.videos(video_ids)
        removed = [video_id for video_id in video_ids if video_id not in records]
        if not removed:
            return records
        if self.catalogue.counter("revision") == snapshot.manifest.revision:
            raise ValueError(
                f"{self.folder / CATALOGUE_NAME} is damaged: it lacks video {removed[0]}; run "
                "reelseek repair --index DIR"
            )
        snapshot.mask_deleted(removed)
        return None

    def matching(self, where: str) -> np.ndarray:
        """Returns the ids of the videos that pass a filter, ascending."""
        if not self._entries_checked:  # of those that a filter leaves out, nothing else is read
            self.catalogue.check_entries()
            self._entries_checked = True
        condition = filters.parse_filter(where)
        return self.catalogue.matching_ids(*condition.condition())

    def count(self, where: str) -> int:
        """Returns how many videos pass a filter."""
        return len(self.matching(where))

    def names(self) -> Iterator[tuple[str, str]]:
        """Yields key and public id of each searchable video."""
        published = set(self.snapshot.video_ids().tolist())
        for key, public_id, video_id in self.catalogue.names():
            if video_id in published:
                yield key, public_id

    def metadata(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields key and metadata of each searchable video."""
        published = set(self.snapshot.video_ids().tolist())
        # A connection of its own: an open statement would keep searches from seeing deletions.
        with closing(Catalogue(self.folder / CATALOGUE_NAME, read_only=True)) as catalogue:
            for video_id, key, metadata in catalogue.text_inputs():
                if video_id in published:
                    yield key, strict_json.loads(metadata)

    def log_queries(self, embeddings: Sequence[np.ndarray]) -> None:
        """Keeps the embeddings of a query beside the shard, until that fails."""
        if not self._log_queries:
            return
        try:
            query_log.append(self.folder, query_log.QUERIES, np.stack(embeddings))
        except OSError as error:
            self._log_queries = False
            logger.warning("queries are not kept: %s", error)

    @property
    def has_lexical_index(self) -> bool:
        """Whether the words of the videos' texts can be searched."""
        return self.snapshot.lexical is not None

    def close(self) -> None:
        self.catalogue.close()
        self._counting.close()

    def _measured(self, snapshot: Snapshot) -> CollectionStatistics:
        words, tags = ({}, {}) if snapshot.lexical is None else snapshot.lexical.vocabulary
        return CollectionStatistics(
            snapshot.manifest.num_videos,
            snapshot.sample(self.catalogue.in_public_order()),
            self._sentences(),
            words,
            tags,
            has_texts=snapshot.lexical is not None,
        )

    def _sentences(self) -> np.ndarray:
        """`(n, D)` float32, embeddings of everyday sentences that the index keeps."""
        dim = self.snapshot.manifest.settings.embedding_dim
        return query_log.read(self.folder, query_log.SENTENCES, embedding_dim=dim)
