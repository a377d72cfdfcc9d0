"""Shards that other processes read answer as one index does, and a query reads one generation."""

import threading
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from reelseek import Searcher
from reelseek.indexing import IndexReader
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.remote.publisher import publish_index
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.shards.opening import open_writer
from reelseek.serving.cluster.fan_out import FanOut
from reelseek.serving.cluster.reader import ClusterReader, ShardsUnavailable
from reelseek.serving.cluster.shards import ShardGroup, StaleGeneration
from reelseek.serving.cluster.source import Generation, IndexSource, Location, description
from tests.indexing.shards.collection import (
    GivenEncoder,
    answers,
    answers_of,
    collection,
    make_index,
)
from tests.indexing.shards.test_clusters import kinds, make
from tests.indexing.small_index import queries
from tests.serving.cluster.fakes import Died, group_handle

pytest.importorskip("tantivy")


def opened(location: Location, num_groups: int, *, deadline_seconds: float = 20.0, **options):
    """A reader of an index whose groups are in this process, and their handles."""
    groups = [ShardGroup(location, group=n, num_groups=num_groups) for n in range(num_groups)]
    handles = [group_handle(each) for each in groups]
    source = IndexSource(location, part=description())
    fan_out = FanOut(handles, deadline_seconds=deadline_seconds)
    return ClusterReader(source, fan_out, **options), handles


@contextmanager
def searcher_of(location: Location, num_groups: int, **options):
    reader, handles = opened(location, num_groups, **options)
    with Searcher(reader, encoder=GivenEncoder(), entities=True) as searcher:
        yield searcher, handles


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One index, the same in five shards, and their ids."""
    held, texts = collection(num=60)
    folder = tmp_path_factory.mktemp("made")
    one, five = (make_index(folder / str(n), held, texts, num_shards=n) for n in (1, 5))
    with closing(IndexReader(one)) as reader:
        return one, five, reader.video_ids()


@pytest.mark.parametrize("num_groups", [1, 2, 5])
def test_groups_of_shards_answer_as_one_index_does(made, num_groups):
    one, five, ids = made
    expected = answers(one, ids)
    with searcher_of(Location(str(five)), num_groups) as (searcher, _):
        found = answers_of(searcher, ids)
        assert searcher.search("dog").shards_answered == (5, 5)
    np.testing.assert_equal(found, expected)


def test_an_index_in_one_piece_is_one_shard(made):
    one, _, ids = made
    with searcher_of(Location(str(one)), 1) as (searcher, _):
        assert searcher.search("dog").shards_answered == (1, 1)
        assert searcher.reader.record(ids[3]).public_id == ids[3]
        assert searcher.reader.record("nothing") is None


def test_a_missing_shard_is_said_and_the_others_score_as_before(made):
    _, five, _ = made
    with searcher_of(Location(str(five)), 5, deadline_seconds=2.0) as (searcher, handles):
        visual = {"k": 200, "analyze": False, "sources": ["visual"]}
        before = searcher.search("dog red", **visual)
        words_before = searcher.search("dog red", k=200, analyze=False)
        handles[2].replicas[0].seconds = 600
        results = searcher.search("dog red", **visual)
        assert results.shards_answered == (4, 5)
        assert 0 < len(results) < len(before)
        # By score: where the first of two copies is missing, the other stands for both.
        assert {hit.score for hit in results} <= {hit.score for hit in before}
        mixed = searcher.search("dog red", k=200, analyze=False)
        assert mixed.shards_answered == (4, 5)
        texts = {hit.id: _text_score(hit) for hit in words_before}
        assert all(_text_score(hit) == texts[hit.id] for hit in mixed if hit.id in texts)
        assert any(map(_text_score, mixed))
        handles[2].replicas[0].seconds = 0
        for handle in handles[:2] + handles[3:]:
            handle.replicas[0].seconds = 600
        few = searcher.search("dog red", k=5, analyze=False)
        assert few.shards_answered[0] <= 2


def _text_score(hit):
    return [each.score for each in hit.evidence if each.source == "lexical"]


def test_shards_that_are_gone_between_the_steps_are_said(made, monkeypatch):
    _, five, _ = made
    with searcher_of(Location(str(five)), 5, deadline_seconds=0.5) as (searcher, handles):
        before = searcher.search("dog red", k=200, analyze=False)

        def answer(call, *arguments):
            if call == "read":
                raise Died("with a query in hand")
            return group(call, *arguments)

        group, handles[1].replicas[0].work = handles[1].replicas[0].work, answer
        results = searcher.search("dog red", k=200, analyze=False)
        assert results.shards_answered == (4, 5)
        assert 0 < len(results) < len(before)


def test_rows_are_sent_of_what_is_chosen_alone(made):
    _, five, _ = made
    sent = []
    with closing(opened(Location(str(five)), 5)[0]) as reader:
        call = reader._shards.call

        def counted(name, arguments, *, kind):
            answers = call(name, arguments, kind=kind)
            if kind == "read":
                sent.extend(len(s.videos) for reply in answers.values() for s in reply.value)
            return answers

        reader._shards.call = counted
        found = reader.gather(GatherRequest(queries(1), "video", 6))
    assert len(found.videos) == sum(sent) == 6


@pytest.mark.parametrize("num_groups", [1, 2, 3])
def test_shards_placed_by_cluster_are_asked_where_they_are_near(tmp_path, num_groups):
    videos, kind_of, centres = kinds(120)
    make(tmp_path, videos)
    divide_index(tmp_path, 3, placement="cluster")
    asked = []
    for shards in ("auto", "all"):
        reader, _ = opened(Location(str(tmp_path)), num_groups, shards_asked=shards)
        with closing(reader), closing(IndexReader(tmp_path, shards_asked=shards)) as one:
            call = reader._shards.call

            def counted(name, arguments, *, kind, call=call):
                if kind == "find":
                    asked.append(sum(sum(each[2][1]) for each in arguments.values()))
                return call(name, arguments, kind=kind)

            reader._shards.call = counted
            for kind, centre in enumerate(centres):
                request = GatherRequest(centre[None], "moment", 8)
                found = reader.gather(request)
                assert {kind_of[v.record.key] for v in found.videos.values()} == {kind}
                assert found.videos.keys() == one.gather(request).videos.keys()
    assert asked == [1] * len(centres) + [3] * len(centres)


def test_no_shard_at_all(made):
    with searcher_of(Location(str(made[1])), 5, deadline_seconds=0.1) as (searcher, handles):
        for handle in handles:
            handle.replicas[0].seconds = 600
        with pytest.raises(ShardsUnavailable):
            searcher.search("dog")


def test_a_query_reads_one_generation_and_deletions_at_once(tmp_path):
    held, _ = collection(num=30)
    folder = make_index(tmp_path / "index", held[:20], {}, num_shards=3)
    location = Location(str(folder))
    with searcher_of(location, 3) as (searcher, _):
        reader = searcher.reader
        first = reader.generation
        num_first = len(searcher.search("dog", k=200))
        with open_writer(folder) as writer:
            for video, rows in held[20:]:
                writer.add(video, rows)
            writer.publish()
        with reader.one_generation():
            assert searcher.refresh()
            assert reader.generation == first
            assert len(searcher.search("dog", k=200)) == num_first
        assert reader.generation.number > first.number
        num_second = len(searcher.search("dog", k=200))
        assert num_second > num_first
        assert not searcher.refresh()

        gone = searcher.search("dog", k=1)[0]
        revision = reader.revision
        with open_writer(folder) as writer:
            record = reader.record(gone.id)
            writer.catalogue.exclude([writer.catalogue.by_public_id([record.public_id])[gone.id]])
        assert reader.revision > revision
        assert gone.id not in {hit.id for hit in searcher.search("dog", k=200)}


def test_a_generation_that_is_gone_is_stale(tmp_path):
    held, _ = collection(num=12)
    folder = make_index(tmp_path / "index", held, {}, num_shards=2)
    location = Location(str(folder))
    with searcher_of(location, 2) as (searcher, _):
        searcher.search("dog")
        old = searcher.reader.generation
        with open_writer(folder) as writer:
            writer.add(*held[0])
            writer.publish()
        started_later = ShardGroup(location, group=0, num_groups=2)
        assert started_later.answer("statistics", old, ()).is_stale
        searcher.reader._shards._targets[0].handle = group_handle(started_later)
        with pytest.raises(StaleGeneration):
            searcher.search("a cat")
        assert searcher.refresh()
        assert searcher.search("a cat").shards_answered == (2, 2)


def test_shards_may_be_divided_anew_while_they_are_served(tmp_path):
    held, texts = collection(num=30)
    folder = make_index(tmp_path / "index", held, texts, num_shards=3)
    with searcher_of(Location(str(folder)), 3) as (searcher, _):
        before = searcher.search("dog in the snow", k=9)
        for num_shards in (2, 7):
            divide_index(folder, num_shards)
            assert searcher.refresh()
            again = searcher.search("dog in the snow", k=9)
            assert list(again) == list(before)
            assert again.shards_answered == (num_shards, num_shards)


@contextmanager
def published(index, folder):
    """The URL of an index that a web server of this process publishes."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    publish_index(index, "memory://served", show_progress=False)
    for path in memory.find("/served"):
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (folder / path[1:]).write_bytes(memory.cat_file(path))
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/served"
    finally:
        server.shutdown()
        server.server_close()


