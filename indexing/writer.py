"""Changes an index: adds, deletes, updates, compacts and publishes. One process at a time.

An added video, like the frames in `unfinished`, outlives the death of the process; a saved one
outlives a power loss. Deletions and updates outlive both at once.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME, clean, publish
from reelseek.indexing.remote.publication import is_published_copy
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace
from reelseek.indexing.store import query_log
from reelseek.indexing.store.atomic import check_can_write_folder, make_folder
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.journal import Journal
from reelseek.indexing.store.manifest import (
    SHARDS_NAME,
    FaissOptions,
    IndexSettings,
    Manifest,
    check_settings,
)
from reelseek.indexing.store.unfinished import UnfinishedVideos
from reelseek.indexing.store.videos import NewVideo, VideoRecord, by_part
from reelseek.indexing.vectors.builder import Quantiser

SAVE_EVERY_SECONDS = 20.0
SAVE_BYTES = 256 << 20  # of embeddings in memory, after which they are saved
_LOCK_NAME = "writer.lock"
_JOURNAL_NAME = "unsaved.journal"
UNFINISHED_NAME = "unfinished"

# Parts are copied together when half of their rows are deleted, or when many are small.
_LIVE_FRACTION = 0.5
_SMALL_PARTS = 32
_SMALL_ROWS = 16_384
_COMPACT_ROWS = 262_144  # of a new part at most


class IndexWriter:
    """An index, opened for changing; one process at a time.

    Args:
        folder: of the index; made if missing.
        settings: of the index; None for those of an existing one.
        place: of the shard that the folder is; None for an ordinary index.

    Raises:
        ValueError: the folder cannot hold an index, or another process is writing it; it is
            divided into shards, or is a shard of another place.
        IndexMismatchError: the index was built with other settings.
    """

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings | None = None,
        *,
        place: ShardPlace | None = None,
    ) -> None:
        self.folder = folder
        if settings is None:
            Manifest.read(folder)  # raises before anything is made
        prepare_folder(folder)
        self._lock = only_writer(folder)
        try:
            if Manifest.exists(folder):
                self.manifest = Manifest.read(folder)
                if settings is not None:
                    check_settings(settings, self.manifest.settings, folder)
                if self.manifest.sharding is not None:
                    raise ValueError(f"index={folder}: is divided into shards")
            else:
                assert settings is not None
                self.manifest = Manifest(settings)
                self.manifest.write(folder)
            embedding_dim = self.manifest.settings.embedding_dim
            self.catalogue = Catalogue(folder / CATALOGUE_NAME)
            self._check_place(place)
            settings_json = self.manifest.settings.to_json()
            if self.catalogue.index_metadata("settings") != settings_json:
                self.catalogue.set_index_metadata("settings", settings_json)
            self.parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=embedding_dim)
            self._journal = Journal(folder / _JOURNAL_NAME, embedding_dim=embedding_dim)
            next_part = self.catalogue.counter("next_part")
            self._unsaved = self._journal.read(part=next_part)  # by a killed process
            self.unfinished = UnfinishedVideos(
                folder / UNFINISHED_NAME, settings=settings_json, embedding_dim=embedding_dim
            )
            self.save()
            self._journal.clear()  # of an unfinished record
            self.unfinished.drop_known(self.catalogue.has_content)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the index; the next writer saves what is not saved yet."""
        self._journal.close()
        self.unfinished.close()
        self.catalogue.close()
        self._lock.release()

    @property
    def unsaved_bytes(self) -> int:
        """Size of the embeddings that are in memory until the next save."""
        return self._unsaved_bytes

    @property
    def is_published(self) -> bool:
        """Whether nothing has been saved since the last publishing."""
        revision = self.catalogue.counter("revision")
        return self.manifest.generation > 0 and self.manifest.revision == revision

    def add(self, video: NewVideo, embeddings: np.ndarray) -> None:
        """Adds a video, or replaces the one with its key.

        Args:
            embeddings: `(1 + S + T, D)`: of the video, its segments and its frames, L2-normalised;
                `(0, D)` where it failed.
        """
        assert len(embeddings) == video.num_rows
        self._journal.append(video, embeddings, part=self.catalogue.counter("next_part"))
        self._unsaved.append((video, embeddings))
        self._unsaved_bytes += embeddings.nbytes
        self.unfinished.add(video.signature)
        self.save_if_due()

    def save_if_due(self) -> None:
        """Saves if the last time was long ago or much has been added since."""
        if is_save_due(self._saved_at, self._unsaved_bytes):
            self.save()

    def set_frame_spread(self, spread: float) -> None:
        """Stores how far apart frames of different videos lie, so that all runs cut alike."""
        self.manifest = replace(self.manifest, frame_spread=spread)
        self.manifest.write(self.folder)
        self.catalogue.set_index_metadata("frame_spread", repr(spread))

    def add_duplicate(self, video: NewVideo, record: VideoRecord) -> None:
        """Adds a video with the content of a saved one; they share their embeddings."""
        self.catalogue.store([video], [record.location])

    def delete(self, keys: Iterable[str], *, root: str = "") -> None:
        """Deletes videos of one root; no search that starts after this finds them."""
        self.save()
        self.catalogue.store([], [], deleted_keys=keys, root=root)

    def delete_videos(self, videos: Iterable[NewVideo]) -> None:
        """Deletes videos of any roots."""
        by_root: dict[str, list[str]] = {}
        for video in videos:
            by_root.setdefault(video.root, []).append(video.key)
        for root, keys in by_root.items():
            self.delete(keys, root=root)

    def save(self) -> None:
        """Makes added videos durable: first their embeddings, then the entries that name them."""
        if self._unsaved:
            part = self._next_part()
            self.parts.append(np.concatenate([rows for _, rows in self._unsaved]), part=part)
            self.catalogue.store(
                [video for video, _ in self._unsaved],
                _locations([video.num_rows for video, _ in self._unsaved], part),
                next_part=part + 1,
            )
            self._unsaved = []
            self._journal.clear()
        self.unfinished.save()
        self._unsaved_bytes = 0
        self._saved_at = time.monotonic()

    def publish(
        self,
        options: FaissOptions | None = None,
        *,
        rebuild: bool = False,
        compact: bool = True,
        train: bool = True,
        clears: bool = True,
        quantisers: Mapping[str, Quantiser] = MappingProxyType({}),
        sentences: Callable[[], np.ndarray] | None = None,
    ) -> Manifest:
        """Makes all added videos searchable, and deleted ones not.

        Args:
            compact: copy embeddings together first, where that is worth it; the location of a
                record that was read before may then be wrong.
            train: FAISS indexes where need be, which takes minutes for a large index; else the next
                publishing does it that may.
            clears: delete the files of earlier generations; else `clean` does.
            quantisers: to fill instead of training FAISS indexes, by level.
            sentences: returns `(n, D)` embeddings of everyday sentences; called if the index has
                none yet.
        """
        if sentences is not None:
            self._keep_sentences(sentences)
        self.save()
        if compact:
            self.compact()
        self.manifest = publish(
            self.folder,
            self.catalogue,
            self.parts,
            self.manifest,
            options=options,
            rebuild=rebuild,
            train=train,
            clears=clears,
            quantisers=quantisers,
        )
        return self.manifest

    def clean(self) -> None:
        """Deletes the files that the published generation does not use."""
        clean(self.folder, self.manifest, self.parts, self.catalogue)

    def compact(self) -> None:
        """Copies the live rows out of parts that are mostly deleted, and of many small ones.

        The old parts go when the next generation is published.
        """
        self.save()
        users = by_part(self.catalogue.scan())
        batch: list[VideoRecord] = []
        num_rows = 0
        for part in self._wasteful(users):
            for record, _ in users[part]:
                batch.append(record)
                num_rows += record.num_rows
                if num_rows >= _COMPACT_ROWS:
                    self._move(batch)
                    batch, num_rows = [], 0
        if batch:
            self._move(batch)

    def _check_place(self, place: ShardPlace | None) -> None:
        """Refuses the folder of another shard; a new shard notes its place."""
        known = self.catalogue.index_metadata(SHARD_METADATA)
        if known is None and place is not None and not self.manifest.generation:
            self.catalogue.set_index_metadata(SHARD_METADATA, str(place))
        elif known is not None and place is None:
            raise ValueError(_is_a_shard(self.folder))
        elif place is not None and known != str(place):
            raise ValueError(
                f"{self.folder}: is not shard {place.position} of this index; put that folder "
                "back, or index again into a new folder"
            )

    def _keep_sentences(self, sentences: Callable[[], np.ndarray]) -> None:
        dim = self.manifest.settings.embedding_dim
        if not len(query_log.read(self.folder, query_log.SENTENCES, embedding_dim=dim)):
            query_log.append(self.folder, query_log.SENTENCES, sentences())

    def _next_part(self) -> int:
        """Returns a number that no part has had, not even one of a killed run."""
        return max(self.catalogue.counter("next_part"), max(self.parts.numbers(), default=0) + 1)

    def _wasteful(self, users: dict[int, list[tuple[VideoRecord, int]]]) -> list[int]:
        """Returns the parts that are worth copying, in order."""
        deleted, small = [], []
        for part, videos in users.items():
            live = sum({first: record.num_rows for record, first in videos}.values())
            stored = self.parts.num_rows(part)
            if live < _LIVE_FRACTION * stored:
                deleted.append(part)
            elif stored < _SMALL_ROWS:
                small.append(part)
        return sorted(deleted + (small if len(small) > _SMALL_PARTS else []))

    def _move(self, records: Sequence[VideoRecord]) -> None:
        """Copies these videos' embeddings into a new part."""
        places: dict[tuple[int, int], int] = {}  # duplicates share theirs
        for record in records:
            assert record.location is not None
            places.setdefault(record.location, record.num_rows)
        rows = [self.parts.read_run(*at, count) for at, count in places.items()]
        part = self._next_part()
        self.parts.append(np.concatenate(rows), part=part)
        moved: dict[Any, Any] = dict(
            zip(places, _locations(list(places.values()), part), strict=True)
        )
        self.catalogue.relocate(
            [(record, moved[record.location]) for record in records], next_part=part + 1
        )


