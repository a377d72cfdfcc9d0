"""WebDataset shards -> captioned videos, unpacked to a cache folder; `training.shards` reads
shards beside the training loop instead.

A shard is an uncompressed tar. Its files that are named alike up to the first dot are one sample:
`0001.mp4` with `0001.txt` (a caption a line) or `0001.json` (`caption`, `captions` or `text`).
See https://github.com/webdataset/webdataset. Names in a shard are data, never paths to write to.
"""

import logging
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reelseek.indexing import VideoItem
from reelseek.indexing.sources.captions import CaptionReader, unique
from reelseek.training.datasets._video_cache import VideoCache
from reelseek.training.shards.names import find_shards
from reelseek.training.shards.tar import (
    CAPTION_ENDINGS,
    MAX_CAPTION_BYTES,
    is_plain_file,
    iter_members,
    parse_captions,
    split_name,
)
from reelseek.vision import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


@dataclass
class _Sample:
    video: tarfile.TarInfo | None = None
    captions: list[str] = field(default_factory=list)


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
    for member in iter_members(tar):
        if not is_plain_file(member):
            refused += [] if member.isdir() else [member.name]
            continue
        sample_name, ending = split_name(member.name)
        is_video = PurePosixPath(member.name).suffix.lower() in VIDEO_SUFFIXES
        if not sample_name or not (is_video or ending in CAPTION_ENDINGS):
            continue
        sample = samples.setdefault(sample_name, _Sample())
        where = f"{shard}, {member.name!r}"
        if not is_video:
            found = _read_captions(tar, member, ending, reader)
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


def _read_captions(
    tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str, reader: CaptionReader
) -> list[str]:
    where = f"{tar.name!s}, {member.name!r}"
    if member.size > MAX_CAPTION_BYTES:
        raise ValueError(f"{where}: has {member.size} bytes, too many for captions")
    file = tar.extractfile(member)
    assert file is not None
    return parse_captions(file.read(), ending, name=member.name, where=where, reader=reader)
