"""What a shard gathers: the nearest videos and best texts, each embedding read once."""

from collections import Counter
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.request import Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.scoring import Scorer
from reelseek.ranking.token_matching.matching import TokenMatchingHead, TokenMatchingWeights
from tests.indexing.small_index import SETTINGS, D, queries, random_index, random_video, unit


@pytest.fixture
def rows_read(monkeypatch):
    """How often each row was read from disk."""
    counts = Counter()
    read = EmbeddingParts.read

    def count_and_read(self, locations):
        counts.update(map(tuple, locations.tolist()))
        return read(self, locations)

    monkeypatch.setattr(EmbeddingParts, "read", count_and_read)
    return counts


@pytest.mark.parametrize("kind", ["flat", "IVF8,SQ8"])
def test_each_embedding_is_read_once_a_query(tmp_path, rows_read, kind):
    pytest.importorskip("tantivy")
    rng = np.random.default_rng(0)
    with IndexWriter(tmp_path, SETTINGS) as writer:
        for number in range(300):
            title = {"title": f"dog {number % 5}"} if number % 3 else {}
            writer.add(*random_video(rng, f"{number}.mp4", metadata=title))
        writer.publish(FaissOptions(kind=kind), sentences=lambda: unit(rng.normal(size=(40, D))))
    head = TokenMatchingHead(*(rng.normal(size=s).astype("f4") for s in ((2, D), (2,), (2,))))
    scorer = Scorer(token_matching=TokenMatchingWeights(head, head))
    first, second = queries(2)
    requests = [
        Request(first),
        Request(first, words=["dog"], tokens=unit(rng.normal(size=(2, D)))),
        Request(first, words=["dog"], excluded=second[None], excluded_words=["cat"]),
        Request(first, steps=np.stack([first, second])),
    ]
    with closing(IndexReader(tmp_path)) as reader:
        retriever = Retriever(reader, scorer=scorer)
        retriever.warm_up()  # reads the collection's sample
        for request in requests:
            for level in ("video", "moment"):
                rows_read.clear()
                assert len(retriever.search(request, k=5, level=level)) == 5
                assert set(rows_read.values()) == {1}


@pytest.mark.parametrize("level", ["video", "moment"])
def test_nearest_videos_and_those_asked_for_come_with_all_their_segments(tmp_path, level):
    oracle = random_index(tmp_path, 40)
    query = queries(1)[0]
    compared = {
        key: rows[:1] if level == "video" else rows[1 : 1 + len(video.spans)]
        for key, (video, rows) in oracle.held.items()
        if video.outcome == "ok"
    }
    score = {key: float((rows @ query).max()) for key, rows in compared.items()}
    best = sorted(score, key=lambda key: -score[key])
    with closing(IndexReader(tmp_path)) as reader:
        last = reader.ids_by_name()[best[-1]]
        found = reader.gather(GatherRequest(query[None], level, 7, ids=last))
    (nearest,) = found.nearest
    assert {found.videos[id].record.key for id in nearest} == set(best[:7])
    assert {video.record.key for video in found.videos.values()} == {*best[:7], best[-1]}
    for video in found.videos.values():
        given, rows = oracle.held[video.record.key]
        np.testing.assert_array_equal(video.spans, given.spans)
        np.testing.assert_array_equal(video.embeddings, rows[: 1 + len(given.spans)])


def test_a_score_does_not_depend_on_the_rows_beside_it(tmp_path):
    random_index(tmp_path, 60)
    query = queries(1)[0]
    with closing(IndexReader(tmp_path)) as reader:
        for num in (1, 5, 60):
            for video in reader.gather(GatherRequest(query[None], "video", num)).videos.values():
                alone = [video.embeddings[n : n + 1] for n in range(len(video.embeddings))]
                expected = [float(np.einsum("nd,d->n", row, query)[0]) for row in alone]
                assert video.scores(query).tolist() == expected
