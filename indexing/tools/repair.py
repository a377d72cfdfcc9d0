"""`reelseek repair --index DIR`: drops damaged videos, and names those to index again."""

import json
import logging
from contextlib import closing
from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import RepairConfig
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.shards.recovery import complete_sharding, is_sharded, recover_sharding
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import IndexMismatchError, IndexSettings, Manifest
from reelseek.indexing.store.salvage import rebuild_catalogue
from reelseek.indexing.tools.verify import damaged_embeddings
from reelseek.indexing.writer import only_writer

logger = logging.getLogger(__name__)

USAGE = """usage: reelseek repair --index DIR [upgrade=true]

Drops the videos whose entries or embeddings are damaged, rebuilds the FAISS indexes where they are,
and prints a line for each video that reelseek index must index again. With upgrade=true it only
rewrites an index of an older version in this version's format; no video is decoded. The last line
on stdout is a JSON object."""


def repair_index(folder: Path) -> tuple[list[str], int]:
    """Repairs an index in place. Also drops damaged texts, and names them in a warning.

    Returns:
        The keys of the dropped videos (`video ID` where the key itself was damaged), and the number
        of searchable ones.

    Raises:
        ValueError: the folder is not an index, another process is writing it, or both copies of its
            settings are lost.
    """
    dropped = []
    if is_sharded(folder):
        with only_writer(folder):
            for shard in recover_sharding(folder):
                dropped += _repair_files(shard)
            complete_sharding(folder)
    else:
        dropped += _repair_files(folder)
    with open_writer(folder) as writer:
        for shard_writer in writer.shards if isinstance(writer, ShardedWriter) else [writer]:
            records = list(shard_writer.catalogue.scan())
            damaged = [record for record, _ in damaged_embeddings(records, shard_writer.parts)]
            shard_writer.delete_videos(damaged)
            dropped += [record.key for record in damaged]
        manifest = writer.publish()
    return dropped, manifest.num_videos


def _repair_files(folder: Path) -> list[str]:
    """Repairs the catalogue and the manifest of an ordinary index or a shard; returns the keys of
    the videos that it drops."""
    catalogue_path = folder / CATALOGUE_NAME
    if not catalogue_path.is_file():
        Manifest.read(folder)  # raises if this is no index at all
        raise ValueError(f"{catalogue_path} is missing: index again into a new folder")
    with only_writer(folder):
        dropped = _repair_catalogue(folder)
        try:
            revision = Manifest.read(folder).revision
        except IndexMismatchError:
            raise
        except ValueError:
            revision = -1
            _recover_manifest(folder)
        with closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue:
            for key in catalogue.drop_damaged_texts():
                logger.warning("texts of %s are lost: run reelseek enrich again", key)
            used = [record.location[0] for record in catalogue.scan() if record.location]
            catalogue.raise_counters(revision=revision + 1, next_part=max(used, default=0) + 1)
    return dropped


def upgrade_index(folder: Path) -> int:
    """Rewrites an index of the format before this one, and a lexical index of an older analysis, in
    place and without decoding; returns the number of searchable videos.

    Raises:
        ValueError: the folder is not an index, or another process is writing it.
        IndexMismatchError: the index is of an even older format.
    """
    with open_writer(folder) as writer:
        manifest = writer.publish()  # rebuilds an outdated lexical index
        manifest.write(folder)  # also where nothing else has changed
    return manifest.num_videos


def _repair_catalogue(folder: Path) -> list[str]:
    """Drops damaged entries; returns their keys."""
    path = folder / CATALOGUE_NAME
    try:
        with closing(Catalogue(path)) as catalogue:
            return catalogue.drop_damaged()
    except ValueError:
        parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=1).numbers()
        rebuild_catalogue(path, next_part=max(parts, default=0) + 1)
    with closing(Catalogue(path)) as catalogue:
        return ["entries that could not be read", *catalogue.drop_damaged()]


def _recover_manifest(folder: Path) -> None:
    """Makes a manifest from the catalogue, for the next publishing to complete."""
    with closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue:
        settings, spread = (
            catalogue.index_metadata("settings"),
            catalogue.index_metadata("frame_spread"),
        )
    if settings is None:
        raise ValueError(
            f"index={folder}: neither manifest.json nor the catalogue says any more what it was "
            "built with; index again into a new folder"
        )
    numbers = [path.stem.rpartition("-")[2] for path in folder.glob("*-*-*.faiss")]
    try:
        recovered = Manifest(
            IndexSettings.from_values(json.loads(settings)),
            generation=max((int(number) for number in numbers if number.isdecimal()), default=0),
            revision=-1,
            frame_spread=float(spread or 0),
        )
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"index={folder}: neither manifest.json nor the catalogue says any more what it was "
            f"built with ({type(error).__name__}); index again into a new folder"
        ) from error
    recovered.write(folder)


def main(config: RepairConfig) -> None:
    if config.upgrade:
        command_line.print_json({"dropped": 0, "searchable": upgrade_index(Path(config.index))})
        return
    dropped, left = repair_index(Path(config.index))
    for key in dropped:
        print(f"dropped {command_line.printable(key)}")
    command_line.print_json({"dropped": len(dropped), "searchable": left})
