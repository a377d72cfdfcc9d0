"""Captioned videos and their cached frames -> a collection to train on or to validate with."""

from collections.abc import Sequence
from dataclasses import dataclass

from reelseek.indexing.sources.collection import VideoItem
from reelseek.training.frame_cache import CachedVideo


@dataclass(frozen=True)
class CaptionedCollection:
    """Captioned videos with their cached frames.

    Attributes:
        videos: with their frames.
        captions: the sentences of each, at least one.
        sources: each video's `source` in its list, else the name of the list.
    """

    videos: list[CachedVideo]
    captions: list[list[str]]
    sources: list[str]


def assemble(items: Sequence[VideoItem], cached: dict[str, CachedVideo]) -> CaptionedCollection:
    """Returns the videos that are cached, with their captions."""
    here = [item for item in items if item.key in cached]
    return CaptionedCollection(
        [cached[item.key] for item in here],
        [item.metadata["captions"] for item in here],
        [item.metadata["source"] for item in here],
    )
