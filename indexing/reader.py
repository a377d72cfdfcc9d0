"""An index on disk -> the videos or moments nearest to an embedding.

A reader answers from one published generation, and goes over to the next when there is one. What
has been deleted since is left out at once: each hit's entry is looked up in the catalogue.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reelseek.indexing.copies import copies_of, find_distinct
from reelseek.indexing.filters import Filter, check_fields, metadata_fields, parse_filter
from reelseek.indexing.hits import LEVELS, Copy, LexicalHit, SearchHit
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.index import Match
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.snapshot import (
    Found,
    Generation,
    VideoSample,
    VideoSegments,
    open_generation,
)
from reelseek.indexing.store import query_log
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.manifest import Manifest

logger = logging.getLogger(__name__)


class IndexReader:
    """An index, opened for searching; several threads may search at once.

    Args:
        folder: of the index.
        log_queries: keep the embeddings of queries, for measuring and tuning.

    Raises:
        ValueError: the folder is not an index, is damaged, or nothing in it is searchable yet.
    """

    def __init__(self, folder: Path, *, log_queries: bool = False) -> None:
        self._folder = folder
        self._log_queries = log_queries
        self._refreshing = threading.Lock()
        self._entries_checked = False
        self._signature = _signature(folder)
        self._latest = open_generation(folder, None)
        self._held = threading.local()
        if not self.manifest.num_videos:
            raise ValueError(
                f"index={folder}: nothing in it can be searched yet; run python -m indexing again"
            )
        self._catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """Of the generation that the latest search has answered from."""
        return self._generation.manifest

    @contextmanager
    def one_generation(self) -> Iterator[None]:
        """Within, this thread reads the newest generation and stays with it, so that all that
        belongs to one answer comes from the same state, whatever other threads go over to."""
        if self._held_generation is not None:
            yield
            return
        self._refresh()
        self._held.generation = self._latest
        try:
            yield
        finally:
            self._held.generation = None

    @property
    def _held_generation(self) -> Generation | None:
        return getattr(self._held, "generation", None)

    @property
    def _generation(self) -> Generation:
        return self._held_generation or self._latest

    def search(
        self, query: np.ndarray, *, k: int, level: str = "video", where: str | None = None
    ) -> list[SearchHit]:
        """The best matches for a query embedding, videos of one content once.

        Args:
            query: `(D,)` float32, L2-normalised.
            k: hits to return; fewer come back where there are fewer.
            level: `video` or `moment`.
            where: what the videos must be like, see `indexing.filters`.

        Raises:
            ValueError: k, level or where is wrong, or a file is damaged.
        """
        _check(k, level)
        self._refresh()
        if self._log_queries:
            self._log(query)
        only = None if where is None else self._matching(where)
        generation = self._generation

        def find(num: int) -> tuple[list[Found], dict[int, VideoRecord]]:
            while True:
                found = (
                    generation.videos(query, num, only)
                    if level == "video"
                    else generation.moments(query, num, only)
                )
                records = self._records([hit.video_id for hit in found], generation)
                if records is not None:
                    return found, records

        found, records = find_distinct(find, k)
        return self._hits(found, records)

    def hits_of(
        self, video_ids: Sequence[int], query: np.ndarray, *, level: str = "video"
    ) -> list[SearchHit]:
        """Of these videos all hits there are, best first, as a search that finds them scores them;
        none of those that have been deleted, and copies each for itself.

        Args:
            query: `(D,)` float32, L2-normalised.
            level: `video` gives each video once, `moment` all of its moments.
        """
        generation = self._generation
        records = self.records(video_ids)
        found = generation.of_videos(query, sorted(records), level)
        return self._hits(found, records)

    def records(self, video_ids: Sequence[int]) -> dict[int, VideoRecord]:
        """The catalogue's entries of these videos, as far as they are there."""
        return self._catalogue.videos(sorted(set(video_ids)))

    def segments(self, video_ids: Sequence[int]) -> dict[int, VideoSegments]:
        """The segments of these videos, as far as they are there."""
        return self._generation.segments(video_ids)

    def frames(self, video_ids: Sequence[int], *, max_frames: int) -> dict[int, np.ndarray]:
        """`(T, D)` float32, the embeddings of frames of these videos, evenly spread where a video
        has more than so many; without the videos that none are kept of."""
        records = self.records(video_ids)
        return self._generation.frames(list(records.values()), max_frames)

    def whole(self, video_ids: Sequence[int]) -> dict[int, np.ndarray]:
        """`(D,)` float32 each, the embeddings of whole videos, as far as they are there."""
        return self._generation.whole(video_ids)

    def segments_at(
        self, places: Sequence[tuple[int, float]]
    ) -> dict[tuple[int, float], np.ndarray]:
        """`(D,)` float32 each: of a video the segment whose middle is nearest to a second, as far
        as the videos are there."""
        return self._generation.segments_at(places)

    def sample(self, num: int) -> VideoSample:
        """So many videos drawn at random, the same each time; all where there are fewer."""
        return self._generation.sample(num)

    def count(self, where: str) -> int:
        """How many videos a filter lets through.

        Raises:
            ValueError: it cannot be read, or names a field that no video has.
        """
        return len(self._matching(where))

    def video_ids(self) -> list[int]:
        """The ids of the videos that can be found, in ascending order."""
        return sorted({each for same in self.ids_by_name().values() for each in same})

    def ids_by_name(self) -> dict[str, list[int]]:
        """The ids of the videos that can be found, by key, which several roots may share, and by
        the public id that hits have."""
        published = set(self._generation.video_ids().tolist())
        with self._catalogue.alone() as connection:
            rows = connection.execute("SELECT key, public_id, id FROM videos").fetchall()
        found: dict[str, list[int]] = {}
        for key, public_id, video_id in rows:
            if video_id in published:
                for name in (key, public_id):
                    found.setdefault(name, []).append(video_id)
        return found

    def sentences(self) -> np.ndarray:
        """`(n, D)` float32, embeddings of everyday sentences that the index keeps; n may be 0."""
        dim = self.manifest.settings.embedding_dim
        return query_log.read(self._folder, query_log.SENTENCES, embedding_dim=dim)

    @property
    def has_lexical_index(self) -> bool:
        """Whether the words of the videos' texts can be searched."""
        return self._generation.lexical is not None

    @property
    def skipped(self) -> str:
        """Why words cannot be searched, with the remedy; empty where they can."""
        if self.has_lexical_index:
            return ""
        if not documents.is_installed():
            return "texts are not searched by their words: pip install 'reelseek[lexical]'"
        return (
            "texts are not searched by their words, which this index lacks: run python -m indexing "
            "again"
        )

    def search_words(
        self,
        words: Sequence[str],
        *,
        k: int,
        also: Sequence[str] = (),
        excluded: Sequence[str] = (),
        where: str | None = None,
        level: str = "video",
    ) -> list[LexicalHit]:
        """Returns the videos whose texts have these words, best first; [] without a lexical index.

        Args:
            words: as `text.segmentation.words` gives them; any of them may be lacking in a hit.
            k: hits to return; fewer come back where there are fewer.
            also: words that count for texts that have others, and find none by themselves.
            excluded: words of which the text of a hit has none, nor what is said about its video.
            where: what the videos must be like, see `indexing.filters`.
            level: `video` gives each video once, for its best text; `moment` gives all texts.

        Raises:
            ValueError: k, level or where is wrong, or a file is damaged.
        """
        _check(k, level)
        self._refresh()
        generation = self._generation
        only = None if where is None else self._matching(where)
        if generation.lexical is None:
            return []
        any_of, none_of = documents.stems(words), documents.stems(excluded)
        more, lexical = documents.stems(also), generation.lexical

        def find(num: int) -> tuple[list[Match], dict[int, VideoRecord]]:
            while True:
                found = lexical.search(
                    any_of, k=num, also=more, excluded=none_of, only=only, level=level
                )
                records = self._records([match.video_id for match in found], generation)
                if records is not None:
                    return found, records

        found, records = find_distinct(find, k)
        return [_lexical_hit(match, records[match.video_id], any_of) for match in found]

    def vocabulary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The words of titles, captions and tags, and the tags themselves, casefolded: with the
        number of videos that have each; nothing where `has_lexical_index` is false.

        They are those of the generation that the latest search has answered from, and are to be
        left as they are.
        """
        lexical = self._generation.lexical
        return ({}, {}) if lexical is None else lexical.vocabulary

    def check_filter(self, where: str) -> Filter:
        """Reads a filter, without searching.

        Raises:
            ValueError: it cannot be read, or names a field that no video has.
        """
        condition = parse_filter(where)
        with self._catalogue.alone() as connection:
            check_fields(condition, metadata_fields(connection))
        return condition

    def close(self) -> None:
        self._catalogue.close()

    def _hits(self, found: Sequence[Found], records: Mapping[int, VideoRecord]) -> list[SearchHit]:
        copies = copies_of([records[hit.video_id] for hit in found], self._catalogue)
        return [
            _hit(rank, hit, records[hit.video_id], copies.get(hit.video_id, ()))
            for rank, hit in enumerate(found, start=1)
        ]

    def _records(
        self, video_ids: Sequence[int], generation: Generation
    ) -> dict[int, VideoRecord] | None:
        """The entries of these videos; None where some were deleted since, and are forgotten now.

        Raises:
            ValueError: entries are lacking though nothing was deleted.
        """
        records = self.records(video_ids)
        removed = [video_id for video_id in video_ids if video_id not in records]
        if not removed:
            return records
        if self._catalogue.counter("revision") == generation.manifest.revision:
            raise ValueError(
                f"{self._folder / CATALOGUE_NAME} is damaged: it lacks video {removed[0]}; run "
                "python -m indexing.repair index=DIR"
            )
        generation.mask_deleted(removed)
        return None

    def _matching(self, where: str) -> np.ndarray:
        """Ids of the videos that a filter lets through, ascending."""
        if not self._entries_checked:  # of those that a filter leaves out, nothing else is read
            self._catalogue.check_entries()
            self._entries_checked = True
        condition = self.check_filter(where)
        return self._catalogue.matching_ids(*condition.condition())

    def _refresh(self) -> None:
        """Goes over to a newer generation, if there is one; stays where it cannot be opened."""
        signature = _signature(self._folder)
        if signature == self._signature or self._held_generation is not None:
            return
        with self._refreshing:
            if signature == self._signature:
                return
            try:
                self._latest = open_generation(self._folder, self._latest)
            except ValueError as error:
                logger.warning("answers come from an earlier state of the index: %s", error)
            self._signature = signature

    def _log(self, query: np.ndarray) -> None:
        try:
            query_log.append(self._folder, query_log.QUERIES, query[None])
        except OSError as error:
            self._log_queries = False
            logger.warning("queries are not kept: %s", error)


def _hit(rank: int, found: Found, record: VideoRecord, also_as: tuple[Copy, ...]) -> SearchHit:
    date, date_source = date_of(record.metadata, record.signature.modified_ns)
    return SearchHit(
        rank=rank,
        id=record.public_id,
        video=record.path,
        score=found.score,
        start_seconds=found.start,
        end_seconds=found.end,
        best_seconds=found.best_seconds,
        duration_seconds=record.duration_seconds,
        key=record.key,
        metadata=record.metadata,
        video_id=record.id,
        also_as=also_as,
        date=date,
        date_source=date_source,
    )


def _lexical_hit(match: Match, record: VideoRecord, stems: list[str]) -> LexicalHit:
    source, text = match.source, match.text
    if not source:
        source, text = documents.best_text(record, stems)
    return LexicalHit(
        video_id=match.video_id,
        key=record.key,
        score=match.score,
        source=source,
        start_seconds=match.start_seconds,
        end_seconds=match.end_seconds,
        text=text,
    )


def _check(k: int, level: str) -> None:
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    if level not in LEVELS:
        raise ValueError(f"level={level}: must be one of {', '.join(LEVELS)}")


def _signature(folder: Path) -> tuple[int, int, int] | None:
    """What changes with each published generation."""
    try:
        status = os.stat(Manifest.path(folder))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
