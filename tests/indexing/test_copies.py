"""Videos of one content are one hit, and cost no other video its place."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.lexical import documents
from reelseek.indexing.store.videos import FileSignature
from reelseek.ranking.command import table
from reelseek.ranking.request import LEXICAL, Request
from reelseek.ranking.retrieval import Retriever
from tests.indexing.searching import search
from tests.indexing.small_index import make_index, queries, random_video, unit

needs_words = pytest.mark.skipif(not documents.is_installed(), reason="needs tantivy")


def with_copies(video, rows, count, **changes):
    """The video and so many copies of it in other folders."""
    named = [
        replace(video, key=f"{i}/{video.key}", path=f"/copies/{i}/{video.key}", **changes)
        for i in range(count)
    ]
    return [(video, rows), *((copy, rows) for copy in named)]


def random_videos(num, *, seed=0):
    rng = np.random.default_rng(seed)
    return [random_video(rng, f"{i}.mp4") for i in range(num)]


@pytest.fixture
def videos():
    return random_videos(12)


@pytest.fixture
def copied(tmp_path, videos):
    """Twelve videos: the nearest to the first query has seventy copies, another one five."""
    query = queries(1)[0]
    nearest = max(videos, key=lambda video: float(video[1][0] @ query))
    others = [video for video in videos if video is not nearest]
    make_index(
        tmp_path / "index",
        [*with_copies(*nearest, 70), *with_copies(*others[0], 5), *others[1:]],
    )
    return tmp_path / "index"


@pytest.mark.parametrize("level", ["video", "moment"])
@pytest.mark.parametrize("k", [1, 3, 11, 100])
def test_index_with_copies_answers_as_one_without(tmp_path, videos, copied, level, k):
    make_index(tmp_path / "plain", videos)
    with closing(IndexReader(copied)) as reader, closing(IndexReader(tmp_path / "plain")) as plain:
        for query in queries(4):
            found = search(reader, query, k=k, level=level)
            expected = search(plain, query, k=k, level=level)
            assert [hit.rank for hit in found] == list(range(1, len(expected) + 1))
            contents = [(hit.key.rpartition("/")[2], hit.start_seconds) for hit in found]
            assert contents == [(hit.key, hit.start_seconds) for hit in expected]
            np.testing.assert_allclose(
                [hit.score for hit in found], [hit.score for hit in expected], atol=1e-6
            )


@pytest.mark.parametrize("level", ["video", "moment"])
def test_hit_names_its_copies(copied, level):
    with closing(IndexReader(copied)) as reader:
        hits = search(reader, queries(1)[0], k=100, level=level)
        records = reader.shards[0].catalogue.videos(range(1, 100)).values()
        every = {record.path: record for record in records}
    assert {len(hit.also_as) for hit in hits} == {70, 5, 0}
    for hit in hits:
        for copy in hit.also_as:
            assert (copy.id, copy.key) == (every[copy.video].public_id, every[copy.video].key)
            assert every[copy.video].signature == every[hit.video].signature
        assert hit.id not in {copy.id for copy in hit.also_as}


def test_table_names_the_first_copies(copied):
    with closing(IndexReader(copied)) as reader:
        hits = search(reader, queries(1)[0], k=2)
    lines = table(hits).splitlines()
    assert lines[2].strip() == (
        f"also as {', '.join(copy.video for copy in hits[0].also_as[:3])} and 67 more"
    )


def test_filter_that_leaves_one_copy_finds_it(copied):
    with closing(IndexReader(copied)) as reader:
        (hit,) = search(reader, queries(1)[0], k=5, where="path like '/copies/69/%'")
    assert hit.video.startswith("/copies/69/")
    assert len(hit.also_as) == 70


@needs_words
@pytest.mark.parametrize("level", ["video", "moment"])
def test_copy_that_has_the_title_and_the_picture_are_one_hit(tmp_path, videos, level):
    video, rows = videos[0]
    titled = replace(video, key="titled.mp4", metadata={"title": "zebra crossing"})
    make_index(tmp_path / "index", [*videos, (titled, rows)])
    with closing(IndexReader(tmp_path / "index")) as reader:
        request = Request(rows[0], words=["zebra", "crossing"])
        hits = Retriever(reader).search(request, k=5, level=level)
        sources = {each.source for each in hits[0].evidence}
    assert hits[0].key == "titled.mp4"
    assert {"visual", "lexical"} <= sources
    if level == "video":
        assert [hit.key for hit in hits].count("0.mp4") == 0
    assert [copy.key for copy in hits[0].also_as] == ["0.mp4"]


@needs_words
def test_many_copies_of_a_text_hide_no_other(tmp_path, videos):
    video, rows = videos[0]
    video = replace(video, metadata={"title": "zebra crossing a wide road"})
    last, last_rows = videos[1]
    last = replace(last, metadata={"title": "zebra"}, duration_seconds=last.duration_seconds)
    make_index(tmp_path / "index", [*with_copies(video, rows, 60), (last, last_rows)])
    with closing(IndexReader(tmp_path / "index")) as reader:
        request = Request(rows[0], words=["zebra", "crossing"], sources=(LEXICAL,))
        found = Retriever(reader).search(request, k=2, level="video")
    assert len(found) == 2
    assert found[1].key == last.key or found[0].key == last.key


def test_events_find_a_video_and_its_copies_once(tmp_path):
    first, second = unit(np.eye(8)[:2])
    rng = np.random.default_rng(3)
    video, rows = random_video(rng, "a.mp4", num_segments=2)
    rows[1:3] = [first, second]
    make_index(tmp_path / "index", [*with_copies(video, rows, 4), *random_videos(5, seed=9)])
    with closing(IndexReader(tmp_path / "index")) as reader:
        hits = Retriever(reader).search(
            Request(first, steps=np.stack([first, second])), k=10, level="video"
        )
    assert hits[0].key.endswith("a.mp4")
    assert sum(hit.key.endswith("a.mp4") for hit in hits) == 1


def test_order_of_videos_counts_copies_as_what_they_are_of(copied, videos):
    query = queries(1)[0]
    with closing(IndexReader(copied)) as reader:
        records = reader.shards[0].catalogue.videos(range(1, 100)).values()
        copy = next(r for r in records if r.key.startswith("69/"))
        others = [r for r in records if "/" not in r.key]
        nearest = copy.signature.content_sha256
        ids = [r.public_id for r in others if r.signature.content_sha256 != nearest]
        found = Retriever(reader).order(Request(query), [*ids, copy.public_id])
        assert found[0] == copy.public_id


def test_same_stamp_of_failed_videos_makes_no_copies(tmp_path, videos):
    broken = replace(videos[0][0], key="broken.mp4", outcome="failed", spans=np.empty((0, 2)))
    broken = replace(broken, frame_times=np.empty(0), signature=FileSignature(1, 2, "sha"))
    video, rows = videos[1]
    video = replace(video, signature=FileSignature(1, 2, "sha"))
    make_index(tmp_path / "index", [(broken, np.empty((0, 8), np.float32)), (video, rows)])
    with closing(IndexReader(tmp_path / "index")) as reader:
        (hit,) = search(reader, rows[0], k=5)
    assert hit.also_as == ()
