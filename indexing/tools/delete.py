"""`python -m indexing.delete index=DIR where="..."`: removes videos from an index."""

from collections.abc import Sequence
from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import DeleteConfig
from reelseek.indexing.filters import check_fields, parse_filter
from reelseek.indexing.shards.opening import AnyCatalogue, open_writer
from reelseek.indexing.store.videos import VideoRecord

USAGE = """usage: python -m indexing.delete index=DIR where="..." | keys=[KEY,ID]

Removes videos from an index; their files are not touched. The last line on stdout is a JSON object.
A later reelseek index adds them again if its videos= still lists them."""


def main(config: DeleteConfig) -> None:
    with open_writer(Path(config.index)) as writer:
        writer.catalogue.check_entries()  # a damaged one may be what was asked for
        if config.where is not None:
            condition = parse_filter(config.where)
            check_fields(condition, writer.catalogue.metadata_fields())
            videos = writer.catalogue.matching(*condition.condition())
        else:
            videos = _named(config.keys, writer.catalogue)
        writer.delete_videos(videos)
        manifest = writer.publish()
    for video in videos:
        print(f"deleted {command_line.printable(video.key)}")
    command_line.print_json({"deleted": len(videos), "searchable": manifest.num_videos})


def _named(names: Sequence[str], catalogue: AnyCatalogue) -> list[VideoRecord]:
    """Returns the videos with these keys or ids, each once.

    Raises:
        ValueError: the index has no such video, or has a key in several roots.
    """
    ids_by_name, chosen = catalogue.ids_by_name(), list[int]()
    for name in names:
        ids = ids_by_name.get(name, [])
        if not ids:
            raise ValueError(f"keys: the index has no video {name}")
        if len(ids) > 1:
            same = catalogue.videos(ids).values()
            public = ", ".join(f"{record.public_id} ({record.path})" for record in same)
            raise ValueError(f"keys={name}: is in several roots; give one of the ids: {public}")
        chosen += ids
    return list(catalogue.videos(chosen).values())
