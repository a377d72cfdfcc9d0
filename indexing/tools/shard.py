"""`python -m indexing.shard index=DIR shards=N`: divides an index into shards, or joins them."""

from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import ShardConfig
from reelseek.indexing.shards.dividing import divide_index

USAGE = """usage: python -m indexing.shard index=DIR shards=N [placement=cluster]

Divides an index into N shards, each an index of its own in DIR/shards; shards=1 joins them in one.
Copies embeddings and entries; no video is decoded or encoded. Until all is done searches find the
index as it was, and then the same as before. With placement=cluster like videos lie together and a
search asks few shards; the same command learns the clusters anew. The last line on stdout is a JSON
object."""


def main(config: ShardConfig) -> None:
    folder = Path(config.index)
    placement = None if config.placement is None else config.placement.value
    manifest = divide_index(folder, config.shards, placement=placement)
    shards = [own.num_videos for own in manifest.shard_manifests(folder).values()]
    command_line.print_json({"shards": len(shards), "searchable": sum(shards), "videos": shards})
