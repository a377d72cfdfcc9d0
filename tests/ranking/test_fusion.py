import numpy as np
import pytest

from reelseek.ranking import Fused, fuse_reciprocal_ranks, score_cutoff


def test_scores_worked_out_by_hand():
    fused = fuse_reciprocal_ranks({"video": ["a", "b", "c"], "lexical": ["c", "a"]}, k=60)
    assert fused == [
        Fused("a", 1 / 61 + 1 / 62, {"video": 1, "lexical": 2}),
        Fused("c", 1 / 63 + 1 / 61, {"video": 3, "lexical": 1}),
        Fused("b", 1 / 62, {"video": 2}),
    ]


def test_weights_count_a_source_more_or_leave_it_out():
    rankings = {"video": ["a", "b"], "lexical": ["b", "c"]}
    assert [f.item for f in fuse_reciprocal_ranks(rankings, weights={"lexical": 3})] == [*"bca"]
    without = fuse_reciprocal_ranks(rankings, weights={"lexical": 0})
    assert [(f.item, f.ranks) for f in without] == [("a", {"video": 1}), ("b", {"video": 2})]


def test_item_that_comes_again_counts_once_and_takes_no_rank():
    (_, second, third) = fuse_reciprocal_ranks({"moment": ["a", "a", "b", "a", "c"]})
    assert (second.item, second.ranks, third.ranks) == ("b", {"moment": 2}, {"moment": 3})


def test_ties_go_by_best_rank_then_by_the_order_of_sources():
    fused = fuse_reciprocal_ranks({"x": ["a", "b"], "y": ["b", "a"], "z": ["c"]}, k=0)
    assert [f.item for f in fused] == ["a", "b", "c"]
    assert [f.item for f in fuse_reciprocal_ranks({"x": ["q"], "y": ["p"]})] == ["q", "p"]


def test_items_of_one_score_share_the_best_of_their_ranks():
    rankings = {"video": ["a", "b", "c"], "lexical": ["c", "b", "a", "d"]}
    fused = fuse_reciprocal_ranks(rankings, scores={"lexical": [2.5, 2.5, 2.5, 1.0]})
    assert [f.item for f in fused] == ["a", "b", "c", "d"]
    assert [f.ranks["lexical"] for f in fused] == [1, 1, 1, 4]
    again = fuse_reciprocal_ranks({"m": ["a", "a", "b", "c"]}, scores={"m": [3, 1, 1, 1]})
    assert [f.ranks["m"] for f in again] == [1, 2, 2]


def test_sources_that_agree_keep_their_order():
    order = np.random.default_rng(0).permutation(200).tolist()
    assert [f.item for f in fuse_reciprocal_ranks({"x": order, "y": order})] == order


def test_nothing_found_is_nothing_fused():
    assert fuse_reciprocal_ranks({}) == fuse_reciprocal_ranks({"video": []}) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": -1}, "k=-1: must be finite and at least 0"),
        ({"k": float("nan")}, "k=nan"),
        ({"weights": {"other": 1}}, "weights names 'other', which is no source: must be of 'x'"),
        ({"scores": {"other": [1.0]}}, r"scores\['other'\]: must be as many as"),
        ({"scores": {"x": [1.0, 0.5]}}, r"scores\['x'\]: must be as many as"),
        ({"weights": {"x": -0.5}}, r"weights\['x'\]=-0.5: must be finite and at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fuse_reciprocal_ranks({"x": [1]}, **options)


def test_what_scores_nearly_as_the_best_leads():
    assert score_cutoff(["a", "b", "c", "d"], [10.0, 7.0, 6.9, 0.0]) == ["a", "b"]
    assert score_cutoff([1, 2, 3], [0.5, 0.2, 0.0], fraction=0) == [1, 2]
    assert (
        score_cutoff([1, 2], [0.0, 0.0]) == score_cutoff([1], [-1.0]) == score_cutoff([], []) == []
    )


@pytest.mark.parametrize(
    ("scores", "fraction", "message"),
    [
        ([1.0], 0.5, "1 scores for 2 items: must be as many, in falling order"),
        ([1.0, 2.0], 0.5, "in falling order"),
        ([2.0, 1.0], 1.5, "fraction=1.5: must be 0 to 1"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, fraction, message):
    with pytest.raises(ValueError, match=message):
        score_cutoff(["a", "b"], scores, fraction=fraction)
