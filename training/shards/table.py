"""A tar shard -> where its samples lie: offsets, read from its headers once and then cached.

With offsets, any sample can be read at any time, so that the order of training is a function of
the seed alone. A stream that is read from end to end would need the state of a shuffle buffer.
"""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from reelseek.indexing.store.atomic import publish_file
from reelseek.training.shards.tar import (
    CAPTION_ENDINGS,
    is_plain_file,
    iter_members,
    split_name,
)
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_VERSION = 1
_COLUMNS = 5
_MAX_NAMED = 3


@dataclass(frozen=True)
class SampleLocation:
    """Where the picture or video of a sample lies, and its captions.

    Attributes:
        shard: path of the tar.
        name: of the picture or video, in the shard.
        offset, size_bytes: of the picture or video.
        captions_offset, captions_bytes: of the file of captions.
        captions_ending: `txt` or `json`.
    """

    shard: Path
    name: str
    offset: int
    size_bytes: int
    captions_offset: int
    captions_bytes: int
    captions_ending: str

    def __str__(self) -> str:
        return f"{self.shard}, {self.name!r}"


@dataclass(frozen=True)
class ShardTable:
    """The samples of a shard that have a picture or a video, and captions, in its order.

    Attributes:
        shard: path of the tar.
        columns: `(N, 5)` int64: offset and size of the picture or video, offset and size of the
            captions, and the index of their ending.
        names: UTF-8 names of the pictures and videos, one after the other.
        name_ends: `(N,)` int64, where each name ends in `names`.
        left_out: why other samples are not used, one line each.
    """

    shard: Path
    columns: np.ndarray
    names: bytes
    name_ends: np.ndarray
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns)

    def sample(self, index: int) -> SampleLocation:
        start = self.name_ends[index - 1] if index else 0
        offset, size_bytes, captions_offset, captions_bytes, ending = self.columns[index].tolist()
        return SampleLocation(
            self.shard,
            self.names[start : self.name_ends[index]].decode(),
            offset,
            size_bytes,
            captions_offset,
            captions_bytes,
            CAPTION_ENDINGS[ending],
        )


class BrokenShardError(ValueError):
    """A shard is no whole, uncompressed tar."""


def read_table(shard: Path, cache_folder: Path) -> ShardTable:
    """Returns a shard's table, from the cache if the shard has not changed since.

    Raises:
        BrokenShardError: the shard is damaged, cut off, compressed or unreadable.
        OSError: the cache cannot be written.
    """
    try:
        status = shard.stat()
    except OSError as error:
        raise BrokenShardError((error.strerror or str(error)).lower()) from error
    identity = repr((_VERSION, str(shard), status.st_size, status.st_mtime_ns))
    path = cache_folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.npz"
    cached = _load(path, shard)
    if cached is not None:
        return cached
    table = scan(shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_file(path, lambda temporary: _save(table, temporary))
    return table


def scan(shard: Path) -> ShardTable:
    """Reads the table from the headers of a shard.

    Raises:
        BrokenShardError: the shard is damaged, cut off, compressed or unreadable.
    """
    try:
        with tarfile.open(shard, "r:", encoding="utf-8", errors="replace") as tar:
            return _make_table(shard, _group(tar))
    except (tarfile.TarError, EOFError) as error:
        raise BrokenShardError(f"is not a whole, uncompressed tar ({error})") from error
    except OSError as error:
        raise BrokenShardError(f"cannot be read ({error.strerror or error})") from error


@dataclass
class _Files:
    """The files of a sample: pictures, videos, and captions by their ending."""

    pictures: list[tarfile.TarInfo]
    videos: list[tarfile.TarInfo]
    captions: dict[str, tarfile.TarInfo]

    @property
    def media(self) -> list[tarfile.TarInfo]:
        """What is looked at: a picture beside a video is its thumbnail."""
        return self.videos or self.pictures

    @property
    def fault(self) -> str:
        """Why the sample cannot be used; empty for one that can."""
        if not self.media:
            return "has no picture or video"
        if len(self.media) > 1:
            return f"has {len(self.media)} pictures or videos"
        return "" if self.captions else "has no captions"


def _group(tar: tarfile.TarFile) -> dict[str, _Files]:
    """Returns the files of each sample by its name, in the order of the shard."""
    samples: dict[str, _Files] = {}
    for member in iter_members(tar):
        name, ending = split_name(member.name)
        if not name or not is_plain_file(member):
            continue
        suffix = PurePosixPath(member.name).suffix.lower()
        is_media = suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES
        if not is_media and ending not in CAPTION_ENDINGS:
            continue
        files = samples.setdefault(name, _Files([], [], {}))
        if is_media:
            (files.videos if suffix in VIDEO_SUFFIXES else files.pictures).append(member)
        else:
            files.captions[ending] = member
    return samples


def _make_table(shard: Path, samples: dict[str, _Files]) -> ShardTable:
    rows, names, left_out = [], [], []
    for name, files in samples.items():
        if files.fault:
            left_out.append(f"{name!r} {files.fault}")
            continue
        (media,) = files.media
        # `.json` beside `.txt` holds metadata, as img2dataset writes it.
        ending = next(each for each in CAPTION_ENDINGS if each in files.captions)
        text = files.captions[ending]
        spans = [media.offset_data, media.size, text.offset_data, text.size]
        rows.append([*spans, CAPTION_ENDINGS.index(ending)])
        names.append(media.name.encode("utf-8", "replace"))
    return ShardTable(
        shard,
        np.array(rows, np.int64).reshape(-1, _COLUMNS),
        b"".join(names),
        np.cumsum([len(name) for name in names], dtype=np.int64),
        _shortened(left_out),
    )


def _shortened(lines: list[str]) -> tuple[str, ...]:
    more = len(lines) - _MAX_NAMED
    return (*lines[:_MAX_NAMED], *([f"{more} more"] if more > 0 else []))


def _save(table: ShardTable, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            columns=table.columns,
            names=np.frombuffer(table.names, np.uint8),
            name_ends=table.name_ends,
            left_out=np.frombuffer("\n".join(table.left_out).encode(), np.uint8),
        )


def _load(path: Path, shard: Path) -> ShardTable | None:
    """Returns the cached table; None if there is none, or a damaged one, which is made anew."""
    try:
        content = path.read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            left_out = arrays["left_out"].tobytes().decode()
            return ShardTable(
                shard,
                arrays["columns"],
                arrays["names"].tobytes(),
                arrays["name_ends"],
                tuple(left_out.split("\n")) if left_out else (),
            )
    except Exception:  # NumPy and zipfile raise errors of any type
        return None
