"""An index on disk -> the videos or moments nearest to an embedding.

A reader answers from one published generation, and goes over to the next when there is one. What
has been deleted since is left out at once: each hit's entry is looked up in the catalogue.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexing import documents, query_log
from indexing.catalogue import Catalogue, VideoRecord
from indexing.embeddings import EmbeddingParts
from indexing.filters import check_fields, metadata_fields, parse_filter
from indexing.hits import LexicalHit, SearchHit
from indexing.lexical import LexicalIndex, Match
from indexing.lexical_files import LexicalInfo, check_files
from indexing.manifest import LevelInfo, Manifest
from indexing.moments import merge_moments
from indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME, LEVELS
from indexing.shards import TABLE_DTYPE, Shard, file_checksum

logger = logging.getLogger(__name__)

_OPEN_ATTEMPTS = 20
# Segments looked at for each moment wanted: neighbours that merge, and several of one video.
_SEGMENTS_PER_MOMENT = 5
# Videos looked at for each moment wanted, of which the best are kept.
_VIDEOS_PER_MOMENT = 1.5
# Vectors that a filter leaves, up to which all are compared instead of asking FAISS.
_COMPARE_ALL = 10_000
_TOLERANCE = 1e-3  # of a score, which depends a little on what it is computed beside


@dataclass(frozen=True, eq=False)
class VideoSegments:
    """The segments of a video.

    Attributes:
        spans: `(S, 2)`, start and end seconds.
        embeddings: `(S, D)` float32, L2-normalised.
        whole: `(D,)`, likewise of the whole video.
    """

    spans: np.ndarray
    embeddings: np.ndarray
    whole: np.ndarray


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
        self._stamp = _stamp(folder)
        self._generation = _open_generation(folder, None)
        if not self.manifest.num_videos:
            raise ValueError(
                f"index={folder}: nothing in it can be searched yet; run python -m indexing again"
            )
        self._catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)

    @property
    def manifest(self) -> Manifest:
        """Of the generation that the latest search has answered from."""
        return self._generation.manifest

    def search(
        self, query: np.ndarray, *, k: int, level: str = "video", where: str | None = None
    ) -> list[SearchHit]:
        """The best matches for a query embedding.

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
        while True:
            found = (
                generation.videos(query, k, only)
                if level == "video"
                else generation.moments(query, k, only)
            )
            records = self._records([hit.video_id for hit in found], generation)
            if records is not None:
                return [_hit(rank, hit, records) for rank, hit in enumerate(found, start=1)]

    def hits_of(
        self, video_ids: Sequence[int], query: np.ndarray, *, level: str = "video"
    ) -> list[SearchHit]:
        """Of these videos all hits there are, best first, as a search that finds them scores them;
        none of those that have been deleted.

        Args:
            query: `(D,)` float32, L2-normalised.
            level: `video` gives each video once, `moment` all of its moments.
        """
        generation = self._generation
        records = self._catalogue.videos(sorted(set(video_ids)))
        found = generation.of_videos(query, sorted(records), level)
        return [_hit(rank, hit, records) for rank, hit in enumerate(found, start=1)]

    def segments(self, video_ids: Sequence[int]) -> dict[int, VideoSegments]:
        """The segments of these videos, as far as they are there."""
        return self._generation.segments(video_ids)

    def whole(self, video_ids: Sequence[int]) -> np.ndarray:
        """`(n, D)` float32, the embeddings of whole videos, which must be there."""
        return self._generation.whole(video_ids)

    def sample(self, num: int) -> list[VideoSegments]:
        """The segments of so many videos drawn at random, the same each time; of all where there
        are fewer."""
        return self._generation.sample(num)

    def video_ids(self) -> dict[str, int]:
        """The ids of the videos that can be found, by key."""
        published = set(self._generation.video_ids().tolist())
        with self._catalogue.named_errors():
            rows = self._catalogue.connection.execute("SELECT key, id FROM videos").fetchall()
        return {key: video_id for key, video_id in rows if video_id in published}

    def sentences(self) -> np.ndarray:
        """`(n, D)` float32, embeddings of everyday sentences that the index keeps; n may be 0."""
        dim = self.manifest.settings.embedding_dim
        return query_log.read(self._folder, query_log.SENTENCES, embedding_dim=dim)

    @property
    def has_words(self) -> bool:
        """Whether the words of the videos' texts can be searched."""
        return self._generation.lexical is not None

    @property
    def skipped(self) -> str:
        """Why words cannot be searched, with the remedy; empty where they can."""
        if self.has_words:
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
        excluded: Sequence[str] = (),
        where: str | None = None,
        level: str = "video",
    ) -> list[LexicalHit]:
        """The videos whose texts have these words, best first; none where `has_words` is false.

        Args:
            words: as `text.segmentation.words` gives them; any of them may be lacking in a hit.
            k: hits to return; fewer come back where there are fewer.
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
        wanted, unwanted = documents.stems(words), documents.stems(excluded)
        while True:
            found = generation.lexical.search(
                wanted, k=k, excluded=unwanted, only=only, level=level
            )
            records = self._records([match.video_id for match in found], generation)
            if records is not None:
                return [_lexical_hit(match, records[match.video_id], wanted) for match in found]

    def vocabulary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The words of titles, captions and tags, and the tags themselves, casefolded: with the
        number of videos that have each; nothing where `has_words` is false.

        They are those of the generation that the latest search has answered from, and are to be
        left as they are.
        """
        lexical = self._generation.lexical
        return ({}, {}) if lexical is None else lexical.vocabulary

    def close(self) -> None:
        self._catalogue.close()

    def _records(
        self, video_ids: Sequence[int], generation: "_Generation"
    ) -> dict[int, VideoRecord] | None:
        """The entries of these videos; None where some were deleted since, and are forgotten now.

        Raises:
            ValueError: entries are lacking though nothing was deleted.
        """
        records = self._catalogue.videos(sorted(set(video_ids)))
        gone = [video_id for video_id in video_ids if video_id not in records]
        if not gone:
            return records
        if self._catalogue.counter("revision") == generation.manifest.revision:
            raise ValueError(
                f"{self._folder / CATALOGUE_NAME} is damaged: it lacks video {gone[0]}; run "
                "python -m indexing.repair index=DIR"
            )
        generation.forget(gone)
        return None

    def _matching(self, where: str) -> np.ndarray:
        """Ids of the videos that a filter lets through, ascending."""
        condition = parse_filter(where)
        if not self._entries_checked:  # of those that a filter leaves out, nothing else is read
            self._catalogue.check_entries()
            self._entries_checked = True
        with self._catalogue.named_errors():
            check_fields(condition, metadata_fields(self._catalogue.connection))
        return self._catalogue.matching_ids(*condition.condition())

    def _refresh(self) -> None:
        """Goes over to a newer generation, if there is one; stays where it cannot be opened."""
        stamp = _stamp(self._folder)
        if stamp == self._stamp:
            return
        with self._refreshing:
            if stamp == self._stamp:
                return
            try:
                self._generation = _open_generation(self._folder, self._generation)
            except ValueError as error:
                logger.warning("answers come from an earlier state of the index: %s", error)
            self._stamp = stamp

    def _log(self, query: np.ndarray) -> None:
        try:
            query_log.append(self._folder, query_log.QUERIES, query[None])
        except OSError as error:
            self._log_queries = False
            logger.warning("queries are not kept: %s", error)


