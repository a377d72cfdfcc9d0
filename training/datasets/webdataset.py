"""WebDataset shards -> captioned videos, unpacked to a cache folder.

A shard is an uncompressed tar. Its files that are named alike up to the first dot are one sample:
`0001.mp4` with `0001.txt` (a caption a line) or `0001.json` (`caption`, `captions` or `text`).
See https://github.com/webdataset/webdataset. Names in a shard are data, never paths to write to.
"""

import glob
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reelseek.indexing import VideoItem
from reelseek.indexing.sources.captions import CaptionReader, unique
from reelseek.training.datasets._video_cache import VideoCache
from reelseek.vision import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 1_000_000
_MAX_CAPTION_BYTES = 16 * 1024 * 1024
_CAPTION_KEYS = ("caption", "captions", "text")


@dataclass
class _Sample:
    video: tarfile.TarInfo | None = None
    captions: list[str] = field(default_factory=list)


def is_shards(data: str) -> bool:
    """Whether `data` names shards: a .tar, a pattern of them, or a folder that holds some."""
    return data.lower().endswith(".tar") or (Path(data).is_dir() and any(_tars_in(Path(data))))


def read_shards(data: str, *, cache_folder: Path | None = None) -> list[VideoItem]:
    """Reads every shard, in the order of their names.

    Skips and counts samples without a video or without a caption.

    Args:
        data: a .tar, a folder of them, a glob, or a range such as `train-{000..003}.tar`.
        cache_folder: where the videos are unpacked; None for the user's cache folder.

    Raises:
        ValueError: a shard is missing, damaged or cannot be unpacked, a caption is malformed, a
            sample has two videos, or there is no captioned video at all.
    """
    if cache_folder is None:
        from platformdirs import user_cache_path

        cache_folder = user_cache_path("reelseek") / "videos"
    shards = [Path(os.path.abspath(shard)) for shard in find_shards(data)]
    root = os.path.commonpath([shard.parent for shard in shards])
    cache = VideoCache(Path(os.path.abspath(cache_folder)))
    items = []
    for shard in shards:
        name = shard.relative_to(root).with_suffix("").as_posix()
        try:
            items += _read_shard(shard, name=name, cache=cache)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{shard}: is not a whole, uncompressed tar ({error})") from error
        except OSError as error:
            raise ValueError(f"{shard}: cannot be unpacked to {cache_folder} ({error})") from error
    if not items:
        raise ValueError(f"{data}: holds no video with a caption")
    return items


def find_shards(data: str) -> list[str]:
    """Returns the shards that a file, a folder, a glob or a range names.

    Raises:
        ValueError: one of a range, or all, are not there.
    """
    if Path(data).is_file():
        return [data]
    if Path(data).is_dir():
        return [str(path) for path in _tars_in(Path(data))]
    shards = []
    for pattern in expand_ranges(data):
        is_pattern = glob.has_magic(pattern) and not Path(pattern).exists()
        found = sorted(glob.glob(pattern, recursive=True)) if is_pattern else [pattern]
        if not found or not all(Path(shard).is_file() for shard in found):
            raise ValueError(f"{pattern}: no such shard")
        shards += found
    return list(dict.fromkeys(shards))


def expand_ranges(pattern: str) -> list[str]:
    """`a-{08..10}.tar` -> `a-08.tar`, `a-09.tar`, `a-10.tar`; zeros in front are kept, as in Bash.

    Raises:
        ValueError: that would be more than a million names.
    """
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    is_padded = any(len(end) > 1 and end.startswith("0") for end in match.groups())
    width = max(map(len, match.groups())) if is_padded else 0
    tails = expand_ranges(pattern[match.end() :])
    if (abs(last - first) + 1) * len(tails) > _MAX_SHARDS:
        raise ValueError(f"{pattern}: names more than {_MAX_SHARDS} shards")
    step = 1 if first <= last else -1
    head = pattern[: match.start()]
    return [
        f"{head}{number:0{width}d}{tail}"
        for number in range(first, last + step, step)
        for tail in tails
    ]


def _tars_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".tar" and not path.name.startswith(".")
    )


def _read_shard(shard: Path, *, name: str, cache: VideoCache) -> list[VideoItem]:
    items = []
    with tarfile.open(shard, "r:", encoding="utf-8", errors="replace") as tar:
        samples = _read_samples(tar, shard)
        for sample in samples.values():
            if sample.video is not None and sample.captions:
                video = PurePosixPath(sample.video.name)
                path = cache.unpack(tar, sample.video, suffix=video.suffix.lower())
                items.append(VideoItem(f"{name}/{video}", path, {"captions": sample.captions}))
    if len(items) < len(samples):
        num_incomplete = len(samples) - len(items)
        logger.warning("%s: %d samples lack a video or a caption", shard, num_incomplete)
    return items


def _read_samples(tar: tarfile.TarFile, shard: Path) -> dict[str, _Sample]:
    """Returns the samples by the common part of their files' names, in the order of the shard."""
    samples: dict[str, _Sample] = {}
    reader = CaptionReader(shard)
    refused: list[str] = []
    for member in _members(tar):
        name = PurePosixPath(member.name)
        if not member.isreg() or member.issparse() or not _is_plain(member.name):
            refused += [] if member.isdir() else [member.name]
            continue
        start, _, ending = name.name.partition(".")
        is_video = name.suffix.lower() in VIDEO_SUFFIXES
        if not start or not (is_video or ending.lower() in ("txt", "json")):
            continue
        sample = samples.setdefault(str(name.parent / start), _Sample())
        where = f"{shard}, {member.name!r}"
        if not is_video:
            found = _read_captions(tar, member, ending.lower(), reader)
            sample.captions = unique([*sample.captions, *found])
        elif sample.video is not None:
            raise ValueError(f"{where}: is a second video beside {sample.video.name!r}")
        else:
            sample.video = member
    reader.report()
    if refused:
        logger.warning(
            "%s: %d entries are links, devices or named outside of it: %s",
            *(shard, len(refused), ", ".join(map(repr, refused[:3]))),
        )
    return samples


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the members of a tar; raises where `tarfile` would take damage for the end."""
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


def _is_plain(name: str) -> bool:
    """Whether a name stays within the shard."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _read_captions(
    tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, reader: CaptionReader
) -> list[str]:
    where = f"{tar.name!s}, {member.name!r}"
    if member.size > _MAX_CAPTION_BYTES:
        raise ValueError(f"{where}: has {member.size} bytes, too many for captions")
    file = tar.extractfile(member)
    assert file is not None
    try:
        text = file.read().decode("utf-8-sig")
        if ending == "txt":
            lines = [line for line in text.split("\n") if line.strip()]
            return reader.read(lines, repr(member.name))
        value = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: is not UTF-8 text (byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: must be an object with `caption`, `captions` or `text`")
    key = next((key for key in _CAPTION_KEYS if value.get(key)), None)
    return reader.read(value[key], f"{member.name!r}, `{key}`") if key else []
