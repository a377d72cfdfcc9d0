"""Captioned videos that have other texts too -> what pictures, words, and both together retrieve.

Texts can drown pictures: a title that shares a word with the query goes before the video that shows
what is asked. So each is measured alone and beside the other, by the search that answers users.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np

from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.manifest import IndexSettings
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.metrics import summary_of_ranks
from reelseek.ranking.request import LEXICAL, SOURCES, VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.training.retrieval import CaptionedVideos

logger = logging.getLogger(__name__)

_ROWS = {"visual": (VISUAL,), "lexical": (LEXICAL,), "fused": SOURCES}
_USUAL_K = 10  # hits that users ask for


class SupportsOrder(Protocol):
    """What answers users, as `search.Searcher` does."""

    retriever: Retriever

    def request(self, query: str, /) -> Request: ...


def measure_sources(
    videos: CaptionedVideos,
    *,
    open_searcher: Callable[[IndexReader], SupportsOrder],
    sentences: np.ndarray,
) -> dict:
    """Text-to-video retrieval from an index of the videos with all that is said of them but their
    captions, which are what is asked: titles, tags, names. Captions are asked as users ask, with
    the analysis of the query.

    Args:
        open_searcher: what searches an index.
        sentences: `(n, D)`, embeddings of everyday sentences, as every index keeps them.

    Returns:
        For `visual`, `lexical` and `fused` what `t2v` of `retrieval_metrics` holds; a video that is
        not found has the worst rank. Empty where words cannot be searched, for lack of tantivy.
    """
    with TemporaryDirectory() as folder:
        _make_index(Path(folder), videos, sentences)
        reader = IndexReader(Path(folder))
        try:
            if not reader.has_lexical_index:
                return {}
            searcher = open_searcher(reader)
            requests = [searcher.request(caption) for caption in videos.captions]
            return {
                name: summary_of_ranks(_ranks(searcher, videos, requests, sources))
                for name, sources in _ROWS.items()
            }
        finally:
            reader.close()


def _make_index(folder: Path, videos: CaptionedVideos, sentences: np.ndarray) -> None:
    dim = videos.embeddings.shape[1]
    settings = IndexSettings({}, "", dim, {}, {"kind": "windows"})
    with IndexWriter(folder, settings) as writer:
        for number, (item, encoded, whole) in enumerate(
            zip(videos.items, videos.encoded, videos.embeddings.numpy(), strict=True)
        ):
            video = NewVideo(
                key=_key(number, item),
                path=str(item.path),
                signature=FileSignature(0, 0, str(number)),
                outcome="ok",
                duration_seconds=encoded.duration_seconds,
                metadata={k: value for k, value in item.metadata.items() if k != "captions"},
                spans=_spans(encoded),
            )
            writer.add(video, np.concatenate([whole[None], encoded.embeddings.numpy()]))
        writer.publish(sentences=lambda: sentences)


def _spans(encoded: EncodedVideo) -> np.ndarray:
    """`(T, 2)`, a segment for each frame: from one middle between two frames to the next."""
    times = encoded.times_seconds
    ends = [0.0, *((times[:-1] + times[1:]) / 2), max(encoded.duration_seconds, times[-1])]
    return np.stack([ends[:-1], ends[1:]], axis=1)


def _key(number: int, item: VideoItem) -> str:
    """A name that says no more than the file's does: keys may be whole paths."""
    return f"{number}/{item.path.name}"


def _ranks(
    searcher: SupportsOrder,
    videos: CaptionedVideos,
    requests: Sequence[Request],
    sources: Sequence[str],
) -> np.ndarray:
    num_videos = len(videos.items)
    keys = [_key(number, item) for number, item in enumerate(videos.items)]
    ranks = np.full(len(requests), num_videos)
    for number, request in enumerate(requests):
        request, key = replace(request, sources=sources), keys[videos.caption_video[number]]
        try:
            # How many hits are asked for decides how many candidates are looked at.
            num_seen = 0
            for k in (_USUAL_K, 10 * _USUAL_K, num_videos):
                hits = searcher.retriever.search(request, k=k, level="video")
                found = [hit.rank for hit in hits if hit.key == key]
                if found:
                    ranks[number] = max(found[0], num_seen + 1)
                    break
                num_seen = min(k, num_videos)
        except ValueError as error:  # a filter of what no video has, which users are told
            logger.warning("%r is not answered: %s", videos.captions[number], error)
    return ranks
