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

from reelseek.indexing.shards.clusters import CLUSTERS_METADATA, ClusterMap, write_clusters
from reelseek.indexing.shards.layout import combined, drop_unused, new_sharding
from reelseek.indexing.shards.learning import learn_clusters, measure_routing, take_sample
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace, shard_of
from reelseek.indexing.shards.quantisers import SharedQuantisers
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.store import query_log
from reelseek.indexing.store.atomic import publish_file, sync_new_folder
from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.manifest import SHARDS_NAME, ClusterInfo, Manifest
from reelseek.indexing.store.texts import VideoTexts
from reelseek.indexing.store.videos import NewVideo
from reelseek.indexing.vectors.builder import sample_queries
from reelseek.indexing.writer import SAVE_BYTES, IndexWriter

_ENTRIES_AT_ONCE = 1000
# Which each division or writer stores itself.
_OF_ONE_INDEX = {SHARD_METADATA, CLUSTERS_METADATA, "settings", "frame_spread"}
_KEPT_OUT = {"manifest.json", "writer.lock", "unfinished"}  # of what a joined index is made of


def divide_index(folder: Path, num_shards: int, *, placement: str | None = None) -> Manifest:
    """Divides an index into another number of shards; 1 joins them in an ordinary index.

    Args:
        folder: of the index.
        placement: of `PLACEMENTS`; `cluster` learns clusters of what the index holds now, also
            where it has as many shards. Default: as it was, or `hash`.

    Returns:
        The manifest of the divided index; its own, where nothing was to be done.

    Raises:
        ValueError: the folder is not an index, another process is writing it, or there is nothing
            to learn clusters from.
    """
    with open_writer(folder) as writer:
        manifest = writer.publish()  # with what a killed run has left
        drop_unused(folder, manifest)
        has = "hash" if manifest.sharding is None else manifest.sharding.placement
        wanted = "hash" if num_shards == 1 else placement or has
        is_same = num_shards == len(manifest.shard_manifests(folder)) and wanted == has
        if is_same and placement != "cluster":
            return manifest
        sources = writer.shards if isinstance(writer, ShardedWriter) else [writer]
        clusters, info = None, None
        if wanted == "cluster":
            clusters, info = _learned(folder, manifest, sources, num_shards)
        names = [] if manifest.sharding is None else list(manifest.sharding.shards)
        first = 1 + max((int(name) for name in names), default=-1)
        sharding = new_sharding(manifest.settings, num_shards, first=first, clusters=info)
        whole = replace(manifest, generation=manifest.generation + 1, sharding=sharding)
        with ExitStack() as opened:
            targets = []
            for position, name in enumerate(sharding.shards):
                place = ShardPlace(sharding.id, position, num_shards) if num_shards > 1 else None
                target = IndexWriter(folder / SHARDS_NAME / name, manifest.settings, place=place)
                targets.append(opened.enter_context(target))
            _copy(sources, targets, clusters)
            if info is not None:
                for target in targets:
                    target.catalogue.set_index_metadata(CLUSTERS_METADATA, info.to_json())
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


def _learned(
    folder: Path, manifest: Manifest, sources: Sequence[IndexWriter], num_shards: int
) -> tuple[ClusterMap, ClusterInfo]:
    """Learns clusters of what an index holds, and writes them beside the manifest."""
    sample = take_sample([(source.catalogue, source.parts) for source in sources], num_shards)
    if not len(sample.segments):
        raise ValueError(
            f"placement=cluster: index={folder} holds no videos to learn clusters from; index "
            "some first, or give placement=hash"
        )
    clusters = learn_clusters(sample, num_shards)
    queries = sample_queries(sources[0].folder, embedding_dim=sample.segments.shape[1])
    recalls = measure_routing(clusters, sample, sample.placed(clusters), queries=queries)
    return clusters, write_clusters(folder, manifest, clusters, recalls)


def _copy(
    sources: Sequence[IndexWriter], targets: Sequence[IndexWriter], clusters: ClusterMap | None
) -> None:
    """Copies all that the sources hold; each video goes to the shard that its id or its clusters
    name."""
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
        _copy_videos(source, targets, clusters)
    ids = [{name: number for _, name, number in each.catalogue.names()} for each in targets]
    positions = {name: position for position, own in enumerate(ids) for name in own}
    for source in sources:
        _copy_texts(source, targets, ids, positions)
        _copy_edits(source, targets, positions)


def _copy_videos(
    source: IndexWriter, targets: Sequence[IndexWriter], clusters: ClusterMap | None
) -> None:
    """Copies entries and embeddings; copies of a video that shared theirs share them again, where
    they are in one shard."""
    copied: dict[tuple[int, tuple[int, int]], str] = {}
    duplicates: list[tuple[int, NewVideo, str]] = []
    for record in source.catalogue.scan():
        video = NewVideo(**{each.name: getattr(record, each.name) for each in fields(NewVideo)})
        embeddings = np.empty((0, source.manifest.settings.embedding_dim), np.float32)
        if record.location is not None:
            embeddings = source.parts.read_run(*record.location, record.num_rows)
        position = shard_of(record.public_id, len(targets))
        if clusters is not None:
            position = clusters.place(
                embeddings, num_segments=len(record.spans), public_id=record.public_id
            )
        if record.location is not None:
            known = copied.setdefault((position, record.location), record.public_id)
            if known != record.public_id:
                duplicates.append((position, video, known))
                continue
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
    source: IndexWriter,
    targets: Sequence[IndexWriter],
    ids: Sequence[dict[str, int]],
    positions: dict[str, int],
) -> None:
    """Copies what was read or heard.

    Args:
        ids: of the videos in each target, by public id.
        positions: of their shards, by public id.
    """
    names = {number: name for _, name, number in source.catalogue.names()}
    numbers = list(names)
    for first in range(0, len(numbers), _ENTRIES_AT_ONCE):
        of_target: dict[int, list[VideoTexts]] = {}
        for entry in source.catalogue.text_entries(numbers[first : first + _ENTRIES_AT_ONCE]):
            name = names[entry.video_id]
            position = positions[name]
            moved = replace(entry, video_id=ids[position][name])
            of_target.setdefault(position, []).append(moved)
        for position, entries in of_target.items():
            targets[position].catalogue.add_texts(entries)


def _copy_edits(
    source: IndexWriter, targets: Sequence[IndexWriter], positions: dict[str, int]
) -> None:
    """Copies what people decided about single videos through the service, of videos that are there
    no more too."""

    def position_of(public_id: str) -> int:
        return positions.get(public_id, shard_of(public_id, len(targets)))

    excluded, edits = source.catalogue.excluded(), source.catalogue.edits()
    for position, target in enumerate(targets):
        target.catalogue.add_edits(
            [
                video
                for video in excluded
                if position_of(make_video_id(video.root, video.key)) == position
            ],
            {name: changes for name, changes in edits.items() if position_of(name) == position},
        )


def _move_up(made: Path, folder: Path) -> None:
    """Moves the files of an ordinary index into a folder whose manifest does not name them yet."""
    for path in sorted(made.iterdir()):
        if path.name not in _KEPT_OUT:
            path.rename(folder / path.name)
    sync_new_folder(folder, [])