class _Found:
    """A hit before its entry is looked up."""

    __slots__ = ("best_seconds", "end", "score", "start", "video_id")

    def __init__(
        self, video_id: int, score: float, start: float, end: float, best_seconds: float
    ) -> None:
        self.video_id = video_id
        self.score = score
        self.start = start
        self.end = end
        self.best_seconds = best_seconds


class _Generation:
    """One published state, opened.

    Args:
        folder: of the index.
        manifest: that names its files.
        before: an earlier one, whose files are used again where they are the same.

    Raises:
        FileNotFoundError: a writer has replaced it meanwhile.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, manifest: Manifest, before: "_Generation | None") -> None:
        self.manifest = manifest
        self._parts = EmbeddingParts(
            folder / EMBEDDINGS_NAME, embedding_dim=manifest.settings.embedding_dim
        )
        self._levels: dict[str, _Level] = {
            name: _Level(
                folder, info, self._parts, None if before is None else before._levels[name]
            )
            for name, info in manifest.levels.items()
        }
        self.lexical: LexicalIndex | None = _open_lexical(
            folder, manifest, None if before is None else before.lexical
        )

        self._samples: dict[int, list[VideoSegments]] = {}

    def forget(self, video_ids: list[int]) -> None:
        """Leaves out videos that have been deleted since."""
        for level in self._levels.values():
            level.forget(video_ids)
        if self.lexical is not None:
            self.lexical.forget(video_ids)

    def videos(self, query: np.ndarray, k: int, only: np.ndarray | None) -> list[_Found]:
        """The best videos, each with its best second."""
        return self._with_best_seconds(query, *self._levels["video"].nearest(query, k=k, only=only))

    def of_videos(self, query: np.ndarray, video_ids: list[int], level: str) -> list[_Found]:
        """All hits in these videos, best first."""
        if level == "moment":
            found = self._moments_of(query, video_ids, -math.inf)
        else:
            every = [self._levels["video"].rows_of(video_id) for video_id in video_ids]
            rows = np.concatenate([np.empty(0, TABLE_DTYPE), *every])
            scores = self._parts.read(np.stack([rows["part"], rows["row"]], axis=1)) @ query
            found = self._with_best_seconds(query, rows, scores)
        return sorted(found, key=lambda hit: (-hit.score, hit.video_id, hit.start))

    def segments(self, video_ids: Sequence[int]) -> dict[int, VideoSegments]:
        """The segments of these videos, as far as they are there."""
        found = {}
        for video_id in video_ids:
            whole = self._levels["video"].rows_of(video_id)
            rows = np.concatenate([whole, self._levels["moment"].rows_of(video_id)])
            if len(rows) > 1:
                embeddings = self._parts.read(np.stack([rows["part"], rows["row"]], axis=1))
                spans = np.stack([rows["start"], rows["end"]], axis=1)[1:]
                found[video_id] = VideoSegments(spans, embeddings[1:], embeddings[0])
        return found

    def whole(self, video_ids: Sequence[int]) -> np.ndarray:
        """`(n, D)`, the embeddings of whole videos."""
        rows = np.concatenate([self._levels["video"].rows_of(number) for number in video_ids])
        return self._parts.read(np.stack([rows["part"], rows["row"]], axis=1))

    def video_ids(self) -> np.ndarray:
        """`(n,)`, ascending."""
        return self._levels["video"].video_ids()

    def sample(self, num: int) -> list[VideoSegments]:
        """The segments of so many videos, drawn at random."""
        if num not in self._samples:
            video_ids = self.video_ids()
            random = np.random.default_rng(0)
            chosen = random.choice(video_ids, min(num, len(video_ids)), replace=False)
            self._samples[num] = list(self.segments(np.sort(chosen).tolist()).values())
        return self._samples[num]

    def moments(self, query: np.ndarray, k: int, only: np.ndarray | None) -> list[_Found]:
        """The best moments: those of the videos of the nearest segments, and where these are too
        few, of the nearest videos."""
        wanted = _SEGMENTS_PER_MOMENT * k
        while True:
            rows, scores = self._levels["moment"].nearest(
                query, k=wanted // _SEGMENTS_PER_MOMENT, at_least=wanted, only=only
            )
            has_all = len(rows) < wanted
            # Below the last candidate, other videos may hold moments that were not looked at.
            least = -math.inf if has_all else float(scores[-1]) - _TOLERANCE
            found = self._best_of(query, k, rows["video"].tolist(), least)
            if len(found) >= k or has_all:
                break
            wanted *= 4  # a long video that matches evenly is many segments and one moment
        if len(found) < k:
            nearest, _ = self._levels["video"].nearest(query, k=k, only=only)
            others = set(nearest["video"].tolist()) - {hit.video_id for hit in found}
            found += self._moments_of(query, sorted(others), -math.inf)
        found.sort(key=lambda hit: (-hit.score, hit.video_id, hit.start))
        return found[:k]

    def _best_of(self, query: np.ndarray, k: int, videos: list[int], least: float) -> list[_Found]:
        """Moments of candidates that come best first, of enough videos."""
        found: list[_Found] = []
        different = list(dict.fromkeys(videos))
        # Scores are drawn towards their video's mean, so a few more than k are looked at.
        at_once = math.ceil(_VIDEOS_PER_MOMENT * k)
        for first in range(0, len(different), at_once):
            found += self._moments_of(query, different[first : first + at_once], least)
            if len(found) >= k:
                break
        return found

    def _with_best_seconds(
        self, query: np.ndarray, rows: np.ndarray, scores: np.ndarray
    ) -> list[_Found]:
        """Videos of the table's `(n,)` rows, each with the middle of its best segment."""
        of_each = [self._levels["moment"].rows_of(int(row["video"])) for row in rows]
        segments = np.concatenate([np.empty(0, TABLE_DTYPE), *of_each])
        every = self._parts.read(np.stack([segments["part"], segments["row"]], axis=1)) @ query
        found, first = [], 0
        for row, score, own in zip(rows, scores, of_each, strict=True):
            best = 0.0
            if len(own):
                place = int(every[first : first + len(own)].argmax())
                best = float(own["start"][place] + own["end"][place]) / 2
            first += len(own)
            start, end = float(row["start"]), float(row["end"])
            found.append(_Found(int(row["video"]), float(score), start, end, best))
        return found

    def _moments_of(self, query: np.ndarray, video_ids: list[int], least: float) -> list[_Found]:
        if not video_ids:
            return []
        of_each = [self._levels["moment"].rows_of(video_id) for video_id in video_ids]
        part, row, start, end = (
            np.concatenate([rows[name] for rows in of_each])
            for name in ("part", "row", "start", "end")
        )
        every_score = self._parts.read(np.stack([part, row], axis=1)) @ query
        every_span = np.stack([start, end], axis=1)
        found = []
        first = 0
        for video_id, rows in zip(video_ids, of_each, strict=True):
            last = first + len(rows)
            spans = every_span[first:last]
            found += [
                _Found(
                    video_id,
                    moment.score,
                    moment.start_seconds,
                    moment.end_seconds,
                    float(spans[moment.best_segment].sum()) / 2,
                )
                for moment in merge_moments(every_score[first:last], spans, least=least)
            ]
            first = last
        return found


