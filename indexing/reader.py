"""An index on disk -> the candidates for a search, with all that scoring needs of them.

A reader answers from one published snapshot, and goes over to the next when there is one: by itself
at the next search, or when `refresh` is called. It leaves out what has been deleted since at once:
each candidate's entry is looked up in the catalogue.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing import filters
from reelseek.indexing.candidates import (
    CandidateSet,
    CandidateVideo,
    CollectionStatistics,
    GatherRequest,
    TextMatch,
)
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.index import Match
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.snapshot import Snapshot, open_snapshot
from reelseek.indexing.store import query_log
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.indexing.store.manifest import Manifest
from reelseek.text import strict_json

logger = logging.getLogger(__name__)


class IndexReader:
    """An index, opened for searching; several threads may search at once.

    Args:
        folder: of the index.
        log_queries: keep the embeddings of queries, for measuring and tuning.
        auto_refresh: look for a newer snapshot before each search, which then waits for it to be
            opened; otherwise only `refresh` goes over to it.

    Raises:
        ValueError: the folder is not an index, is damaged, or nothing in it is searchable yet.
    """

    def __init__(
        self, folder: Path, *, log_queries: bool = False, auto_refresh: bool = True
    ) -> None:
        self._folder = folder
        self._log_queries = log_queries
        self._auto_refresh = auto_refresh
        self._refreshing = threading.Lock()
        self._entries_checked = False
        self._signature = _signature(folder)
        self._latest = open_snapshot(folder, None)
        self._held = threading.local()
        if not self.manifest.num_videos:
            raise ValueError(
                f"index={folder}: nothing in it can be searched yet; run reelseek index again"
            )
        self._catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
        # Of its own: an event loop that asks would wait for searches that use the other.
        self._counting = Catalogue(folder / CATALOGUE_NAME, read_only=True)

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """The manifest of the snapshot that the latest search read."""
        return self._snapshot.manifest

    @property
    def revision(self) -> int:
        """The catalogue's count of changes so far, deletions included; takes some microseconds."""
        return self._counting.counter("revision")

    @contextmanager
    def one_generation(self) -> Iterator[None]:
        """Keeps this thread on the newest snapshot (without `auto_refresh`, on the one in use), so
        that all parts of one answer come from the same state, whatever other threads go over to.
        """
        if self._held_snapshot is not None:
            yield
            return
        self._refresh()
        self._held.snapshot = self._latest
        try:
            yield
        finally:
            self._held.snapshot = None

    def refresh(self, prepare: Callable[[], None] | None = None) -> bool:
        """Opens a newer snapshot, if there is one, and goes over to it when all that searches would
        wait for is ready; other threads go on answering from the old one meanwhile.

        Args:
            prepare: called in this thread, which then reads the new snapshot already.

        Returns:
            Whether the reader went over; it stays where the new one cannot be opened.
        """
        with self._refreshing:
            signature = _signature(self._folder)
            if signature == self._signature:
                return False
            try:
                snapshot = open_snapshot(self._folder, self._latest)
            except ValueError as error:
                self._stay(signature, error)
                return False
            held = self._held_snapshot
            self._held.snapshot = snapshot
            try:
                self.statistics()
                if prepare is not None:
                    prepare()
            finally:
                self._held.snapshot = held
            self._latest, self._signature = snapshot, signature
            return True

    @property
    def _held_snapshot(self) -> Snapshot | None:
        return getattr(self._held, "snapshot", None)

    @property
    def _snapshot(self) -> Snapshot:
        return self._held_snapshot or self._latest

    def gather(self, request: GatherRequest) -> CandidateSet:
        """Gathers the nearest videos of each embedding and the best texts, with what scoring needs
        of them. Reads each embedding once.

        Raises:
            ValueError: the filter is wrong, or a file is damaged.
        """
        self._refresh()
        snapshot = self._snapshot
        only = None if request.where is None else self._matching(request.where)
        reads = snapshot.reads()
        while True:  # until nothing found has been deleted meanwhile
            nearest = [
                snapshot.nearest_videos(
                    embedding, reads, level=request.level, num=request.num_videos, only=only
                )
                for embedding in request.embeddings
            ]
            matches = self._matches(snapshot, request, only)
            ids = {video_id for some in nearest for video_id in some}
            records = self._records(ids | {match.video_id for match in matches}, snapshot)
            if records is not None:
                break
        names = {video_id: record.public_id for video_id, record in records.items()}
        more = self._catalogue.by_public_id(set(request.ids) - set(names.values()))
        records |= {record.id: record for record in more.values()}
        return CandidateSet(
            _by_id(snapshot.candidates(records, reads, num_frames=request.num_frames)),
            [[names[video_id] for video_id in some] for some in nearest],
            [_text_match(match, records[match.video_id], request.stems) for match in matches],
        )

    def statistics(self) -> CollectionStatistics:
        """Returns the statistics of the current snapshot, to be added to those of other shards."""
        snapshot = self._snapshot
        return snapshot.statistics(lambda: self._measured(snapshot))

    def term_statistics(self, stems: Sequence[str]) -> dict[str, TermStatistics]:
        """Returns the statistics of stems by level of texts; none without a lexical index."""
        lexical = self._snapshot.lexical
        return {} if lexical is None else lexical.statistics(stems)

    def copies(self, contents: Iterable[str], *, where: str | None = None) -> list[VideoRecord]:
        """Returns all searchable videos that have one of these contents and pass a filter."""
        found = [r for same in self._catalogue.of_contents(contents).values() for r in same]
        if where is None:
            return found
        passing = set(self._matching(where).tolist())
        return [record for record in found if record.id in passing]

    def count(self, where: str) -> int:
        """Returns how many videos pass a filter.

        Raises:
            ValueError: it cannot be read, or names a field that no video has.
        """
        return len(self._matching(where))

    def record(self, public_id: str) -> VideoRecord | None:
        """Returns the entry of a video by its public id; None if there is none."""
        return self._catalogue.by_public_id([public_id]).get(public_id)

    def video_ids(self) -> list[str]:
        """Returns the public ids of all searchable videos, in ascending order."""
        return sorted({name for names in self.ids_by_name().values() for name in names})

    def ids_by_name(self) -> dict[str, list[str]]:
        """Returns the public ids of all searchable videos, by the public id itself and by key,
        which several roots may share."""
        published = set(self._snapshot.video_ids().tolist())
        found: dict[str, list[str]] = {}
        for key, public_id, video_id in self._catalogue.names():
            if video_id in published:
                for name in (key, public_id):
                    found.setdefault(name, []).append(public_id)
        return found

    def metadata(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields key and metadata of each searchable video."""
        published = set(self._snapshot.video_ids().tolist())
        # A connection of its own: an open statement would keep searches from seeing deletions.
        with closing(Catalogue(self._folder / CATALOGUE_NAME, read_only=True)) as catalogue:
            for video_id, key, metadata in catalogue.text_inputs():
                if video_id in published:
                    yield key, strict_json.loads(metadata)

    def log_queries(self, embeddings: Sequence[np.ndarray]) -> None:
        """Keeps the embeddings of a query, if that was asked for."""
        if not self._log_queries:
            return
        try:
            query_log.append(self._folder, query_log.QUERIES, np.stack(embeddings))
        except OSError as error:
            self._log_queries = False
            logger.warning("queries are not kept: %s", error)

    @property
    def has_lexical_index(self) -> bool:
        """Whether the words of the videos' texts can be searched."""
        return self._snapshot.lexical is not None

    @property
    def skipped(self) -> str:
        """Why words cannot be searched, with the remedy; empty where they can."""
        if self.has_lexical_index:
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
        filters.check_fields(condition, self._catalogue.metadata_fields())
        return condition

    def close(self) -> None:
        self._catalogue.close()
        self._counting.close()

    def _matches(
        self, snapshot: Snapshot, request: GatherRequest, only: np.ndarray | None
    ) -> list[Match]:
        if snapshot.lexical is None or not request.num_texts:
            return []
        return snapshot.lexical.search(
            request.stems,
            num=request.num_texts,
            terms=request.terms,
            optional=request.optional_stems,
            excluded=request.excluded_stems,
            only=only,
            level=request.level,
        )

    def _records(
        self, video_ids: Iterable[int], snapshot: Snapshot
    ) -> dict[int, VideoRecord] | None:
        """The entries of these videos; None where some were deleted since, and are masked now.

        Raises:
            ValueError: entries are lacking though nothing was deleted.
        """
        video_ids = sorted(video_ids)
        records = self._catalogue.videos(video_ids)
        removed = [video_id for video_id in video_ids if video_id not in records]
        if not removed:
            return records
        if self._catalogue.counter("revision") == snapshot.manifest.revision:
            raise ValueError(
                f"{self._folder / CATALOGUE_NAME} is damaged: it lacks video {removed[0]}; run "
                "reelseek repair --index DIR"
            )
        snapshot.mask_deleted(removed)
        return None

    def _measured(self, snapshot: Snapshot) -> CollectionStatistics:
        words, tags = ({}, {}) if snapshot.lexical is None else snapshot.lexical.vocabulary
        return CollectionStatistics(
            snapshot.manifest.num_videos,
            snapshot.sample(self._catalogue.in_public_order()),
            self._sentences(),
            words,
            tags,
            has_texts=snapshot.lexical is not None,
        )

    def _sentences(self) -> np.ndarray:
        """`(n, D)` float32, embeddings of everyday sentences that the index keeps."""
        dim = self.manifest.settings.embedding_dim
        return query_log.read(self._folder, query_log.SENTENCES, embedding_dim=dim)

    def _matching(self, where: str) -> np.ndarray:
        """Ids of the videos that pass a filter, ascending."""
        if not self._entries_checked:  # of those that a filter leaves out, nothing else is read
            self._catalogue.check_entries()
            self._entries_checked = True
        condition = self.check_filter(where)
        return self._catalogue.matching_ids(*condition.condition())

    def _refresh(self) -> None:
        """Goes over to a newer snapshot, if there is one; stays where it cannot be opened."""
        if not self._auto_refresh or self._held_snapshot is not None:
            return
        signature = _signature(self._folder)
        if signature == self._signature:
            return
        with self._refreshing:
            if signature == self._signature:
                return
            try:
                self._latest = open_snapshot(self._folder, self._latest)
                self._signature = signature
            except ValueError as error:
                self._stay(signature, error)

    def _stay(self, signature: tuple, error: ValueError) -> None:
        """Answers from the old snapshot until the manifest is replaced again."""
        logger.warning("answers come from an earlier state of the index: %s", error)
        self._signature = signature


def _by_id(videos: Iterable[CandidateVideo]) -> dict[str, CandidateVideo]:
    return {video.id: video for video in videos}


def _text_match(match: Match, record: VideoRecord, stems: Sequence[str]) -> TextMatch:
    source, text = match.source, match.text
    if not source:
        source, text = documents.best_text(record, stems)
    return TextMatch(
        id=record.public_id,
        level=match.level,
        counts=match.counts,
        length=match.length,
        source=source,
        text=text,
        start_seconds=match.start_seconds,
        end_seconds=match.end_seconds,
    )


def _signature(folder: Path) -> tuple:
    """Tells whether the manifest was replaced."""
    try:
        state = os.stat(Manifest.path(folder))
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns
