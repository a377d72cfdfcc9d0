"""The folders and files of a sharded index, as its manifest names them: made, opened, dropped."""

import secrets
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.shards.placement import ShardPlace, missing_shard
from reelseek.indexing.store.manifest import (
    SHARDS_NAME,
    ClusterInfo,
    IndexSettings,
    Manifest,
    QuantiserInfo,
    Sharding,
)
from reelseek.indexing.writer import IndexWriter

_WHOLE_NAMES = (CATALOGUE_NAME, EMBEDDINGS_NAME, "unsaved.journal", "sentences.log", "queries.log")


def new_sharding(
    settings: IndexSettings,
    num_shards: int,
    *,
    first: int = 0,
    clusters: ClusterInfo | None = None,
) -> Sharding:
    """Returns shards that are to be made, in folders from this number on.

    Args:
        clusters: by which videos are placed; None for a hash of their ids.
    """
    names = [f"{number:04d}" for number in range(first, first + num_shards)]
    shards = {name: Manifest(settings) for name in names}
    placement = "hash" if clusters is None else "cluster"
    return Sharding(secrets.token_hex(16), shards, placement, clusters=clusters)


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
    drop_shared(folder, manifest)


def drop_shared(folder: Path, manifest: Manifest) -> None:
    """Deletes quantisers and clusters that the manifest does not name."""
    used = set()
    if (sharding := manifest.sharding) is not None:
        used = {info.name for info in sharding.quantisers.values()}
        used |= set() if sharding.clusters is None else {sharding.clusters.name}
    for pattern in ("quantiser-*", "clusters-*"):
        for path in folder.glob(pattern):
            if path.name not in used:
                path.unlink()