class _Level:
    """The shards of a level, and which of their positions may be found."""

    def __init__(
        self, folder: Path, info: LevelInfo, parts: EmbeddingParts, before: "_Level | None"
    ) -> None:
        self._parts = parts
        opened = {} if before is None else {shard.info.identity: shard for shard in before._shards}
        self._shards: list[Shard] = []
        self._alive: list[np.ndarray | None] = []  # bits, the lowest first; None for all
        for shard_info in (info.main, info.delta):
            if shard_info is None or not shard_info.count:
                continue
            shard = opened.get(shard_info.identity) or Shard(
                folder, shard_info, embedding_dim=parts.embedding_dim
            )
            self._shards.append(shard.tuned(shard_info))
            self._alive.append(None)
            used = np.unique(shard.table["part"])
            parts.open(used[used >= 0])
        if info.dead and self._shards:
            self._alive[0] = ~_read_dead(folder / info.dead, info.dead_checksum)

    def rows_of(self, video_id: int) -> np.ndarray:
        """The table's rows of a video; none where it is not there."""
        for shard in self._shards:
            rows = shard.table[shard.of_video(video_id)]
            if len(rows):
                return rows
        return np.empty(0, TABLE_DTYPE)

    def video_ids(self) -> np.ndarray:
        """`(n,)`, of the videos in it that are not deleted."""
        every = [
            shard.table["video"][_unpacked(alive, shard.info.count)]
            for shard, alive in zip(self._shards, self._alive, strict=True)
        ]
        return np.unique(np.concatenate([np.empty(0, np.int64), *every]))

    def forget(self, video_ids: list[int]) -> None:
        for number, shard in enumerate(self._shards):
            dead = np.zeros(shard.info.count, dtype=bool)
            for video_id in video_ids:
                dead[shard.of_video(video_id)] = True
            if dead.any():
                alive = ~np.packbits(dead, bitorder="little")
                before = self._alive[number]
                self._alive[number] = alive if before is None else alive & before

    def nearest(
        self, query: np.ndarray, *, k: int, at_least: int = 0, only: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest, by their exact scores.

        Args:
            at_least: how many come back; those beyond the k nearest are less surely the next ones.
            only: ids of the videos that may be found, ascending; None for all.

        Returns:
            `(n,)` rows of the table and `(n,)` float32 scores, best first.
        """
        tables, scores = [], []
        for shard, alive in zip(self._shards, self._alive, strict=True):
            positions = self._positions(shard, alive, query, k, at_least, only)
            rows = shard.table[positions]
            tables.append(rows)
            scores.append(self._parts.read(np.stack([rows["part"], rows["row"]], axis=1)) @ query)
        if not tables:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        every_row, every_score = np.concatenate(tables), np.concatenate(scores)
        best = np.argsort(-every_score, kind="stable")[: max(k, at_least)]
        return every_row[best], every_score[best]

    def _positions(
        self,
        shard: Shard,
        alive: np.ndarray | None,
        query: np.ndarray,
        k: int,
        at_least: int,
        only: np.ndarray | None,
    ) -> np.ndarray:
        allowed, num_allowed = alive, shard.info.count
        wanted = max(k, at_least)
        if only is not None:
            inside = np.isin(shard.table["video"], only) & _unpacked(alive, num_allowed)
            num_allowed = int(inside.sum())
            if num_allowed <= max(_COMPARE_ALL, wanted):
                return np.flatnonzero(inside)
            allowed = np.packbits(inside, bitorder="little")
        elif wanted >= num_allowed:
            return np.flatnonzero(_unpacked(alive, num_allowed))
        found = shard.nearest(query, k=k, at_least=at_least, allowed=allowed)
        if len(found) < min(wanted, num_allowed):  # too few in the lists that were looked at
            found = shard.nearest(query, k=k, at_least=at_least, allowed=allowed, exhaustive=True)
        if only is not None and len(found) < min(wanted, num_allowed):
            return np.flatnonzero(inside)  # a graph may not lead to what a filter leaves
        return found


def _unpacked(alive: np.ndarray | None, count: int) -> np.ndarray:
    if alive is None:
        return np.ones(count, dtype=bool)
    return np.unpackbits(alive, count=count, bitorder="little").view(bool)


def _hit(rank: int, found: _Found, records: dict[int, VideoRecord]) -> SearchHit:
    record = records[found.video_id]
    return SearchHit(
        rank=rank,
        video=record.path,
        score=found.score,
        start_seconds=found.start,
        end_seconds=found.end,
        best_seconds=found.best_seconds,
        duration_seconds=record.duration_seconds,
        key=record.key,
        metadata=record.metadata,
        video_id=record.id,
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


def _open_lexical(
    folder: Path, manifest: Manifest, before: LexicalIndex | None
) -> LexicalIndex | None:
    """None where there is none, or no tantivy to open it with."""
    info = manifest.lexical
    if info is None or not documents.is_installed():
        return None
    if before is not None and before.info == info:
        return before
    try:
        return _opened_lexical(folder, info)
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.warning("texts are not searched by their words: %s", error)
        return None


def _opened_lexical(folder: Path, info: LexicalInfo) -> LexicalIndex | None:
    if info.analysis == documents.analysis():
        return LexicalIndex(folder, info)
    check_files(folder, info)
    remedy = "the index was made with other packages; run python -m indexing again"
    try:
        opened = LexicalIndex(folder, info)
    except ValueError:
        logger.warning("texts are not searched by their words: %s", remedy)
        return None
    logger.warning("words of some languages are found less surely: %s", remedy)
    return opened


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """What changes with each published generation."""
    try:
        status = os.stat(Manifest.path(folder))
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _open_generation(folder: Path, before: _Generation | None) -> _Generation:
    """Reads the manifest and the files it names; again, if a writer replaced them between."""
    for attempt in range(_OPEN_ATTEMPTS):
        manifest = Manifest.read(folder)
        try:
            return _Generation(folder, manifest, before)
        except FileNotFoundError as error:
            missing = error.filename
        except ValueError:
            if attempt == _OPEN_ATTEMPTS - 1 or Manifest.read(folder) == manifest:
                raise
        time.sleep(0.01 * (attempt + 1))
    raise ValueError(
        f"index={folder}: lacks {missing}; run python -m indexing.repair index={folder}"
    )


def _read_dead(path: Path, checksum: int) -> np.ndarray:
    if file_checksum(path) != checksum:
        raise ValueError(f"{path} is damaged: run python -m indexing.repair index=DIR")
    return np.load(path, allow_pickle=False)