def is_save_due(saved_at: float, unsaved_bytes: int) -> bool:
    """Whether to save.

    Args:
        saved_at: When this was last done, of `time.monotonic`.
        unsaved_bytes: Size of the embeddings in memory.
    """
    return time.monotonic() - saved_at > SAVE_EVERY_SECONDS or unsaved_bytes > SAVE_BYTES


def _locations(counts: Sequence[int], part: int) -> list[tuple[int, int] | None]:
    """Locates videos with these numbers of rows one after another in a part; None for no rows."""
    firsts = np.cumsum([0, *counts[:-1]]).tolist()
    return [(part, first) if count else None for first, count in zip(firsts, counts, strict=True)]


def _check_holds_no_other_files(folder: Path) -> None:
    if is_published_copy(folder):
        raise ValueError(
            f"index={folder}: is a copy of a published index, which is only searched; give the "
            "folder it was made in"
        )
    if folder.is_dir() and not Manifest.exists(folder):
        own = {_LOCK_NAME, _JOURNAL_NAME, UNFINISHED_NAME, EMBEDDINGS_NAME}
        others = sorted(
            path.name
            for path in folder.iterdir()
            if path.name not in own
            and not path.name.startswith(CATALOGUE_NAME)
            and not Manifest.is_unfinished(path)
        )
        if others:
            raise ValueError(
                f"index={folder}: the folder holds other files, such as {others[0]}, and is not "
                "an index; name a new or an empty folder"
            )


def prepare_folder(folder: Path) -> None:
    """Makes the folder of an index, if need be.

    Raises:
        ValueError: it cannot hold an index.
    """
    _check_holds_no_other_files(folder)
    try:
        make_folder(folder)
    except OSError as error:
        raise ValueError(f"index={folder}: cannot be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"index={folder}: cannot be written to")


def check_can_be_written(folder: Path) -> None:
    """Checks that an `IndexWriter` can open the folder, and makes nothing.

    Raises:
        ValueError: the folder cannot hold an index, is a shard of one, or another process is
            writing it.
    """
    _check_holds_no_other_files(folder)
    check_can_write_folder("index", folder)
    if folder.parent.name == SHARDS_NAME and Manifest.exists(folder.parent.parent):
        raise ValueError(_is_a_shard(folder))
    if (folder / _LOCK_NAME).exists():
        only_writer(folder).release()


def _is_a_shard(folder: Path) -> str:
    return f"index={folder}: is a shard; name the whole index, {folder.parent.parent}"


def only_writer(folder: Path) -> FileLock:
    """Takes the lock of the index; the system frees it when the process dies."""
    lock = FileLock(folder / _LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"index={folder}: another process is writing it; wait until it has finished"
        ) from error
    return lock
