import numpy as np
import pytest

from reelseek.recommendation.completion.also_searched import (
    PRIOR,
    TEMPERATURE,
    AlsoSearched,
    Following,
    NextQueries,
    build_also_searched,
    followings,
)
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.phrases import Phrases, build_phrases


def unit(*rows):
    array = np.array(rows, float)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_later_queries_of_a_session_count_less():
    assert followings([4, 7, 4, 9], 2.0) == [
        Following(4, 7, 2.0),
        Following(4, 9, 0.5),
        Following(7, 4, 2.0),
        Following(7, 9, 1.0),
        Following(4, 9, 2.0),
    ]
    assert followings([]) == followings([1]) == []


def test_sessions_alone():
    model = NextQueries(3, [Following(0, 1, 3.0), Following(0, 2, 1.0)], None)
    assert model.scores(0).tolist() == [0, 0.75, 0.25]
    assert model.scores(1).tolist() == model.scores(None).tolist() == [0, 0, 0]


def test_both_by_hand():
    embeddings = unit([1, 0], [1, 0.1], [0, 1])
    model = NextQueries(3, [Following(0, 2, 3.0), Following(1, 2, 1.0)], embeddings)
    cosines = embeddings @ embeddings[0]
    own = 3 + np.exp((cosines[1] - 1) / TEMPERATURE)
    near = np.exp((cosines - cosines[1]) / TEMPERATURE)
    near[0] = 0
    expected = PRIOR * near / near.sum()
    expected[2] += own
    assert model.scores(0) == pytest.approx(expected / (own + PRIOR))
    assert model.scores(0).sum() == pytest.approx(1)


def test_a_query_that_nobody_asked_borrows_from_its_neighbours():
    embeddings = unit([1, 0, 0], [0, 1, 0], [0, 0, 1])
    model = NextQueries(3, [Following(0, 1, 5.0)], embeddings)
    scores = model.scores(None, unit([1, 0.01, 0.02])[0])
    assert np.argmax(scores) == 1


def test_what_is_served():
    texts = ["bird", "cat", "dog"]
    tries, arrays = build_phrases(texts, np.ones(3), num_users=np.array([9, 5, 9]))
    phrases = Phrases(tries, arrays)
    ids = [tries["phrases"][text] for text in texts]
    model = NextQueries(3, [Following(ids[0], ids[1], 2), Following(ids[0], ids[2], 1)], None)
    built = build_also_searched(model, 3, allowed=np.ones(3, bool))
    served = AlsoSearched(phrases, built, BlockList())
    assert served.after("bird", 5) == ["cat", "dog"]
    assert served.after("bird", 1) == ["cat"]
    assert served.after("bird", 5, min_users=6) == ["dog"]
    assert served.after("dog", 5) == served.after("unheard", 5) == []
    assert AlsoSearched(phrases, built, BlockList(["cat"])).after("bird", 5) == ["dog"]
    assert AlsoSearched(phrases, {}, BlockList()).after("bird", 5) == []
    blocked = build_also_searched(model, 3, allowed=np.arange(3) != ids[1])
    assert AlsoSearched(phrases, blocked, BlockList()).after("bird", 5) == ["dog"]
    with pytest.raises(ValueError, match="damaged"):
        AlsoSearched(phrases, {"next_ids": built["next_ids"] + 9}, BlockList())
