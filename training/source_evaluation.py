"""Captioned videos with other texts -> the retrieval metrics of each source, and of both fused.

Lexical matches can outrank visual ones: a title that shares a word with the query may come before
the video that shows it. So each source is measured alone and with the other, by the search that
users call.
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
_USUAL_K = 10


class SupportsOrder(Protocol):
    """The part of `Searcher` that is measured."""

    retriever: Retriever

    def request(self, query: str, /) -> Request: ...


def measure_sources(
    videos: CaptionedVideos,
    *,
    open_searcher: Callable[[IndexReader], SupportsOrder],
    sentences: np.ndarray,
) -> dict:
    """Measures text-to-video retrieval from an index of the videos with their titles, tags and
    names. The captions are the queries, analysed as those of users, and are not indexed.

    Args:
        open_searcher: makes the searcher of an index.
        sentences: `(n, D)`, embeddings of everyday sentences, as every index keeps them.

    Returns:
        `visual`, `lexical` and `fused`, each as `t2v` of `retrieval_metrics`; a video that is not
        found has the worst rank. Empty without tantivy, which searches words.
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
    """Returns `(T, 2)`, a segment for each frame, between the midpoints to its neighbours."""
    times = encoded.times_seconds
    ends = [0.0, *((times[:-1] + times[1:]) / 2), max(encoded.duration_seconds, times[-1])]
    return np.stack([ends[:-1], ends[1:]], axis=1)


def _key(number: int, item: VideoItem) -> str:
    """Returns a key with no more words than the file's name: keys may be whole paths."""
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
            # The number of hits decides how many candidates a search gathers.
            num_seen = 0
            for k in (_USUAL_K, 10 * _USUAL_K, num_videos):
                hits = searcher.retriever.search(request, k=k, level="video")
                found = [hit.rank for hit in hits if hit.key == key]
                if found:
                    ranks[number] = max(found[0], num_seen + 1)
                    break
                num_seen = min(k, num_videos)
        except ValueError as error:  # its filter names a value that no video has
            logger.warning("%r is not answered: %s", videos.captions[number], error)
    return ranks
