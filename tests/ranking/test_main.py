"""`python -m ranking`, and searches with what it trained, on an index of given embeddings."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

import reelseek.ranking.__main__
from reelseek.configs.schema import RankerConfig
from reelseek.indexing import IndexReader
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.store.videos import FileSignature
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking import FEATURE_NAMES, LearnedRanker, searcher
from reelseek.ranking.__main__ import _by_query
from reelseek.ranking.learning.candidates import describe_candidates
from reelseek.ranking.learning.judgements import Judgement
from reelseek.ranking.request import Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.scoring import Scorer
from tests.indexing.searching import search
from tests.indexing.small_index import (
    SETTINGS,
    D,
    ids_by_key,
    make_index,
    random_video,
    unit,
    video_of,
)

pytest.importorskip("lightgbm")
pytest.importorskip("tantivy")

NUM_VIDEOS = 60


def query_embedding(query):
    """The embedding of a query, which is a number."""
    return unit(np.random.default_rng(1000 + int(query)).normal(size=D))


class GivenSearcher:
    """Stands in for a `Searcher`, without a model."""

    def __init__(self, folder):
        self.reader = IndexReader(folder)
        self.retriever = Retriever(self.reader)

    def request(self, query):
        return Request(query_embedding(query), words=("clip", f"word{int(query) % 7}"))

    def close(self):
        self.reader.close()


@pytest.fixture
def index(tmp_path):
    rng = np.random.default_rng(0)
    make_index(
        tmp_path / "index",
        [
            random_video(
                rng, f"{i}.mp4", num_segments=1 + i % 6, metadata={"title": f"clip word{i % 7}"}
            )
            for i in range(NUM_VIDEOS)
        ],
    )
    return tmp_path / "index"


@pytest.fixture
def reader(index):
    reader = IndexReader(index)
    yield reader
    reader.close()


def train(index, lines, monkeypatch, capsys, **options):
    """What the command line prints, and the folder of the ranker."""
    monkeypatch.setattr(searcher.Searcher, "open", lambda *_, **__: GivenSearcher(index))
    path = index.parent / "judgements.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    values = {"test_fraction": 0.25, "seed": 0, "device": "cpu", **options}
    output = index.parent / "ranker"
    config = RankerConfig(judgements=str(path), index=str(index), output=str(output), **values)
    reelseek.ranking.__main__.main(config)
    printed = capsys.readouterr()
    return json.loads(printed.out.splitlines()[-1]), printed.err, output


def judgements(num_queries=80, each=8):
    """Longer videos are liked better, whatever they show: something that searches do not know."""
    rng = np.random.default_rng(2)
    for query in range(num_queries):
        for video in rng.choice(NUM_VIDEOS, each, replace=False):
            line = {"query": str(query), "video": f"{video}.mp4", "relevance": int(video % 6) // 2}
            yield json.dumps(line)


def test_ranker_learns_what_is_liked(index, monkeypatch, capsys):
    summary, errors, output = train(index, judgements(), monkeypatch, capsys)
    assert (summary["queries"], summary["tested"], summary["missing"]) == (60, 20, 0)
    assert summary["ndcg@10"] > 0.95 > summary["ndcg@10_without"] + 0.1
    assert errors == ""
    reader = IndexReader(index)
    ranker = LearnedRanker.load(output)
    found = Retriever(reader, scorer=Scorer(ranker=ranker)).search(
        Request(query_embedding(500)), k=10, level="video"
    )
    lengths = [int(hit.key.removesuffix(".mp4")) % 6 for hit in found]
    assert min(lengths) >= 4  # of 0 to 5
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert all(hit.evidence[-1].source == "learned" for hit in found)
    reader.close()


def test_judged_videos_that_are_not_there_are_counted(index, monkeypatch, capsys):
    lines = [*judgements(), json.dumps({"query": "1", "video": "none.mp4", "relevance": 4})]
    summary, errors, _ = train(index, lines, monkeypatch, capsys)
    assert summary["missing"] == 1
    assert errors == "1 judgements are of videos that the index lacks\n"
    lines = [json.dumps({"query": "1", "video": "none.mp4", "relevance": 4})]
    with pytest.raises(ValueError, match="none of its videos is in index"):
        train(index, lines, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ([], "no judgement"),
        (["{}"], "line 1"),
        (['{"query": "1", "video": "1.mp4", "relevance": 1}', "no JSON"], "line 2"),
        (['{"query": "1", "video": "1.mp4", "relevance": 9}'], "line 1"),
    ],
)
def test_broken_file_is_refused_with_its_line(index, monkeypatch, capsys, lines, part):
    with pytest.raises(ValueError, match=part):
        train(index, lines, monkeypatch, capsys)
    assert not (index.parent / "ranker").exists()


def test_one_grade_for_all_is_no_order_to_learn(index, monkeypatch, capsys):
    lines = [
        json.dumps({"query": str(query), "video": f"{video}.mp4", "relevance": 1})
        for query in range(20)
        for video in range(5)
    ]
    with pytest.raises(ValueError, match="no order to learn"):
        train(index, lines, monkeypatch, capsys)


def test_what_is_known_of_candidates(reader):
    ids = ids_by_key(reader)
    asked = [ids[f"{i}.mp4"] for i in (3, 10, 25)]
    query = query_embedding(7)
    retriever = Retriever(reader)
    request = Request(query, words=("word3",))
    features = retriever.describe(request, asked)
    column = dict(zip(FEATURE_NAMES, features.T, strict=True))
    videos = retriever.videos(asked)
    expected = [float(videos[i].embeddings[0] @ query) for i in asked]
    np.testing.assert_allclose(column["video_similarity"], expected, rtol=1e-5)
    assert sorted(column["video_rank"]) == [1, 2, 3]
    best = [float((videos[i].embeddings[1:] @ query).max()) for i in asked]
    np.testing.assert_allclose(column["moment_similarity"], best, rtol=1e-5)
    np.testing.assert_allclose(np.exp(column["log_segments"]), [4, 5, 2], rtol=1e-5)
    np.testing.assert_allclose(np.exp(column["log_duration"]), [8, 10, 4], rtol=1e-5)
    # word3 is in the titles of 3 and 10, not of 25.
    assert np.isnan(column["lexical"]).tolist() == [False, False, True]
    assert (column["lexical_title"][:2] == column["lexical"][:2]).all()
    with_gone = retriever.describe(request, ["gone", *asked])
    np.testing.assert_array_equal(with_gone[1:], features)
    assert np.isnan(with_gone[0]).all()
    alone = retriever.describe(replace(request, words=()), asked)
    assert np.isnan(alone[:, FEATURE_NAMES.index("lexical")]).all()


def test_age_and_names_of_candidates(tmp_path):
    metadata = {
        "day.mp4": {"date": "2026-11-15", "title": "Ada Lovelace in Paris"},
        "month.mp4": {"date": "2026-10", "tags": ["paris"]},
        "hour.mp4": {"date": "2026-11-24T12:00:00+02:00"},
        "never.mp4": {"date": "soon"},
        "copied.mp4": {},  # on the first of the month, in UTC
    }
    segments = unit(np.ones((1, D)))
    first_of_month = int(datetime(2026, 11, 1, tzinfo=timezone.utc).timestamp()) * 10**9
    with IndexWriter(tmp_path, SETTINGS) as writer:
        for key, said in metadata.items():
            video, embeddings = video_of(key, segments, metadata=said)
            signature = FileSignature(10, first_of_month, f"sha of {key}")
            writer.add(replace(video, signature=signature), embeddings)
        writer.publish()
    reader = IndexReader(tmp_path)
    videos = Retriever(reader).videos(reader.video_ids())
    features = describe_candidates(
        [videos[ids_by_key(reader)[key]] for key in metadata],
        query_embedding=segments[0],
        names=("Paris", "Ada Lovelace"),
        now=datetime(2026, 11, 25),
    )
    reader.close()
    column = dict(zip(FEATURE_NAMES, features.T, strict=True))
    np.testing.assert_equal(column["freshness_days"].tolist(), [10, 55, 0.5, np.nan, 24])
    assert column["entity_share"].tolist() == [1, 0.5, 0, 0, 0]


def test_videos_of_an_index_by_key(reader):
    ids = reader.ids_by_name()
    assert ids.keys() > {f"{i}.mp4" for i in range(NUM_VIDEOS)}
    hit = search(reader, query_embedding(1), k=1)[0]
    assert ids[hit.key] == ids[hit.id] == [hit.id]


def test_key_of_several_roots_is_judged_by_the_id_of_a_hit(tmp_path):
    folder = tmp_path / "index"
    with IndexWriter(folder, SETTINGS) as writer:
        for number, root in enumerate(("/card1", "/card2")):
            video, embeddings = video_of("one.mp4", unit(np.ones((1, D))))
            signature = FileSignature(10, 20, f"sha of {number}")
            path = f"{root}/one.mp4"
            writer.add(replace(video, root=str(number), path=path, signature=signature), embeddings)
        writer.publish()
    judgement = Judgement("red", "one.mp4", 4)
    with closing(IndexReader(folder)) as reader:
        ids = {hit.video: hit.id for hit in search(reader, unit(np.ones(D)), k=2)}
        with pytest.raises(ValueError, match=r"one.mp4 is in several roots"):
            _by_query([judgement], reader.ids_by_name())
        public_id = ids["/card2/one.mp4"]
        judged = _by_query([replace(judgement, video=public_id)], reader.ids_by_name())
        assert judged == ({"red": {public_id: 4}}, 0)


def test_every_feature_is_known_of_some_candidate_of_a_search(tmp_path):
    rng = np.random.default_rng(4)
    said = [
        {"captions": ["a dog"]},
        {"title": "dog"},
        {"tags": ["dog"]},
        {"date": "2026-11-15", "title": "Paris"},
        {},  # read
        {},  # heard
    ]
    with IndexWriter(tmp_path, SETTINGS) as writer:
        for number, metadata in enumerate(said):
            key = f"{number}.mp4"
            writer.add(*video_of(key, rng.normal(size=(2, D)), metadata=metadata))
        writer.add(*video_of("my dog.mp4", rng.normal(size=(2, D))))
        writer.save()
        for key, source in (("4.mp4", "ocr"), ("5.mp4", "speech")):
            video_id = writer.catalogue.records()[key].id
            text = TimedText(source, 0.0, 1.0, "the dog")
            writer.catalogue.store_texts(video_id, source, [text], engine="given")
        writer.publish(sentences=lambda: unit(rng.normal(size=(40, D))))
    reader = IndexReader(tmp_path)
    retriever = Retriever(reader)
    request = Request(unit(rng.normal(size=D)), words=("dog",), names=("Paris",))
    found = retriever.candidates(request)
    features = retriever.describe(request, found)
    hits = retriever.search(request, k=10, level="video")
    reader.close()
    assert sorted(found) == sorted(hit.id for hit in hits)
    assert [n for n, e in zip(FEATURE_NAMES, features.T, strict=True) if np.isnan(e).all()] == []
    confidence = dict(zip(found, features[:, FEATURE_NAMES.index("confidence")], strict=True))
    for hit in hits:
        assert confidence[hit.id] == pytest.approx(hit.confidence, abs=1e-6)
