"""Changes a sharded index as `IndexWriter` changes an ordinary one; each shard has its own.

The shards publish first and keep the files of their earlier generations; then the manifest that
names all of them is replaced, and what only the one before named is deleted. So readers see the old
generation of every shard, or the new one of every shard, whenever the writer is killed.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from reelseek.indexing.shards.catalogue import ShardedCatalogue
from reelseek.indexing.shards.clusters import open_clusters
from reelseek.indexing.shards.layout import (
    combined,
    drop_shared,
    drop_unused,
    new_sharding,
    open_shards,
)
from reelseek.indexing.shards.placement import ShardPlace
from reelseek.indexing.shards.quantisers import SharedQuantisers
from reelseek.indexing.store.manifest import (
    FaissOptions,
    IndexSettings,
    Manifest,
    check_settings,
)
from reelseek.indexing.store.unfinished import UnfinishedVideos
from reelseek.indexing.store.videos import NewVideo, VideoRecord
from reelseek.indexing.writer import (
    UNFINISHED_NAME,
    is_save_due,
    only_writer,
    prepare_folder,
)


class ShardedWriter:
    """A sharded index, opened for changing; one process at a time.

    Args:
        folder: of the index; made if missing.
        settings: of the index; None for those of an existing one.
        num_shards: of a new index.

    Raises:
        ValueError: the folder cannot hold an index, another process is writing it, or a shard is
            missing or another index's.
        IndexMismatchError: the index was built with other settings.
    """

    def __init__(
        self, folder: Path, settings: IndexSettings | None = None, *, num_shards: int = 0
    ) -> None:
        self.folder = folder
        if settings is None:
            Manifest.read(folder)  # raises before anything is made
        prepare_folder(folder)
        with ExitStack() as opened:
            opened.callback(only_writer(folder).release)
            if Manifest.exists(folder):
                self.manifest = Manifest.read(folder)
                if settings is not None:
                    check_settings(settings, self.manifest.settings, folder)
            else:
                assert settings is not None and num_shards
                self.manifest = Manifest(settings, sharding=new_sharding(settings, num_shards))
                self.manifest.write(folder)
            drop_unused(folder, self.manifest)
            self._opened_shards = opened.enter_context(ExitStack())
            self._clusters = open_clusters(folder, self.manifest)
            self._open_shards()
            self.unfinished = UnfinishedVideos(
                folder / UNFINISHED_NAME,
                settings=self.manifest.settings.to_json(),
                embedding_dim=self.manifest.settings.embedding_dim,
            )
            opened.callback(self.unfinished.close)
            self.save()
            self.unfinished.drop_known(self.catalogue.has_content)
            self._opened = opened.pop_all()

    def __enter__(self) -> "ShardedWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the index; the next writer saves what is not saved yet."""
        self._opened.close()

    def places(self) -> dict[Path, ShardPlace]:
        """Returns the places of the shards, by folder."""
        assert self.manifest.sharding is not None
        folders = list(self.manifest.shard_manifests(self.folder))
        return {
            folder: ShardPlace(self.manifest.sharding.id, position, len(folders))
            for position, folder in enumerate(folders)
        }

    @contextmanager
    def lend(self) -> Iterator[None]:
        """Closes the shards while the block runs, so that other processes can write them."""
        self.save()
        self._opened_shards.close()
        try:
            yield
        finally:
            self._open_shards()

    def _open_shards(self) -> None:
        self.shards = open_shards(self.folder, self.manifest, self._opened_shards)
        catalogues = [shard.catalogue for shard in self.shards]
        self.catalogue = ShardedCatalogue(catalogues, clusters=self._clusters)

    def add(self, video: NewVideo, embeddings: np.ndarray) -> None:
        """Adds a video to its shard, or replaces the one with its key; see `IndexWriter.add`."""
        position, named = self.catalogue.place(video, embeddings)
        self._drop_elsewhere(named, position)
        self.shards[position].add(named, embeddings)
        self.unfinished.add(video.signature)
        self.save_if_due()

    def save_if_due(self) -> None:
        """Saves if the last time was long ago or much has been added since."""
        if is_save_due(self._saved_at, sum(shard.unsaved_bytes for shard in self.shards)):
            self.save()

    def set_frame_spread(self, spread: float) -> None:
        """Stores how far apart frames of different videos lie, so that all shards cut alike."""
        self.manifest = replace(self.manifest, frame_spread=spread)
        self.manifest.write(self.folder)
        for shard in self.shards:
            shard.set_frame_spread(spread)

    def add_duplicate(self, video: NewVideo, record: VideoRecord) -> None:
        """Adds a video with the content of a saved one; another shard gets a copy of its
        embeddings."""
        source, own = self.catalogue.own(record)
        position, named = self.catalogue.place(video, beside=source)
        self._drop_elsewhere(named, position)
        if position == source:
            self.shards[position].add_duplicate(named, own)
            return
        embeddings = np.empty((0, self.manifest.settings.embedding_dim), np.float32)
        if own.location is not None:
            embeddings = self.shards[source].parts.read_run(*own.location, own.num_rows)
        self.shards[position].add(named, embeddings)
        self.save_if_due()

    def _drop_elsewhere(self, video: NewVideo, position: int) -> None:
        """Deletes the entry of a video that failed before it had embeddings to be placed by."""
        before = self.catalogue.position_of(video.public_id)
        if before is not None and before != position:
            self.shards[before].delete_videos([video])

    def delete_videos(self, videos: Iterable[NewVideo]) -> None:
        """Deletes videos; no search that starts after this finds them."""
        by_shard: dict[int, list[NewVideo]] = {}
        for video in videos:
            if (position := self.catalogue.position_of(video.public_id)) is not None:
                by_shard.setdefault(position, []).append(video)
        for position, own in by_shard.items():
            self.shards[position].delete_videos(own)

    def save(self) -> None:
        """Makes added videos durable in all shards, before their kept frames are dropped."""
        for shard in self.shards:
            shard.save()
        self.catalogue.forget_unsaved()
        self.unfinished.save()
        self._saved_at = time.monotonic()

    def publish(
        self,
        options: FaissOptions | None = None,
        *,
        rebuild: bool = False,
        compact: bool = True,
        train: bool = True,
        sentences: Callable[[], np.ndarray] | None = None,
    ) -> Manifest:
        """Makes all added videos searchable, and deleted ones not; see `IndexWriter.publish`.

        Without training, as for a single change, shards that have not changed are not looked at;
        else each replaces files that are damaged, which costs reading them.
        """
        self.save()
        sentences = None if sentences is None else cache(sentences)
        quantisers = SharedQuantisers(
            self.folder, self.manifest, self.shards, options or self.manifest.faiss
        )
        quantisers.prepare(train=train, rebuild=rebuild)
        is_quick = not train and not rebuild and options in (None, self.manifest.faiss)
        for shard in self.shards:
            if is_quick and shard.is_published:
                continue
            shard.publish(
                options,
                rebuild=rebuild,
                compact=compact,
                train=train,
                clears=False,
                quantisers=quantisers.opened,
                sentences=sentences,
            )
        before = self.manifest.shard_manifests(self.folder)
        published = combined(
            self.manifest, [shard.manifest for shard in self.shards], quantisers.infos
        )
        if published != self.manifest:
            published = replace(published, generation=published.generation + 1)
            published.write(self.folder)
            self.manifest = published
        for shard in self.shards:
            if before[shard.folder] != shard.manifest:
                shard.clean()
        drop_shared(self.folder, self.manifest)
        return self.manifest
