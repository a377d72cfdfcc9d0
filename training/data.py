"""The lists that a run names -> cached videos with their captions, and what of them failed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexing.atomic import write_atomically
from indexing.sources import VideoItem
from training.datasets import read_captioned
from training.frame_cache import CachedVideo

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionedCollection:
    """Videos whose frames are at hand.

    Attributes:
        videos: with their frames.
        captions: the sentences of each, at least one.
        sources: where its list says that each comes from, else the name of the list.
    """

    videos: list[CachedVideo]
    captions: list[list[str]]
    sources: list[str]


def read_lists(
    names: Sequence[str],
    *,
    videos: str | None,
    captions: str | None,
    cache_folder: Path,
) -> list[VideoItem]:
    """Videos of one or several lists, each once, with all its captions.

    Raises:
        ValueError: a list is malformed (its line is named), or a video has no caption.
    """
    merged: dict[str, VideoItem] = {}
    for name in names:
        for item in read_captioned(
            name, videos=videos, captions=captions, cache_folder=cache_folder
        ):
            own = item.metadata.get("captions")
            if not own:
                raise ValueError(f"{name}: {item.key} has no `captions`, which training needs")
            path = str(item.path)  # keys of two lists may be the same and mean different videos
            source = str(item.metadata.get("source", Path(name).stem))
            metadata = item.metadata | {"captions": [], "source": source}
            first = merged.setdefault(path, VideoItem(path, item.path, metadata))
            seen = first.metadata["captions"]
            seen += [caption for caption in own if caption not in seen]
    return list(merged.values())


def assemble(items: Sequence[VideoItem], cached: dict[str, CachedVideo]) -> CaptionedCollection:
    """Those of the videos that are cached, with their captions."""
    here = [item for item in items if item.key in cached]
    return CaptionedCollection(
        [cached[item.key] for item in here],
        [item.metadata["captions"] for item in here],
        [item.metadata["source"] for item in here],
    )


def check_failed(
    failed: Sequence[tuple[str, str]], *, num_videos: int, max_failed: float, report: Path
) -> None:
    """Names the videos that are missing or broken, and writes them to a file.

    Raises:
        ValueError: they are more than a share `max_failed` of all, or all of them.
    """
    if not failed:
        return
    lines = "".join(f"{path}\t{reason}\n" for path, reason in failed)
    write_atomically(report, lines.encode(errors="backslashreplace"))
    for path, reason in failed:
        logger.warning("left out: %s: %s", path, reason)
    shown = "; ".join(f"{path}: {reason}" for path, reason in failed[:3])
    if len(failed) == num_videos or len(failed) > max_failed * num_videos:
        raise ValueError(
            f"{len(failed)} of {num_videos} videos are missing or broken, more than "
            f"data.max_failed={max_failed} allows; the list is in {report}; the first: {shown}"
        )


def warn_of_overlap(train: Sequence[VideoItem], val: Sequence[VideoItem]) -> None:
    """Says where the validation would measure what was trained on."""
    both = {item.key for item in train} & {item.key for item in val}
    if both:
        logger.warning(
            "%d videos are in data.train and in data.val: what is measured on them is not new "
            "to the model; the first: %s",
            len(both),
            min(both),
        )
