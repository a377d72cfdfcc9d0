"""Gathering in steps: the best of all shards are chosen, and only their rows are read."""

import pickle
from collections import Counter
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from reelseek import Searcher
from reelseek.indexing import IndexReader
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.lexical.found import FoundTexts
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.shards.gathering import (
    InTurn,
    ShardFindings,
    choose,
    choose_estimates,
    gather,
    rescored,
)
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.shards.query import ReaderQuery
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.vectors.level import Neighbours
from tests.indexing.shards.collection import collection, make_index
from tests.indexing.small_index import SETTINGS, D, queries, random_video, unit, video_of


def request(embeddings, *, num, level="video", num_texts=0, **more):
    return GatherRequest(np.asarray(embeddings), level, num, num_texts=num_texts, **more)


def neighbours(videos, scores, *, is_estimate=False, num_candidates=0):
    return Neighbours(
        np.array(videos, np.int64),
        np.array(scores, np.float32),
        np.stack([np.zeros(len(videos), np.int32), np.array(videos, np.int32)], axis=1),
        np.full(len(videos), is_estimate),
        num_candidates,
    )


def texts(videos, scores, orders):
    own = FoundTexts.none()
    return replace(
        own,
        videos=np.array(videos, np.int64),
        levels=np.zeros(len(videos), np.int8),
        addresses=np.zeros((len(videos), 2), np.int64),
        scores=np.array(scores, np.float64),
        orders=np.array(orders, np.int64),
        spans=np.full((len(videos), 2), np.nan),
        lengths=np.ones(len(videos), np.int64),
    )


# Choosing, with known answers


def test_the_best_of_all_shards_are_chosen_whatever_shard_they_are_in():
    found = [
        ShardFindings([neighbours([1, 2, 1, 3], [0.9, 0.8, 0.7, 0.1])]),
        ShardFindings([neighbours([], [])]),
        ShardFindings([neighbours([1, 5], [0.85, 0.2])]),
    ]
    chosen = choose(found, request(np.eye(1, D), num=3))
    assert [each.videos[0].tolist() for each in chosen] == [[1, 2], [], [1]]
    assert [each.is_empty for each in chosen] == [False, True, False]
    chosen = choose(found, request(np.eye(1, D), num=9))
    assert [each.videos[0].tolist() for each in chosen] == [[1, 2, 3], [], [1, 5]]


def test_scores_that_rounding_may_swap_are_all_chosen():
    found = [
        ShardFindings([neighbours([1, 2], [0.9, 0.5])]),
        ShardFindings([neighbours([1, 2], [0.5 + 1e-6, 0.4])]),
    ]
    chosen = choose(found, request(np.eye(1, D), num=2))
    assert [each.videos[0].tolist() for each in chosen] == [[1, 2], [1]]


def test_texts_that_score_alike_are_chosen_by_public_id():
    found = [
        ShardFindings([], texts([1, 2], [2.0, 1.0], [9, 3])),
        ShardFindings([], texts([1, 2], [1.0 + 1e-15, 1.0], [5, 1])),
    ]
    chosen = choose(found, request(np.empty((0, D)), num=0, num_texts=3))
    assert [each.texts.videos.tolist() for each in chosen] == [[1, 2], [2]]


def test_estimates_are_compared_exactly_as_far_as_one_index_would():
    found = [
        ShardFindings([neighbours([1, 1, 2], [0.9, 0.8, 0.3], is_estimate=True, num_candidates=3)]),
        ShardFindings([neighbours([7, 8], [0.7, 0.6], is_estimate=True, num_candidates=2)]),
    ]
    asked = request(np.eye(1, D), num=1)
    assert [each.tolist() for each in choose_estimates(found, asked)[0]] == [[0, 1], [0]]
    # Three videos take more vectors than that.
    assert [each.tolist() for each in choose_estimates(found, replace(asked, num_videos=3))[0]] == [
        [0, 1],
        [0, 1],
    ]
    exact = rescored(found[0].neighbours[0], np.array([1, 0]), np.array([0.95, 0.2], np.float32))
    assert exact.videos.tolist() == [1, 1] and not exact.is_estimate.any()
    assert exact.scores.tolist() == pytest.approx([0.2, 0.95])


# Over real shards


@pytest.fixture
def reads(monkeypatch):
    """How many embeddings, and how many entries, were read."""
    counts = Counter()
    read, videos = EmbeddingParts.read, Catalogue.videos

    def counted_read(self, locations):
        counts["embeddings"] += len(locations)
        return read(self, locations)

    def counted_videos(self, ids):
        counts["entries"] += len(ids)
        return videos(self, ids)

    monkeypatch.setattr(EmbeddingParts, "read", counted_read)
    monkeypatch.setattr(Catalogue, "videos", counted_videos)
    return counts


@pytest.mark.parametrize("level", ["video", "moment"])
def test_shards_read_no_more_rows_than_one_index(tmp_path, reads, level):
    pytest.importorskip("tantivy")
    made, said = collection(num=150)
    counts = []
    for num_shards in (1, 6):
        folder = make_index(tmp_path / str(num_shards), made, said, num_shards=num_shards)
        with closing(IndexReader(folder)) as reader:
            terms = reader.term_statistics(["dog"])
            asked = request(queries(2), num=8, level=level, stems=["dog"], num_texts=8, terms=terms)
            reads.clear()
            found = reader.gather(asked)
            counts.append((dict(reads), sorted(found.videos), len(found.texts)))
    assert counts[0] == counts[1]
    assert counts[0][2] == 8


