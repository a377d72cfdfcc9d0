"""The catalogues of all shards, as one.

Ids number the videos of one shard. Here the id of a video is `id * N + position of its shard`, of N
shards, so that no two videos of the index share one.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Any, TypeVar

import numpy as np

from reelseek.indexing.shards.clusters import ClusterMap
from reelseek.indexing.shards.placement import shard_of
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.edits import Excluded
from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.texts import TimedText, VideoTexts
from reelseek.indexing.store.videos import NewVideo, VideoRecord

T = TypeVar("T")


class ShardedCatalogue:
    """Reads and changes the entries of all shards; its methods are those of `Catalogue`.

    A change of several videos is one transaction for each shard.

    Args:
        catalogues: of the shards, in order; closed with this one.
        clusters: by which new videos are placed; None for a hash of their ids.
    """

    def __init__(
        self, catalogues: Sequence[Catalogue], *, clusters: ClusterMap | None = None
    ) -> None:
        self._catalogues = list(catalogues)
        self._clusters = clusters
        # By id: the videos that were placed by their clusters and may not be saved yet.
        self._unsaved: dict[str, tuple[tuple[str, str], int]] = {}

    def close(self) -> None:
        for catalogue in self._catalogues:
            catalogue.close()

    # Which video is where

    def place(
        self,
        video: NewVideo,
        embeddings: np.ndarray | None = None,
        *,
        beside: int | None = None,
    ) -> tuple[int, NewVideo]:
        """Returns the position of a video's shard, and the video with the id that it has or gets.

        All videos with an id are in one shard, so that ids stay unique: the one that the id names,
        or by clusters the one that has the video already; a new video goes to the nearest.

        Args:
            embeddings: of the video, see `IndexWriter.add`; they decide where clusters do.
            beside: the shard of a copy, which decides there instead.
        """
        made = (make_video_id(video.root, video.key, number) for number in count())
        names = chain([video.public_id] if video.public_id else [], made)
        for public_id in self._ids_of(video) or names:
            owner, position, is_found = self._holder(public_id)
            if owner is not None and owner != video.root_and_key:
                continue
            if self._clusters is not None:
                if not is_found and beside is not None:
                    position = beside
                elif not is_found:
                    assert embeddings is not None
                    position = self._clusters.place(
                        embeddings, num_segments=len(video.spans), public_id=public_id
                    )
                self._unsaved[public_id] = video.root_and_key, position
            return position, replace(video, public_id=public_id)
        raise AssertionError("unreachable")

    def position_of(self, public_id: str) -> int | None:
        """Returns the position of the shard that has a video; by hash, also of one that is not
        there, else None."""
        if self._clusters is None:
            return shard_of(public_id, len(self._catalogues))
        for position, catalogue in enumerate(self._catalogues):
            if catalogue.by_public_id([public_id]):
                return position
        return None

    def forget_unsaved(self) -> None:
        """Says that all placed videos are in the catalogues now."""
        self._unsaved.clear()

    def _holder(self, public_id: str) -> tuple[tuple[str, str] | None, int, bool]:
        """Returns root and key of the video with an id, None if there is none; the position of its
        shard; and whether it has embeddings, which a video that failed lacks."""
        if public_id in self._unsaved:
            return *self._unsaved[public_id], True
        position = self.position_of(public_id)
        if position is None:
            return None, 0, False
        record = self._catalogues[position].by_public_id([public_id]).get(public_id)
        if record is None:
            return None, position, False
        return record.root_and_key, position, record.location is not None

    def own(self, record: VideoRecord) -> tuple[int, VideoRecord]:
        """Returns the position of a record's shard, and the record as that shard has it."""
        number, position = divmod(record.id, len(self._catalogues))
        return position, replace(record, id=number)

    def _ids_of(self, video: NewVideo) -> list[str]:
        """Returns the id of the stored video with this root and key, if there is one."""
        likely = shard_of(make_video_id(video.root, video.key), len(self._catalogues))
        ordered = sorted(range(len(self._catalogues)), key=lambda position: position != likely)
        names = (self._catalogues[at].public_id_of(video.root, video.key) for at in ordered)
        return [found for found in [next(filter(None, names), None)] if found]

    # Reading

    def scan(self) -> Generator[VideoRecord, None, None]:
        """Yields all videos, shard after shard."""
        for position, catalogue in enumerate(self._catalogues):
            for record in catalogue.scan():
                yield self._shared(position, record)

    def videos(self, ids: Sequence[int]) -> dict[int, VideoRecord]:
        found: dict[int, VideoRecord] = {}
        for position, own in self._by_shard(ids).items():
            records = self._catalogues[position].videos(own).values()
            found |= {each.id: each for each in (self._shared(position, r) for r in records)}
        return {number: found[number] for number in ids if number in found}

    def by_public_id(self, public_ids: Iterable[str]) -> dict[str, VideoRecord]:
        public_ids = list(public_ids)
        found: dict[str, VideoRecord] = {}
        for position, catalogue in enumerate(self._catalogues):
            records = catalogue.by_public_id(public_ids).values()
            found |= {r.public_id: self._shared(position, r) for r in records}
        return {name: found[name] for name in public_ids if name in found}

    def matching(self, condition: str, values: Sequence) -> list[VideoRecord]:
        return [
            self._shared(position, record)
            for position, catalogue in enumerate(self._catalogues)
            for record in catalogue.matching(condition, values)
        ]

    def ids_by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, catalogue in enumerate(self._catalogues):
            for name, ids in catalogue.ids_by_name().items():
                shared = [self._number(position, number) for number in ids]
                found.setdefault(name, []).extend(shared)
        return found

    def public_ids(self) -> dict[tuple[str, str], str]:
        return {k: v for each in self._catalogues for k, v in each.public_ids().items()}

    def searchable_ids(self) -> np.ndarray:
        return np.array(self._numbers(Catalogue.searchable_ids), dtype=np.int64)

    def has_content(self, start: str) -> bool:
        return any(catalogue.has_content(start) for catalogue in self._catalogues)

    def check_entries(self) -> None:
        for catalogue in self._catalogues:
            catalogue.check_entries()

    def metadata_fields(self) -> set[str]:
        return set().union(*(catalogue.metadata_fields() for catalogue in self._catalogues))

    def counter(self, name: str) -> int:
        return sum(catalogue.counter(name) for catalogue in self._catalogues)

    def index_metadata(self, name: str) -> str | None:
        return self._catalogues[0].index_metadata(name)

    def excluded(self) -> list[Excluded]:
        return [video for catalogue in self._catalogues for video in catalogue.excluded()]

    def edits(self) -> dict[str, dict[str, Any]]:
        return {k: v for each in self._catalogues for k, v in each.edits().items()}

    # Changing

    def update(self, record: VideoRecord, **changes: Any) -> None:
        position, own = self.own(record)
        self._catalogues[position].update(own, **changes)

    def edit(self, record: VideoRecord, changes: dict[str, Any]) -> dict[str, Any]:
        position, own = self.own(record)
        return self._catalogues[position].edit(own, changes)

    def exclude(self, records: Iterable[VideoRecord]) -> None:
        by_shard: dict[int, list[VideoRecord]] = {}
        for position, own in map(self.own, records):
            by_shard.setdefault(position, []).append(own)
        for position, some in by_shard.items():
            self._catalogues[position].exclude(some)

    def include(self, videos: Iterable[Excluded]) -> None:
        self._each(list(videos), Catalogue.include)

    def drop_edits(self, public_ids: Iterable[str]) -> None:
        self._each(list(public_ids), Catalogue.drop_edits)

    def move_root(self, root: str, path: str) -> None:
        for catalogue in self._catalogues:
            catalogue.move_root(root, path)

    def set_index_metadata(self, name: str, value: str) -> None:
        for catalogue in self._catalogues:
            catalogue.set_index_metadata(name, value)

    # Texts

    def text_entries(self, ids: Sequence[int]) -> Iterator[VideoTexts]:
        for position, own in self._by_shard(ids).items():
            for entry in self._catalogues[position].text_entries(own):
                yield replace(entry, video_id=self._number(position, entry.video_id))

    def without_texts(self, source: str) -> list[int]:
        return self._numbers(lambda catalogue: catalogue.without_texts(source))

    def text_engines(self, source: str) -> dict[int, str]:
        return {
            self._number(position, number): engine
            for position, catalogue in enumerate(self._catalogues)
            for number, engine in catalogue.text_engines(source).items()
        }

    def store_texts(
        self, video_id: int, source: str, texts: Sequence[TimedText], *, engine: str
    ) -> None:
        number, position = divmod(video_id, len(self._catalogues))
        self._catalogues[position].store_texts(number, source, texts, engine=engine)

    def delete_texts(self, video_id: int, source: str) -> None:
        number, position = divmod(video_id, len(self._catalogues))
        self._catalogues[position].delete_texts(number, source)

    def add_texts(self, entries: Iterable[VideoTexts]) -> None:
        by_shard: dict[int, list[VideoTexts]] = {}
        for entry in entries:
            number, position = divmod(entry.video_id, len(self._catalogues))
            by_shard.setdefault(position, []).append(replace(entry, video_id=number))
        for position, some in by_shard.items():
            self._catalogues[position].add_texts(some)

    def copy_texts(self, source: str) -> int:
        """Copies texts within each shard, then to videos whose content another shard has."""
        num_copied = sum(catalogue.copy_texts(source) for catalogue in self._catalogues)
        lacking: dict[str, list[int]] = {}
        for record in self.videos(self.without_texts(source)).values():
            lacking.setdefault(record.signature.content_sha256, []).append(record.id)
        known = self.videos(list(self.text_engines(source))).values() if lacking else ()
        had = {
            record.id: lacking[record.signature.content_sha256]
            for record in known
            if record.signature.content_sha256 in lacking
        }
        copies = {
            video_id: replace(entry, video_id=video_id)
            for entry in self.text_entries(sorted(had))
            if entry.source == source
            for video_id in had[entry.video_id]
        }
        self.add_texts(copies.values())
        return num_copied + len(copies)

    def _number(self, position: int, number: int) -> int:
        return number * len(self._catalogues) + position

    def _shared(self, position: int, record: VideoRecord) -> VideoRecord:
        return replace(record, id=self._number(position, record.id))

    def _by_shard(self, ids: Iterable[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for video_id in ids:
            number, position = divmod(int(video_id), len(self._catalogues))
            found.setdefault(position, []).append(number)
        return found

    def _numbers(self, of_shard: Callable[[Catalogue], Iterable[int]]) -> list[int]:
        return sorted(
            self._number(position, number)
            for position, catalogue in enumerate(self._catalogues)
            for number in map(int, of_shard(catalogue))
        )

    def _each(self, values: Sequence[T], change: Callable[[Catalogue, Sequence[T]], None]) -> None:
        for catalogue in self._catalogues:
            change(catalogue, values)
