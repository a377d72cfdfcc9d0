"""An index in M shards, or in one folder -> the same index in N, without decoding or encoding.

The new shards are made beside the old ones, which stay in force until the manifest is replaced. A
killed run leaves the old or the new; what only the other had is deleted by the next.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np

from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace, shard_of
from reelseek.indexing.shards.quantisers import SharedQuantisers
from reelseek.indexing.shards.writer import ShardedWriter, combined, drop_unused, new_sharding
from reelseek.indexing.store import query_log
from reelseek.indexing.store.atomic import publish_file, sync_new_folder
from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.manifest import SHARDS_NAME, Manifest
from reelseek.indexing.store.texts import VideoTexts
from reelseek.indexing.store.videos import NewVideo
from reelseek.indexing.writer import SAVE_BYTES, IndexWriter

_ENTRIES_AT_ONCE = 1000
_OF_ONE_INDEX = {SHARD_METADATA, "settings", "frame_spread"}  # which each writer stores itself
_KEPT_OUT = {"manifest.json", "writer.lock", "unfinished"}  # of what a joined index is made of


def divide_index(folder: Path, num_shards: int) -> Manifest:
    """Divides an index into another number of shards; 1 joins them in an ordinary index.

    Args:
        folder: of the index.

    Returns:
        The manifest of the divided index; of an index that has as many shards, its own.

    Raises:
        ValueError: the folder is not an index, or another process is writing it.
    """
    with open_writer(folder) as writer:
        manifest = writer.publish()  # with what a killed run has left
        drop_unused(folder, manifest)
        if num_shards == len(manifest.shard_manifests(folder)):
            return manifest
        sources = writer.shards if isinstance(writer, ShardedWriter) else [writer]
        names = [] if manifest.sharding is None else list(manifest.sharding.shards)
        first = 1 + max((int(name) for name in names), default=-1)
        sharding = new_sharding(manifest.settings, num_shards, first=first)
        whole = replace(manifest, generation=manifest.generation + 1, sharding=sharding)
        with ExitStack() as opened:
            targets = []
            for position, name in enumerate(sharding.shards):
                place = ShardPlace(sharding.id, position, num_shards) if num_shards > 1 else None
                target = IndexWriter(folder / SHARDS_NAME / name, manifest.settings, place=place)
                targets.append(opened.enter_context(target))
            _copy(sources, targets)
            quantisers = SharedQuantisers(folder, whole, targets, manifest.faiss)
            quantisers.prepare(train=num_shards > 1, rebuild=False)
            shards = [
                target.publish(manifest.faiss, quantisers=quantisers.opened) for target in targets
            ]
        if num_shards > 1:
            divided = combined(whole, shards, quantisers.infos)
            divided = replace(divided, levels={}, lexical=None)
        else:
            _move_up(folder / SHARDS_NAME / next(iter(sharding.shards)), folder)
            generation = max(whole.generation, shards[0].generation)
            divided = replace(shards[0], generation=generation)
        divided.write(folder)
        for source in sources:
            source.catalogue.close()
        drop_unused(folder, divided)
    return divided


def _copy(sources: Sequence[IndexWriter], targets: Sequence[IndexWriter]) -> None:
    """Copies all that the sources hold; each video goes to the shard that its id names."""
    first = sources[0]
    for target in targets:
        if first.manifest.frame_spread:
            target.set_frame_spread(first.manifest.frame_spread)
        for name, value in first.catalogue.all_index_metadata().items():
            if name not in _OF_ONE_INDEX:
                target.catalogue.set_index_metadata(name, value)
        for name in (query_log.SENTENCES, query_log.QUERIES):
            if (path := first.folder / name).exists():
                publish_file(target.folder / name, partial(shutil.copyfile, path))
    for source in sources:
        _copy_videos(source, targets)
    ids = [{name: number for _, name, number in each.catalogue.names()} for each in targets]
    for source in sources:
        _copy_texts(source, targets, ids)
        _copy_edits(source, targets)


def _copy_videos(source: IndexWriter, targets: Sequence[IndexWriter]) -> None:
    """Copies entries and embeddings; copies of a video that shared theirs share them again, where
    they are in one shard."""
    copied: dict[tuple[int, tuple[int, int]], str] = {}
    duplicates: list[tuple[int, NewVideo, str]] = []
    for record in source.catalogue.scan():
        video = NewVideo(**{each.name: getattr(record, each.name) for each in fields(NewVideo)})
        position = shard_of(record.public_id, len(targets))
        embeddings = np.empty((0, source.manifest.settings.embedding_dim), np.float32)
        if record.location is not None:
            known = copied.setdefault((position, record.location), record.public_id)
            if known != record.public_id:
                duplicates.append((position, video, known))
                continue
            embeddings = source.parts.read_run(*record.location, record.num_rows)
        targets[position].add(video, embeddings)
        if sum(target.unsaved_bytes for target in targets) > SAVE_BYTES:
            _save(targets)
    _save(targets)
    for position, video, known in duplicates:
        target = targets[position]
        target.add_duplicate(video, target.catalogue.by_public_id([known])[known])


def _save(targets: Sequence[IndexWriter]) -> None:
    for target in targets:
        target.save()


def _copy_texts(
    source: IndexWriter, targets: Sequence[IndexWriter], ids: Sequence[dict[str, int]]
) -> None:
    """Copies what was read or heard.

    Args:
        ids: of the videos in each target, by public id.
    """
    names = {number: name for _, name, number in source.catalogue.names()}
    numbers = list(names)
    for first in range(0, len(numbers), _ENTRIES_AT_ONCE):
        of_target: dict[int, list[VideoTexts]] = {}
        for entry in source.catalogue.text_entries(numbers[first : first + _ENTRIES_AT_ONCE]):
            name = names[entry.video_id]
            position = shard_of(name, len(targets))
            moved = replace(entry, video_id=ids[position][name])
            of_target.setdefault(position, []).append(moved)
        for position, entries in of_target.items():
            targets[position].catalogue.add_texts(entries)


def _copy_edits(source: IndexWriter, targets: Sequence[IndexWriter]) -> None:
    """Copies what people decided about single videos through the service."""
    excluded, edits = source.catalogue.excluded(), source.catalogue.edits()
    for position, target in enumerate(targets):
        target.catalogue.add_edits(
            [
                video
                for video in excluded
                if shard_of(make_video_id(video.root, video.key), len(targets)) == position
            ],
            {
                name: changes
                for name, changes in edits.items()
                if shard_of(name, len(targets)) == position
            },
        )


def _move_up(made: Path, folder: Path) -> None:
    """Moves the files of an ordinary index into a folder whose manifest does not name them yet."""
    for path in sorted(made.iterdir()):
        if path.name not in _KEPT_OUT:
            path.rename(folder / path.name)
    sync_new_folder(folder, [])
