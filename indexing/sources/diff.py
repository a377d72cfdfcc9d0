"""A collection and a catalogue -> their differences, by file size and time alone."""

import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.sources.killable import map_killably
from reelseek.indexing.sources.walking import special_kind
from reelseek.indexing.store.videos import FileSignature, VideoRecord
from reelseek.vision import read_content


@dataclass
class Diff:
    """The differences.

    Attributes:
        unchanged: videos whose file has the same size and time.
        examine: new videos, those whose file looks different, and those to try again; their content
            decides.
        missing: videos that are not on disk or cannot be read, with the reason.
        unusable: videos with the reason: a path that is not UTF-8, which neither decoders nor the
            catalogue accept, or something that is no file.
        sizes_bytes: of the files to examine, by root and key.
        num_settling: videos whose file was written to just now.
    """

    unchanged: list[tuple[VideoItem, VideoRecord]] = field(default_factory=list)
    examine: list[VideoItem] = field(default_factory=list)
    missing: list[tuple[VideoItem, str]] = field(default_factory=list)
    unusable: list[tuple[VideoItem, str]] = field(default_factory=list)
    sizes_bytes: dict[tuple[str, str], int] = field(default_factory=dict)
    num_settling: int = 0


def compute_diff(
    items: Sequence[VideoItem],
    records: Mapping[tuple[str, str], VideoRecord],
    *,
    check_content: bool = False,
    retry_failed: bool = False,
    settle_seconds: float = 0.0,
    timeout_seconds: float = 120.0,
) -> Diff:
    """Compares a collection with the catalogue.

    Args:
        items: the collection.
        records: the catalogue's videos by root and key.
        check_content: examine every file, for file systems that keep old times on new contents.
        retry_failed: examine files that failed before, though they look the same.
        settle_seconds: a file that was written to this recently is left as it is, for the next run:
            it may not be whole yet.
        timeout_seconds: a file that does not answer for so long is missing.
    """
    diff = Diff()
    statuses = map_killably(os.stat, [item.path for item in items], timeout_seconds=timeout_seconds)
    for item, status in zip(items, statuses, strict=True):
        try:
            if isinstance(status, Exception):
                raise status
            str(item.path).encode("utf-8")
        except UnicodeEncodeError:
            diff.unusable.append((item, "its path is not UTF-8: rename it"))
            continue
        except ValueError:  # a path with \0
            diff.unusable.append((item, "no such file"))
            continue
        except (FileNotFoundError, NotADirectoryError):
            diff.missing.append((item, "no such file"))
            continue
        except OSError as error:
            diff.missing.append((item, f"cannot be read ({error.strerror})"))
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = special_kind(status.st_mode) or "folder"
            diff.unusable.append((item, f"is a {kind}, not a file"))
            continue
        record = records.get(item.root_and_key)
        looks_the_same = record is not None and (
            (record.signature.size_bytes, record.signature.modified_ns)
            == (status.st_size, status.st_mtime_ns)
        )
        again = check_content or (retry_failed and record is not None and record.location is None)
        # A clock that is behind that of the files' system must not leave them out for ever.
        is_settling = 0 <= time.time() - status.st_mtime < settle_seconds and not looks_the_same
        diff.num_settling += is_settling
        if record is not None and ((looks_the_same and not again) or is_settling):
            diff.unchanged.append((item, record))
        elif not is_settling:
            diff.examine.append(item)
            diff.sizes_bytes[item.root_and_key] = status.st_size
    return diff


def file_signature(path: Path) -> FileSignature:
    """Reads a whole file for its signature.

    Raises:
        VideoDecodeError: it is not a regular file.
        OSError: it cannot be read.
    """
    content = read_content(path)
    return FileSignature(content.size_bytes, content.modified_ns, content.sha256)
