"""Pictures, words and both, measured by the search that answers users: the answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from indexing.evaluation import CaptionedVideos
from indexing.sources import VideoItem
from ranking.evaluation import measure_sources

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
    return CaptionedVideos(embeddings, captions, np.arange(D), items, [])


def queries(num_seen):
    """Embeddings of captions, of which the first few find their video and the others the next."""
    shifted = np.roll(np.eye(D, dtype=np.float32), 1, axis=0)
    shifted[:num_seen] = np.eye(D, dtype=np.float32)[:num_seen]
    return shifted


def test_each_source_is_measured_alone_and_both_together():
    right = [f"thing {name}" for name in THINGS]
    wrong = ["nothing"] * D
    rows = measure_sources(captioned(wrong[:4] + right[4:]), queries(4))
    assert rows["picture"]["R@1"] == 50
    assert rows["words"]["R@1"] == 50
    assert rows["fused"]["R@5"] == 100
    assert rows["fused"]["MnR"] < min(rows["picture"]["MnR"], rows["words"]["MnR"])


def test_captions_which_are_asked_are_not_searched():
    rows = measure_sources(captioned(["nothing"] * D), queries(D))
    assert rows["picture"]["R@1"] == rows["fused"]["R@1"] == 100
    assert rows["words"] == {"R@1": 0, "R@5": 0, "R@10": 100, "MdR": D, "MnR": D}


def test_without_tantivy_there_are_no_rows(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tantivy", None)
    assert measure_sources(captioned(["nothing"] * D), queries(D)) == {}
