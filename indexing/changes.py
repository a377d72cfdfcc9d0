"""A collection and a catalogue -> what differs, judged by file size and time alone."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from indexing.catalogue import FileStamp, VideoRecord
from indexing.killable import map_killably
from indexing.sources import VideoItem
from vision import read_content


@dataclass
class Changes:
    """What differs.

    Attributes:
        unchanged: videos whose file has the size and the time it had.
        examine: videos that are new, or whose file looks different, or that are to be tried again;
            their content decides.
        missing: videos of the collection that are not on disk.
        misnamed: videos whose path is not UTF-8, which no decoder or catalogue could take.
        gone: what the catalogue holds and the collection or the disk no longer does.
    """

    unchanged: list[tuple[VideoItem, VideoRecord]] = field(default_factory=list)
    examine: list[VideoItem] = field(default_factory=list)
    missing: list[VideoItem] = field(default_factory=list)
    misnamed: list[VideoItem] = field(default_factory=list)
    gone: dict[str, VideoRecord] = field(default_factory=dict)


def find_changes(
    items: Sequence[VideoItem],
    records: Mapping[str, VideoRecord],
    *,
    check_content: bool = False,
    retry_failed: bool = False,
    timeout_seconds: float = 120.0,
) -> Changes:
    """Compares.

    Args:
        items: the collection.
        records: the catalogue's videos by key.
        check_content: examine every file, for those who keep old times on new contents.
        retry_failed: examine files that failed before, though they look the same.
        timeout_seconds: after which a file that does not answer is missing.
    """
    changes = Changes()
    statuses = map_killably(os.stat, [item.path for item in items], timeout_seconds=timeout_seconds)
    for item, status in zip(items, statuses, strict=True):
        try:
            if isinstance(status, Exception):
                raise status
            str(item.path).encode("utf-8")
        except UnicodeEncodeError:
            changes.misnamed.append(item)
            continue
        except (OSError, ValueError):  # ValueError: a list may hold what no path can, such as \0
            changes.missing.append(item)
            continue
        record = records.get(item.key)
        looks_the_same = record is not None and (
            (record.stamp.size_bytes, record.stamp.modified_ns)
            == (status.st_size, status.st_mtime_ns)
        )
        again = check_content or (retry_failed and record is not None and record.location is None)
        if record is not None and looks_the_same and not again:
            changes.unchanged.append((item, record))
        else:
            changes.examine.append(item)
    on_disk = {item.key for item in changes.examine} | {i.key for i, _ in changes.unchanged}
    changes.gone = {key: record for key, record in records.items() if key not in on_disk}
    return changes


def file_stamp(path: Path) -> FileStamp:
    """Reads the whole file.

    Raises:
        VideoDecodeError: it is not a regular file.
        OSError: it cannot be read.
    """
    content = read_content(path)
    return FileStamp(content.size_bytes, content.modified_ns, content.sha256)
