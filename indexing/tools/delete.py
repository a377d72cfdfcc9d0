"""`python -m indexing.delete index=DIR where="..."`: removes videos from an index."""

from collections.abc import Sequence
from pathlib import Path

from reelseek.configs import command_line
from reelseek.configs.schema import DeleteConfig
from reelseek.indexing.filters import check_fields, metadata_fields, parse_filter
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.writer import IndexWriter

USAGE = """usage: python -m indexing.delete index=DIR where="..." | keys=[KEY,ID]

Removes videos from an index; their files are not touched. The last line on stdout is a JSON object.
A later python -m indexing adds them again if its videos= still lists them."""


def main(config: DeleteConfig) -> None:
    with IndexWriter(Path(config.index)) as writer:
        if config.where is not None:
            condition = parse_filter(config.where)
            with writer.catalogue.named_errors():
                check_fields(condition, metadata_fields(writer.catalogue.connection))
            roots_and_keys = set(writer.catalogue.matching_places(*condition.condition()))
            videos = [
                each for each in writer.catalogue.scan() if each.root_and_key in roots_and_keys
            ]
        else:
            videos = _named(config.keys, list(writer.catalogue.scan()))
        writer.delete_videos(videos)
        manifest = writer.publish()
    for video in videos:
        print(f"deleted {command_line.printable(video.key)}")
    command_line.print_json({"deleted": len(videos), "searchable": manifest.num_videos})


def _named(names: Sequence[str], records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """The videos with these keys or ids.

    Raises:
        ValueError: the index has no such video, or has a key in several roots.
    """
    found: dict[int, VideoRecord] = {}
    for name in names:
        same = [record for record in records if name in (record.public_id, record.key)]
        if not same:
            raise ValueError(f"keys: the index has no video {name}")
        if len(same) > 1:
            ids = ", ".join(f"{record.public_id} ({record.path})" for record in same)
            raise ValueError(f"keys={name}: is in several roots; give one of the ids: {ids}")
        found[same[0].id] = same[0]
    return list(found.values())
