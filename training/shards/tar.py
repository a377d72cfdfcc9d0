"""The members of a WebDataset shard: which belong to one sample, and the captions among them.

A shard is an uncompressed tar. Its files that are named alike up to the first dot are one sample.
See https://github.com/webdataset/webdataset. Names in a shard are data, never paths to write to.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from reelseek.indexing.sources.captions import CaptionReader

MAX_CAPTION_BYTES = 16 * 1024 * 1024
CAPTION_ENDINGS = ("txt", "json")
_CAPTION_KEYS = ("caption", "captions", "text")


def iter_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar; raises where `tarfile` would take damage for the end.

    Raises:
        tarfile.TarError: the tar is damaged or cut off.
    """
    last_offset = -1
    for member in tar:
        if member.offset <= last_offset or member.size < 0:  # a header that leads back: a loop
            raise tarfile.ReadError(f"the header of {member.name!r} is damaged")
        last_offset = member.offset
        yield member
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is cut off or damaged at byte {tar.offset}")


def is_plain_file(member: tarfile.TarInfo) -> bool:
    """Returns whether a member is a file whose name stays within the shard."""
    path = PurePosixPath(member.name)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\\" not in member.name
    return is_inside and member.isreg() and not member.issparse()


def split_name(name: str) -> tuple[str, str]:
    """`a/0001.en.TXT` -> the sample's name `a/0001`, and the ending `en.txt`.

    The sample's name is empty where a file has none before its first dot.
    """
    path = PurePosixPath(name)
    start, _, ending = path.name.partition(".")
    return (str(path.parent / start) if start else ""), ending.lower()


def parse_captions(
    content: bytes, ending: str, *, name: str, where: str, reader: CaptionReader
) -> list[str]:
    """Returns the sentences of a file of captions.

    Args:
        content: of the file.
        ending: `txt`, with a caption a line, or `json`.
        name: of the file, for captions that are left out.
        where: shard and file, for errors.
        reader: names what is left out.

    Raises:
        ValueError: the content is malformed.
    """
    try:
        text = content.decode("utf-8-sig")
        if ending == "txt":
            lines = [line for line in text.split("\n") if line.strip()]
            return reader.read(lines, repr(name))
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be an object with `caption`, `captions` or `text`")
    key = next((key for key in _CAPTION_KEYS if value.get(key)), None)
    return reader.read(value[key], f"{name!r}, `{key}`") if key else []
