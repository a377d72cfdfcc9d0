"""The shards of an index whose manifest or places are lost -> manifest and places, from what each
shard says itself."""

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.shards.clusters import CLUSTERS_METADATA, open_clusters, write_clusters
from reelseek.indexing.shards.layout import combined
from reelseek.indexing.shards.learning import describe_shards, measure_routing, take_sample
from reelseek.indexing.shards.placement import SHARD_METADATA, ShardPlace, missing_shard
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import (
    SHARDS_NAME,
    ClusterInfo,
    IndexMismatchError,
    Manifest,
    Sharding,
)
from reelseek.indexing.vectors.builder import sample_queries


def is_sharded(folder: Path) -> bool:
    """Whether an index is in shards, also where its manifest is damaged.

    Raises:
        IndexMismatchError: the index was written by another version of the format.
    """
    manifest = _readable(folder)
    if manifest is not None:
        return manifest.sharding is not None
    return (folder / SHARDS_NAME).is_dir() and not (folder / CATALOGUE_NAME).exists()


def recover_sharding(folder: Path) -> list[Path]:
    """Returns the folders of the shards: those that the manifest names, or where that is damaged,
    all that are there.

    Raises:
        ValueError: one is missing.
    """
    manifest = _readable(folder)
    if manifest is None:
        return sorted((folder / SHARDS_NAME).glob("[0-9]*"))
    shards = list(manifest.shard_manifests(folder))
    for shard in shards:
        if not shard.is_dir():
            raise ValueError(missing_shard(folder, shard))
    return shards


def complete_sharding(folder: Path) -> None:
    """Writes the manifest anew where it is damaged, else the places that shards have lost.

    Raises:
        ValueError: the shards do not make a whole index.
    """
    manifest = _readable(folder)
    if manifest is None:
        manifest = _recovered(folder)
        manifest.write(folder)
    assert manifest.sharding is not None
    shards = list(manifest.shard_manifests(folder))
    for position, shard in enumerate(shards):
        place = ShardPlace(manifest.sharding.id, position, len(shards))
        with closing(Catalogue(shard / CATALOGUE_NAME)) as catalogue:
            if catalogue.index_metadata(SHARD_METADATA) is None:
                catalogue.set_index_metadata(SHARD_METADATA, str(place))
    try:
        open_clusters(folder, manifest)
    except ValueError:
        _describe_clusters(folder, manifest)


def _describe_clusters(folder: Path, manifest: Manifest) -> None:
    """Makes lost clusters anew, of what each shard holds; no video moves."""
    assert manifest.sharding is not None
    dim, shards = manifest.settings.embedding_dim, list(manifest.shard_manifests(folder))
    with ExitStack() as opened:
        sources = []
        for shard in shards:
            catalogue = opened.enter_context(closing(Catalogue(shard / CATALOGUE_NAME)))
            sources.append((catalogue, EmbeddingParts(shard / EMBEDDINGS_NAME, embedding_dim=dim)))
        sample = take_sample(sources, len(shards))
        clusters = describe_shards(sample, len(shards))
        queries = sample_queries(shards[0], embedding_dim=dim)
        recalls = measure_routing(clusters, sample, sample.shards, queries=queries)
        info = write_clusters(folder, manifest, clusters, recalls)
        for catalogue, _ in sources:
            catalogue.set_index_metadata(CLUSTERS_METADATA, info.to_json())
    sharding = replace(manifest.sharding, clusters=info)
    replace(manifest, generation=manifest.generation + 1, sharding=sharding).write(folder)


def _recovered(folder: Path) -> Manifest:
    """Returns the manifest of the shards that belong together; of two divisions, of which one was
    being made, the older one, which is whole as long as it is there."""
    divisions: dict[tuple[str, int], dict[int, str]] = {}
    clusters: dict[str, ClusterInfo] = {}
    for shard in recover_sharding(folder):
        with closing(Catalogue(shard / CATALOGUE_NAME, read_only=True)) as catalogue:
            said = catalogue.index_metadata(SHARD_METADATA)
            of_clusters = catalogue.index_metadata(CLUSTERS_METADATA)
        if said is not None:
            place = ShardPlace.parse(said)
            if of_clusters is not None:
                clusters[place.sharding] = ClusterInfo.from_json(of_clusters)
            own = divisions.setdefault((place.sharding, place.num_shards), {})
            own[place.position] = shard.name
    for (sharding_id, num_shards), names in divisions.items():
        if len(names) == num_shards:
            ordered = [names[position] for position in range(num_shards)]
            shards = [Manifest.read(folder / SHARDS_NAME / name) for name in ordered]
            info = clusters.get(sharding_id)
            sharding = Sharding(
                sharding_id,
                dict(zip(ordered, shards, strict=True)),
                "hash" if info is None else "cluster",
                clusters=info,
            )
            whole = Manifest(
                shards[0].settings,
                generation=sum(shard.generation for shard in shards),
                frame_spread=shards[0].frame_spread,
                sharding=sharding,
            )
            return combined(whole, shards)
    raise ValueError(
        f"index={folder}: neither manifest.json nor the shards say any more what belongs together; "
        "index again into a new folder"
    )


def _readable(folder: Path) -> Manifest | None:
    try:
        return Manifest.read(folder)
    except IndexMismatchError:
        raise
    except ValueError:
        return None
