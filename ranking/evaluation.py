"""Captioned videos that have other texts too -> what pictures, words, and both together retrieve.

Texts can drown pictures: a title that shares a word with the query goes before the video that shows
what is asked. So each is measured alone and beside the other, by the search that answers users.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from indexing.catalogue import FileStamp, NewVideo
from indexing.evaluation import CaptionedVideos
from indexing.manifest import IndexSettings
from indexing.metrics import summary_of_ranks
from indexing.reading import IndexReader
from indexing.sources import VideoItem
from indexing.writer import IndexWriter
from ranking.request import PICTURE, SOURCES, WORDS, Request
from ranking.retrieval import Retriever
from text.segmentation import words

_ROWS = {"picture": (PICTURE,), "words": (WORDS,), "fused": SOURCES}


def measure_sources(videos: CaptionedVideos, queries: np.ndarray) -> dict:
    """Text-to-video retrieval from an index of the videos with all that is said of them but their
    captions, which are what is asked: titles, tags, names.

    Args:
        queries: `(num_captions, D)`, the captions' embeddings.

    Returns:
        For `picture`, `words` and `fused` what `t2v` of `retrieval_metrics` holds; a video that is
        not found has the worst rank. Empty where words cannot be searched, for lack of tantivy.
    """
    with TemporaryDirectory() as folder:
        _make_index(Path(folder), videos)
        reader = IndexReader(Path(folder))
        try:
            if not reader.has_words:
                return {}
            asked = [words(caption) for caption in videos.captions]
            return {
                name: summary_of_ranks(_ranks(reader, videos, queries, asked, sources))
                for name, sources in _ROWS.items()
            }
        finally:
            reader.close()


def _make_index(folder: Path, videos: CaptionedVideos) -> None:
    dim = videos.embeddings.shape[1]
    settings = IndexSettings({}, "", dim, {}, {"kind": "windows"})
    with IndexWriter(folder, settings) as writer:
        for number, (item, embedding) in enumerate(
            zip(videos.items, videos.embeddings.numpy(), strict=True)
        ):
            video = NewVideo(
                key=_key(number, item),
                path=str(item.path),
                stamp=FileStamp(0, 0, str(number)),
                outcome="ok",
                metadata={k: value for k, value in item.metadata.items() if k != "captions"},
            )
            writer.add(video, embedding[None])
        writer.publish()


def _key(number: int, item: VideoItem) -> str:
    """A name that says no more than the file's does: keys may be whole paths."""
    return f"{number}/{item.path.name}"


def _ranks(
    reader: IndexReader,
    videos: CaptionedVideos,
    queries: np.ndarray,
    asked: Sequence[Sequence[str]],
    sources: Sequence[str],
) -> np.ndarray:
    retriever, num_videos = Retriever(reader), len(videos.items)
    place = {_key(number, item): number for number, item in enumerate(videos.items)}
    ranks = np.full(len(queries), num_videos)
    for number, (query, some) in enumerate(zip(queries, asked, strict=True)):
        request = Request(query, words=some, sources=sources)
        for hit in retriever.search(request, k=num_videos, level="video"):
            if place[hit.key] == videos.caption_video[number]:
                ranks[number] = hit.rank
    return ranks