def test_groups_of_a_publication_fetch_their_own_shards(made, tmp_path):
    with published(made[1], tmp_path / "web") as url:
        _check_publication(url, made, tmp_path)


def _check_publication(url, made, tmp_path):
    one, _, ids = made
    caches = [tmp_path / f"cache{n}" for n in range(5)]
    groups = [
        ShardGroup(Location(url, str(cache)), group=n, num_groups=5)
        for n, cache in enumerate(caches)
    ]
    for number, cache in enumerate(caches):
        embeddings = {p.parts[-3] for p in cache.rglob("shards/*/embeddings/*")}
        assert len(embeddings) == 1, (number, embeddings)
    handles = [group_handle(each) for each in groups]
    source = IndexSource(Location(url, str(tmp_path / "own")), part=description())
    reader = ClusterReader(source, FanOut(handles, deadline_seconds=20))
    with (
        Searcher(reader, encoder=GivenEncoder()) as searcher,
        Searcher.open(one, encoder=GivenEncoder()) as whole,
    ):
        assert list(searcher.search("dog in the snow")) == list(whole.search("dog in the snow"))
        assert searcher.reader.record(ids[0]).public_id == ids[0]
    assert not list((tmp_path / "own").rglob("embeddings/*"))


def test_generations_name_their_division(made):
    from reelseek.indexing.store.manifest import Manifest

    one, five, _ = (Generation.of(Manifest.read(folder)) for folder in (*made[:2], made[0]))
    assert one.division == "" and five.division
