"""Pictures, words and both, measured by the search that answers users: the answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.sources.collection import VideoItem
from reelseek.ranking.request import Request
from reelseek.ranking.retrieval import Retriever
from reelseek.text.segmentation import words
from reelseek.training.retrieval import CaptionedVideos
from reelseek.training.source_evaluation import measure_sources

pytest.importorskip("tantivy")

D = 8
THINGS = "apple bear chair door engine flute grape horse".split()


def captioned(titles):
    """Videos whose captions are `thing apple`, `thing bear`, ..., each an axis of its own."""
    captions = [f"thing {name}" for name in THINGS]
    items = [
        VideoItem(f"/{i}.mp4", Path(f"/{i}.mp4"), {"captions": [caption], "title": title})
        for i, (caption, title) in enumerate(zip(captions, titles, strict=True))
    ]
    embeddings = torch.eye(D)
    encoded = [
        EncodedVideo(i, embeddings[i : i + 1], np.array([1.0]), 2.0, "ok", "") for i in range(D)
    ]
    return CaptionedVideos(embeddings, captions, np.arange(D), items, encoded, [])


class SupportsOrder:
    """What answers users, with embeddings of which the first few find the video of their caption
    and the others the next."""

    def __init__(self, reader, num_seen):
        self.retriever = Retriever(reader)
        shifted = np.roll(np.eye(D, dtype=np.float32), 1, axis=0)
        shifted[:num_seen] = np.eye(D, dtype=np.float32)[:num_seen]
        self._queries = shifted

    def request(self, query):
        names = words(query)
        number = THINGS.index(names[1])
        if len(names) > 2:  # "thing apple under 1 second"
            return Request(self._queries[number], words=names[:2], where="duration < 1")
        return Request(self._queries[number], words=names)


def measured(videos, num_seen):
    sentences = np.random.default_rng(0).normal(size=(40, D)).astype(np.float32)
    return measure_sources(
        videos,
        open_searcher=lambda reader: SupportsOrder(reader, num_seen),
        sentences=sentences / np.linalg.norm(sentences, axis=1, keepdims=True),
    )


def test_each_source_is_measured_alone_and_both_together():
    right = [f"thing {name}" for name in THINGS]
    wrong = ["nothing"] * D
    rows = measured(captioned(wrong[:4] + right[4:]), 4)
    assert rows["visual"]["R@1"] == 50
    assert rows["lexical"]["R@1"] == 50
    assert rows["fused"]["R@5"] == 100
    assert rows["fused"]["MnR"] < min(rows["visual"]["MnR"], rows["lexical"]["MnR"])


def test_captions_which_are_asked_are_not_searched():
    rows = measured(captioned(["nothing"] * D), D)
    assert rows["visual"]["R@1"] == rows["fused"]["R@1"] == 100
    assert rows["lexical"] == {"R@1": 0, "R@5": 0, "R@10": 100, "MdR": D, "MnR": D}


def test_captions_are_asked_as_users_ask_them():
    videos = captioned(["nothing"] * D)
    videos.captions[0] += " under 1 second"  # which no video is
    rows = measured(videos, D)
    assert rows["visual"]["R@1"] == rows["fused"]["R@1"] == 100 * (D - 1) / D


def test_without_tantivy_there_are_no_rows(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tantivy", None)
    assert measured(captioned(["nothing"] * D), D) == {}
