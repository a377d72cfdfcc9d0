"""The lists of a run -> captioned videos, and those that cannot be used; without PyTorch, so that a
mistake in a list shows at once."""

import logging
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelseek.configs.train_schema import DataConfig
from reelseek.indexing.sources.captions import unique
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.atomic import write_atomically
from reelseek.training.datasets import read_captioned
from reelseek.vision import default_cache_folder

logger = logging.getLogger(__name__)

Failure = tuple[str, str]  # a path and a reason
_MAX_NAMED = 10


@dataclass(frozen=True)
class CaptionedList:
    """The videos of `data.train` or of `data.val`.

    Attributes:
        items: those that have captions, each once, with all of them.
        uncaptioned: the others.
    """

    items: list[VideoItem]
    uncaptioned: list[Failure]

    @property
    def captions(self) -> list[str]:
        """Each different caption, in the order of the videos."""
        return unique(caption for item in self.items for caption in item.captions)


@dataclass(frozen=True)
class RunLists:
    """The lists for training and for validation; either may be empty."""

    train: CaptionedList
    val: CaptionedList

    @property
    def items(self) -> list[VideoItem]:
        """The videos of both, each once."""
        return list({item.key: item for item in [*self.train.items, *self.val.items]}.values())

    @property
    def uncaptioned(self) -> list[Failure]:
        return [*self.train.uncaptioned, *self.val.uncaptioned]


def read_run_lists(data: DataConfig) -> RunLists:
    """Reads `data.train` and `data.val`; with `data.stream`, `data.train` is no list.

    Raises:
        ValueError: see `read_lists`.
    """
    train, val = (
        read_lists(
            names,
            videos=data.videos,
            captions=data.captions,
            cache_folder=cache_folder(data) / "shards",
        )
        for names in ([] if data.stream else data.train, data.val)
    )
    return RunLists(train, val)


def cache_folder(data: DataConfig) -> Path:
    """Returns the folder of decoded frames and encoded captions, which runs share."""
    return Path(data.cache) if data.cache else default_cache_folder() / "training"


def read_lists(
    names: Sequence[str],
    *,
    videos: str | None,
    captions: str | None,
    cache_folder: Path,
) -> CaptionedList:
    """Returns the videos of one or several lists, each once, with all its captions.

    Raises:
        ValueError: a list is malformed (its line is named), or no video of it has a caption.
    """
    merged: dict[str, VideoItem] = {}
    for name in names:
        items = read_captioned(name, videos=videos, captions=captions, cache_folder=cache_folder)
        if not any(item.captions for item in items):
            keys = sorted({key for item in items for key in item.metadata})
            raise ValueError(
                f"{name}: none of its {len(items)} videos has `captions`, which training and "
                f"evaluation need; it has {', '.join(keys) or 'nothing'} beside the videos"
            )
        for item in items:
            path = str(item.path)  # keys of two lists may be the same and mean different videos
            source = str(item.metadata.get("source", Path(name).stem))
            metadata = item.metadata | {"captions": [], "source": source}
            first = merged.setdefault(path, VideoItem(path, item.path, metadata))
            first.metadata["captions"] = unique([*first.captions, *item.captions])
    return CaptionedList(
        [item for item in merged.values() if item.captions],
        [(path, "has no caption") for path, item in merged.items() if not item.captions],
    )


def missing_files(items: Iterable[VideoItem]) -> list[Failure]:
    """Returns the videos whose files are missing."""
    reasons = ((str(item.path), why_missing(item.path)) for item in items)
    return [(path, reason) for path, reason in reasons if reason]


def why_missing(path: Path) -> str:
    """Returns why there is no file to read; empty where there is one."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if stat.S_ISDIR(mode):
        return "is a directory"
    # Reading a pipe would block.
    return "" if stat.S_ISREG(mode) else "is a pipe, a socket or a device"


def are_too_many(failed: Sequence[Failure], *, num_videos: int, max_failed_fraction: float) -> bool:
    """Returns whether more of the videos failed than a run may leave out."""
    return bool(failed) and (
        len(failed) == num_videos or len(failed) > max_failed_fraction * num_videos
    )


def check_failed(
    failed: Sequence[Failure], *, num_videos: int, max_failed_fraction: float, report: Path
) -> None:
    """Warns of videos that are missing or broken, and writes them to a file.

    Raises:
        ValueError: they are more than a fraction `max_failed_fraction` of all, or all of them.
    """
    if not failed:
        return
    lines = "".join(f"{path}\t{reason}\n" for path, reason in failed)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(report, lines.encode(errors="backslashreplace"))
    warn_of_failed(failed)
    if are_too_many(failed, num_videos=num_videos, max_failed_fraction=max_failed_fraction):
        shown = "; ".join(f"{path}: {reason}" for path, reason in failed[:3])
        raise ValueError(
            f"{len(failed)} of {num_videos} videos are missing, broken or without captions, more "
            f"than data.max_failed_fraction={max_failed_fraction} allows; the list is in "
            f"{report}; the first: {shown}"
        )


def warn_of_failed(failed: Sequence[Failure]) -> None:
    """Warns of the first videos that are left out, and counts them."""
    for path, reason in failed[:_MAX_NAMED]:
        logger.warning("left out: %s: %s", path, reason)
    if len(failed) > _MAX_NAMED:
        logger.warning("left out: %d videos in all", len(failed))


def warn_of_overlap(train: Sequence[VideoItem], val: Sequence[VideoItem]) -> None:
    """Warns of videos that are in both lists."""
    both = {item.key for item in train} & {item.key for item in val}
    if both:
        logger.warning(
            "%d videos are in data.train and in data.val: their metrics are those of videos that "
            "the model has seen; the first: %s",
            len(both),
            min(both),
        )
