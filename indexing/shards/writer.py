"""Changes a sharded index as `IndexWriter` changes an ordinary one; each shard has its own.

The shards publish first and keep the files of their earlier generations; then the manifest that
names all of them is replaced, and what only the one before named is deleted. So readers see the old
generation of every shard, or the new one of every shard, whenever the writer is killed.
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.shards.catalogue import ShardedCatalogue
from reelseek.indexing.shards.placement import ShardPlace, missing_shard, shard_of
from reelseek.indexing.shards.quantisers import SharedQuantisers
from reelseek.indexing.store.manifest import (
    SHARDS_NAME,
    FaissOptions,
    IndexSettings,
    Manifest,
    QuantiserInfo,
    Sharding,
    check_settings,
)
from reelseek.indexing.store.unfinished import UnfinishedVideos
from reelseek.indexing.store.videos import NewVideo, VideoRecord
from reelseek.indexing.writer import (
    UNFINISHED_NAME,
    IndexWriter,
    is_save_due,
    only_writer,
    prepare_folder,
)

_WHOLE_NAMES = (CATALOGUE_NAME, EMBEDDINGS_NAME, "unsaved.journal", "sentences.log", "queries.log")


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
            self.shards = open_shards(folder, self.manifest, self._opened_shards)
            self.catalogue = ShardedCatalogue([shard.catalogue for shard in self.shards])
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
            self.shards = open_shards(self.folder, self.manifest, self._opened_shards)
            self.catalogue = ShardedCatalogue([shard.catalogue for shard in self.shards])

    def add(self, video: NewVideo, embeddings: np.ndarray) -> None:
        """Adds a video to its shard, or replaces the one with its key; see `IndexWriter.add`."""
        position, named = self.catalogue.place(video)
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
        position, named = self.catalogue.place(video)
        source, own = self.catalogue.own(record)
        if position == source:
            self.shards[position].add_duplicate(named, own)
            return
        embeddings = np.empty((0, self.manifest.settings.embedding_dim), np.float32)
        if own.location is not None:
            embeddings = self.shards[source].parts.read_run(*own.location, own.num_rows)
        self.shards[position].add(named, embeddings)
        self.save_if_due()

    def delete_videos(self, videos: Iterable[NewVideo]) -> None:
        """Deletes videos; no search that starts after this finds them."""
        by_shard: dict[int, list[NewVideo]] = {}
        for video in videos:
            by_shard.setdefault(shard_of(video.public_id, len(self.shards)), []).append(video)
        for position, own in by_shard.items():
            self.shards[position].delete_videos(own)

    def save(self) -> None:
        """Makes added videos durable in all shards, before their kept frames are dropped."""
        for shard in self.shards:
            shard.save()
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
        _drop_quantisers(self.folder, self.manifest)
        return self.manifest


def new_sharding(settings: IndexSettings, num_shards: int, *, first: int = 0) -> Sharding:
    """Returns shards that are to be made, in folders from this number on."""
    names = [f"{number:04d}" for number in range(first, first + num_shards)]
    return Sharding(secrets.token_hex(16), {name: Manifest(settings) for name in names})


def combined(
    whole: Manifest, shards: list[Manifest], quantisers: dict[str, QuantiserInfo] | None = None
) -> Manifest:
    """Returns the manifest of all shards, of the same generation still, from their own.

    Args:
        quantisers: that the shards share; default: as they were.
    """
    assert whole.sharding is not None
    sharding = replace(
        whole.sharding,
        shards=dict(zip(whole.sharding.shards, shards, strict=True)),
        quantisers=whole.sharding.quantisers if quantisers is None else quantisers,
    )
    query_types = {query_type for shard in shards for query_type in shard.recall}
    return replace(
        whole,
        revision=sum(shard.revision for shard in shards),
        num_videos=sum(shard.num_videos for shard in shards),
        num_segments=sum(shard.num_segments for shard in shards),
        faiss=shards[0].faiss,
        recall={
            query_type: min(s.recall[query_type] for s in shards if query_type in s.recall)
            for query_type in sorted(query_types)
        },
        rebuild=next((shard.rebuild for shard in shards if shard.rebuild), ""),
        sharding=sharding,
    )


def open_shards(folder: Path, manifest: Manifest, opened: ExitStack) -> list[IndexWriter]:
    """Opens a writer of each shard, and makes shards that have never been published.

    Args:
        opened: what closes them.

    Raises:
        ValueError: a shard is missing, damaged or another index's.
    """
    assert manifest.sharding is not None
    writers = []
    shards = manifest.shard_manifests(folder)
    for position, (shard, own) in enumerate(shards.items()):
        if own.generation and not Manifest.exists(shard):
            if shard.is_dir():
                Manifest.read(shard)  # raises
            raise ValueError(missing_shard(folder, shard))
        place = ShardPlace(manifest.sharding.id, position, len(shards))
        writer = opened.enter_context(IndexWriter(shard, manifest.settings, place=place))
        if writer.manifest.frame_spread != manifest.frame_spread:  # of a killed run
            writer.set_frame_spread(manifest.frame_spread)
        writers.append(writer)
    return writers


def drop_unused(folder: Path, manifest: Manifest) -> None:
    """Deletes folders and files that only an earlier division of the index has, or one that was
    never finished."""
    used = set(manifest.shard_manifests(folder))
    for path in (folder / SHARDS_NAME).glob("[0-9]*"):
        if path not in used:
            shutil.rmtree(path)
    if folder not in used:  # what an ordinary index has in the folder itself
        for name in _WHOLE_NAMES:
            for path in folder.glob(f"{name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for pattern in ("video-*", "moment-*", "lexical-*"):
            for path in folder.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        shutil.rmtree(folder / SHARDS_NAME, ignore_errors=True)
    _drop_quantisers(folder, manifest)


def _drop_quantisers(folder: Path, manifest: Manifest) -> None:
    infos = () if manifest.sharding is None else manifest.sharding.quantisers.values()
    used = {info.name for info in infos}
    for path in folder.glob("quantiser-*"):
        if path.name not in used:
            path.unlink()
