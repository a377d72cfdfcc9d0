"""An index in shards answers as one index over the same videos does, to the last score."""

import logging
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.shards.placement import shard_of
from tests.indexing.shards.collection import answers, collection, make_index

pytest.importorskip("tantivy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An ordinary index, what it was made of, and what it says."""
    videos, texts = collection(num=60)
    folder = make_index(tmp_path_factory.mktemp("whole"), videos, texts, num_shards=1)
    with closing(IndexReader(folder)) as reader:
        ids = reader.video_ids()
    return videos, texts, ids, answers(folder, ids)


@pytest.mark.parametrize("num_shards", [2, 3, 7])
def test_every_kind_of_question_has_the_same_answer(tmp_path, whole, num_shards, caplog):
    caplog.set_level(logging.ERROR)
    videos, texts, ids, expected = whole
    folder = make_index(tmp_path / "index", videos, texts, num_shards=num_shards)
    assert sorted(path.name for path in (folder / "shards").iterdir()) == [
        f"{number:04d}" for number in range(num_shards)
    ]
    found = answers(folder, ids)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_equal(one, other)


def test_questions_have_many_answers(whole):
    """Else the comparison would say little."""
    *_, expected = whole
    lists = [each[0] for each in expected if isinstance(each, tuple)]
    assert sum(map(bool, lists)) > 40
    assert any("lexical" in {e.source for e in hit.evidence} for hits in lists for hit in hits)


def test_videos_are_spread_evenly():
    counts = np.bincount([shard_of(f"video{number}", 7) for number in range(7000)], minlength=7)
    assert counts.min() > 900


def test_more_shards_than_videos(tmp_path, whole):
    videos, *_ = whole
    some = [video for video in videos if len(video[1])][:2]
    one = make_index(tmp_path / "one", some, {}, num_shards=1)
    many = make_index(tmp_path / "many", some, {}, num_shards=5)
    with closing(IndexReader(one)) as reader:
        ids = reader.video_ids() * 9
    np.testing.assert_equal(answers(many, ids), answers(one, ids))
