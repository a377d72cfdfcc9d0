"""An opened index -> what recommending needs of its videos, as arrays of one row each."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.shards.reader import ShardReader
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.indexing.store.dates import date_of
from reelseek.recommendation.related.texts import TextVectors, words_of

__all__ = ["ItemCatalogue", "author_of", "seconds_of", "tags_of"]

# What a collection may call who made a video, the first that is there.
_MAX_TEXTS = 300_000  # videos whose words are compared; of more they take too much memory
_AUTHOR_FIELDS = ("author", "author_id", "uploader", "channel", "creator")


@dataclass(frozen=True, eq=False)
class ItemCatalogue:
    """The N searchable videos of one generation of an index.

    Attributes:
        ids: public ids.
        row_by_id: the reverse.
        shards: that the videos are in.
        shard_positions: `(N,)` int16, into `shards`.
        video_ids: `(N,)` int64, the ids that the shard's catalogue has.
        contents: `(N,)` int64, the same for copies of a file.
        authors: `(N,)` int32; -1 for none.
        tags: of each video, as frozensets of numbers.
        dates: `(N,)` float64, Unix time in seconds; NaN where it cannot be read.
        texts: their words.
        author_names: by the numbers in `authors`.
        first_tags: `(N,)` int32, the number of each video's first tag; -1 for none.
        tag_names: by the numbers in `tags` and `first_tags`.
        durations: `(N,)` float64 seconds; 0 for pictures.
    """

    ids: tuple[str, ...]
    row_by_id: dict[str, int]
    shards: tuple[ShardReader, ...]
    shard_positions: np.ndarray
    video_ids: np.ndarray
    contents: np.ndarray
    authors: np.ndarray
    tags: tuple[frozenset[int], ...]
    dates: np.ndarray
    texts: TextVectors
    author_names: tuple[str, ...] = ()
    first_tags: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    tag_names: tuple[str, ...] = ()
    durations: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, reader: IndexReader) -> "ItemCatalogue":
        """Reads the catalogue of the generation in use; takes some 50 us for each video."""
        shards = tuple(reader.shards)
        authors: dict[str, int] = {}
        tags: dict[str, int] = {}
        ids: list[str] = []
        columns: list[tuple[int, int, int, int, float, int, float]] = []
        tag_sets: list[frozenset[int]] = []
        texts: list[list[str]] = []
        for position, record in _records(shards):
            metadata = record.metadata
            author = author_of(metadata)
            of_video = [tags.setdefault(tag, len(tags)) for tag in tags_of(metadata)]
            ids.append(record.public_id)
            columns.append(
                (
                    position,
                    record.id,
                    zlib.crc32(record.signature.content_sha256.encode()) << 31
                    | zlib.adler32(record.signature.content_sha256.encode()),
                    -1 if author is None else authors.setdefault(author, len(authors)),
                    seconds_of(date_of(metadata, record.signature.modified_ns)[0]),
                    of_video[0] if of_video else -1,
                    record.duration_seconds,
                )
            )
            tag_sets.append(frozenset(of_video))
            texts.append(words_of(metadata) if len(ids) <= _MAX_TEXTS else [])
        columns_of = list(zip(*columns, strict=True)) or [()] * 7
        return cls(
            tuple(ids),
            {video: row for row, video in enumerate(ids)},
            shards,
            np.array(columns_of[0], np.int16),
            np.array(columns_of[1], np.int64),
            np.array(columns_of[2], np.int64),
            np.array(columns_of[3], np.int32),
            tuple(tag_sets),
            np.array(columns_of[4], np.float64),
            TextVectors.of(texts if len(ids) <= _MAX_TEXTS else [[]] * len(ids)),
            tuple(authors),
            np.array(columns_of[5], np.int32),
            tuple(tags),
            np.array(columns_of[6], np.float64),
        )

    def rows(self, ids: Iterable[str]) -> np.ndarray:
        """Returns the row of each video, -1 where the index lacks it."""
        return np.array([self.row_by_id.get(each, -1) for each in ids], np.int64)

    def records(self, rows: Sequence[int]) -> dict[int, VideoRecord]:
        """Reads the entries of rows as they are now; those that were deleted since are missing."""
        found: dict[int, VideoRecord] = {}
        positions = self.shard_positions[list(rows)] if len(rows) else np.zeros(0, np.int16)
        for position in np.unique(positions).tolist():
            here = [r for r, p in zip(rows, positions.tolist(), strict=True) if p == position]
            by_id = self.shards[position].catalogue.videos(self.video_ids[here].tolist())
            for row in here:
                record = by_id.get(int(self.video_ids[row]))
                if record is not None:
                    found[row] = record
        return found


def _records(shards: Sequence[ShardReader]) -> Iterator[tuple[int, VideoRecord]]:
    """Yields the searchable videos of each shard by ascending id."""
    for position, shard in enumerate(shards):
        published = set(shard.snapshot.video_ids().tolist())
        # A connection of its own: an open statement would keep searches from seeing deletions.
        with closing(Catalogue(shard.folder / CATALOGUE_NAME, read_only=True)) as catalogue:
            for record in catalogue.scan():
                if record.id in published:
                    yield position, record


def author_of(metadata: Mapping[str, Any]) -> str | None:
    """Returns who made a video; None where nothing says so."""
    for name in _AUTHOR_FIELDS:
        value = metadata.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def tags_of(metadata: Mapping[str, Any]) -> list[str]:
    """Returns the different tags in lower case, in their order."""
    tags = metadata.get("tags")
    found = [tags] if isinstance(tags, str) else tags if isinstance(tags, list) else []
    return list(dict.fromkeys(str(tag).strip().casefold() for tag in found if str(tag).strip()))


def seconds_of(date: str) -> float:
    """Unix time of a date in ISO 8601, as far as it is known: `2024`, `2024-07`, with a time; NaN
    where it cannot be read."""
    for text in (date, f"{date}-01", f"{date}-01-01"):
        try:
            found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            continue
        aware = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
        return aware.timestamp()
    return float("nan")