@pytest.mark.usefixtures("without_words")
def test_compressed_shards_compare_as_many_vectors_as_one_index(tmp_path, reads):
    """And find the nearest of all."""
    rng = np.random.default_rng(4)
    options = FaissOptions(kind="IVF4,SQ8")
    with open_writer(tmp_path, SETTINGS, num_shards=5) as writer:
        held = [random_video(rng, f"{number}.mp4", num_segments=1) for number in range(600)]
        for video, rows in held:
            writer.add(replace(video, root="r"), rows)
        writer.publish(options)
    query = queries(1)[0]
    scores = np.array([float(rows[0] @ query) for _, rows in held])
    best = {held[number][0].key for number in np.argsort(-scores)[:10]}
    with closing(IndexReader(tmp_path)) as reader:
        levels = [own.levels["video"].main for own in reader.manifest.sharding.shards.values()]
        assert {level.kind for level in levels} == {"IVF4,SQ8"}
        limit = 10 * max(level.tuning.get("candidates", 1) for level in levels)
        reads.clear()
        found = reader.gather(request(query[None], num=10))
    assert len(best & {video.record.key for video in found.videos.values()}) >= 9
    # Each of the ten has a segment too.
    assert reads["embeddings"] <= limit + 2 * 10 and reads["entries"] == 10


@pytest.mark.usefixtures("without_words")
def test_steps_go_to_another_process_and_back(tmp_path):
    made, _ = collection(num=40)
    folder = make_index(tmp_path, made, {}, num_shards=3)

    def sent(value):
        return pickle.loads(pickle.dumps(value))

    with closing(IndexReader(folder)) as reader:
        asked = sent(request(queries(2), num=6, level="moment", where="year >= 2001"))
        found = [sent(ReaderQuery(shard, asked).find()) for shard in reader.shards]
        parts = [
            sent(ReaderQuery(shard, sent(asked)).read(sent(choice)))
            for shard, choice in zip(reader.shards, choose(found, asked), strict=True)
        ]
        expected = reader.gather(asked)
    assert {id for part in parts for id in part.videos} == set(expected.videos)
    for part in parts:
        for id, video in part.videos.items():
            np.testing.assert_array_equal(video.embeddings, expected.videos[id].embeddings)
            np.testing.assert_equal(vars(video.record), vars(expected.videos[id].record))


@pytest.mark.usefixtures("without_words")
def test_what_is_deleted_between_the_steps_is_not_found_again(tmp_path):
    made, _ = collection(num=30)
    folder = make_index(tmp_path, made, {}, num_shards=3)
    asked = request(queries(1), num=5)
    with closing(IndexReader(folder)) as reader:
        expected = reader.gather(replace(asked, num_videos=6))
        before = [ReaderQuery(shard, asked) for shard in reader.shards]
        choices = choose([query.find() for query in before], asked)
        nearest = expected.nearest[0]
        scores = {id: expected.videos[id].scores(asked.embeddings[0])[0] for id in nearest}
        gone = max(scores, key=scores.get)
        with open_writer(folder) as writer:
            writer.delete_videos(writer.catalogue.by_public_id([gone]).values())
        read = [query.read(choice) for query, choice in zip(before, choices, strict=True)]
        assert sum(part is None for part in read) == 1
        found = gather(InTurn(before, asked), asked, is_near=[True] * 3)
    assert gone not in found.videos
    assert set(found.videos) == set(nearest) - {gone}


@pytest.mark.usefixtures("without_words")
def test_images_and_video_files_find_the_same_in_shards(tmp_path, colour_model, write_video):
    settings = replace(SETTINGS, fingerprint=colour_model.fingerprint, embedding_dim=3)
    rng = np.random.default_rng(6)
    with open_writer(tmp_path / "index", settings) as writer:
        for number in range(40):
            colours = unit(rng.random(size=(int(rng.integers(1, 5)), 3)))
            video, rows = video_of(f"{number}.mp4", colours, root="r")
            writer.add(video, rows)
        writer.publish(sentences=lambda: unit(rng.random(size=(40, 3))))
    Image.new("RGB", (50, 30), (200, 90, 20)).save(tmp_path / "query.png")
    film = write_video("query.mp4", [(10, 200, 40)] * 5 + [(90, 20, 220)] * 5)
    asked = [
        tmp_path / "query.png",
        Image.new("RGB", (50, 30), (20, 120, 180)),
        film,
        [tmp_path / "query.png", film],
        [film, "red"],
    ]

    def answers():
        with Searcher(IndexReader(tmp_path / "index"), colour_model, device="cpu") as searcher:
            return [
                list(searcher.search(query, k=7, level=level))
                for query in asked
                for level in ("video", "moment")
            ]

    expected = answers()
    assert all(len(hits) == 7 for hits in expected)
    for num_shards in (2, 5):
        divide_index(tmp_path / "index", num_shards)
        assert answers() == expected
