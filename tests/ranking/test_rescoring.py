import math

import numpy as np
import pytest

from reelseek.ranking.metrics import retrieval_metrics, text_to_video_ranks
from reelseek.ranking.rescoring import QueryBank, dual_softmax, querybank_norm


def order(scores):
    """For each query its items, best first."""
    return np.argsort(-scores, axis=1, kind="stable").tolist()


def slow_dual_softmax(similarity, temperature):
    """By the definition, in plain loops."""
    rows = similarity.tolist()
    return np.array(
        [
            [
                s * math.exp(s / temperature) / sum(math.exp(r[g] / temperature) for r in rows)
                for g, s in enumerate(row)
            ]
            for row in rows
        ]
    )


def slow_querybank_norm(similarity, bank_similarity, beta, top_k):
    """The paper's own scores, in plain loops; right only where nothing ties."""
    bank = bank_similarity.tolist()
    active = set()
    for row in bank:
        active |= set(sorted(range(len(row)), key=lambda g: -row[g])[:top_k])
    sums = [sum(math.exp(beta * score) for score in column) for column in zip(*bank, strict=True)]
    scores = []
    for row in similarity.tolist():
        if row.index(max(row)) in active:
            row = [math.exp(beta * s) / total for s, total in zip(row, sums, strict=True)]
        scores.append(row)
    return np.array(scores)


def cosines(rng, shape):
    return rng.uniform(-1, 1, size=shape)


def with_hub(rng, *, num_items):
    """Captions each nearest to their own video, but for video 0, which is nearer to them all, and
    captions of other videos, which find video 0 near as well."""
    similarity = 0.2 + 0.02 * rng.standard_normal((num_items, num_items))
    similarity[np.diag_indices(num_items)] = 0.4
    bank = 0.2 + 0.02 * rng.standard_normal((5 * num_items, num_items))
    similarity[:, 0] = 0.45
    bank[:, 0] = 0.45
    similarity[0, 0] = 0.65
    return similarity, bank


def test_dual_softmax_worked_out_by_hand():
    # At this temperature the weights of a column are in the ratio 2**(10 s).
    similarity = np.array([[0.3, 0.2], [0.2, 0.1]])
    scores = dual_softmax(similarity, temperature=0.1 / math.log(2))
    assert scores == pytest.approx(np.array([[0.3 * 2 / 3, 0.2 * 2 / 3], [0.2 / 3, 0.1 / 3]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 30.0])
def test_dual_softmax_equals_plain_loops(dtype, temperature):
    similarity = cosines(np.random.default_rng(0), (7, 5)).astype(dtype)
    scores = dual_softmax(similarity, temperature=temperature)
    assert scores.shape == (7, 5)
    assert scores == pytest.approx(slow_dual_softmax(similarity, temperature), rel=1e-6)


def test_dual_softmax_takes_whole_numbers_and_leaves_its_input_alone():
    similarity = np.array([[3, 1], [1, 2]])
    before = similarity.copy()
    scores = dual_softmax(similarity, temperature=1)
    assert scores == pytest.approx(slow_dual_softmax(similarity, 1))
    assert np.array_equal(similarity, before)


def test_dual_softmax_leaves_a_single_query_alone():
    similarity = cosines(np.random.default_rng(1), (1, 9))
    assert np.array_equal(dual_softmax(similarity), similarity)


def test_dual_softmax_follows_its_queries_and_gallery_where_they_are_moved():
    rng = np.random.default_rng(2)
    similarity = cosines(rng, (6, 8))
    rows, columns = rng.permutation(6), rng.permutation(8)
    moved = dual_softmax(similarity[rows][:, columns], temperature=0.2)
    assert moved == pytest.approx(dual_softmax(similarity, temperature=0.2)[rows][:, columns])


def test_dual_softmax_scales_with_the_unit_of_similarity():
    similarity = cosines(np.random.default_rng(3), (6, 8))
    logits = dual_softmax(100 * similarity, temperature=1)
    assert logits == pytest.approx(100 * dual_softmax(similarity, temperature=0.01))


def test_dual_softmax_at_the_ends_of_temperature():
    similarity = cosines(np.random.default_rng(4), (6, 8))
    assert dual_softmax(similarity, temperature=1e9) == pytest.approx(similarity / 6)
    is_best_query = similarity == similarity.max(axis=0)
    assert np.array_equal(
        dual_softmax(similarity, temperature=1e-9), np.where(is_best_query, similarity, 0)
    )


def test_dual_softmax_of_large_logits_stays_finite():
    scores = dual_softmax(np.array([[1e5, -1e5], [9e4, 1e5]], dtype=np.float32), temperature=1)
    assert scores.tolist() == [[1e5, 0.0], [0.0, 1e5]]


def test_dual_softmax_of_positive_scores_tells_videos_nothing_unless_transposed():
    similarity, _ = with_hub(np.random.default_rng(5), num_items=20)
    similarity = similarity.T  # a caption that is near to every video
    own = np.arange(20)
    raw = retrieval_metrics(similarity, own)["v2t"]
    assert retrieval_metrics(dual_softmax(similarity), own)["v2t"] == raw
    assert raw["R@1"] == 5.0
    assert retrieval_metrics(dual_softmax(similarity.T).T, own)["v2t"]["R@1"] == 100.0


@pytest.mark.parametrize("seed", range(5))
def test_a_hub_is_held_back(seed):
    similarity, bank = with_hub(np.random.default_rng(seed), num_items=20)
    own = np.arange(20)
    assert text_to_video_ranks(similarity, own).tolist() == [1] + [2] * 19
    assert text_to_video_ranks(dual_softmax(similarity), own).tolist() == [1] * 20
    assert text_to_video_ranks(querybank_norm(similarity, bank), own).tolist() == [1] * 20


def test_querybank_worked_out_by_hand():
    # With beta = log 2, exp(beta s) is 2**s: the bank's sums are 8 + 8, 2 + 2 and 1 + 1.
    bank = QueryBank.fit(np.array([[3, 1, 0], [3, 1, 0]]), inverse_temperature=math.log(2))
    assert bank.penalty == pytest.approx(np.array([4, 2, 1]))
    assert bank.active.tolist() == [True, False, False]
    # The first query finds the hub, item 0, which gives way; the second does not, and stays.
    scores = bank.apply(np.array([[5, 4.5, 2], [1, 3, 2.5]]))
    assert scores == pytest.approx(np.array([[1, 2.5, 1], [1, 3, 2.5]]))


@pytest.mark.parametrize("top_k", [1, 2, 12])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_querybank_orders_as_the_paper(seed, dtype, top_k):
    rng = np.random.default_rng(seed)
    similarity, bank = cosines(rng, (30, 12)).astype(dtype), cosines(rng, (3, 12)).astype(dtype)
    slow = slow_querybank_norm(similarity, bank, 20, top_k)
    scores = querybank_norm(similarity, bank, top_k=top_k)
    assert scores.shape == (30, 12)
    assert order(scores) == order(slow)
    is_raw = (scores == similarity).all(axis=1)
    assert np.array_equal(scores[is_raw], slow[is_raw])
    assert np.exp(20 * scores[~is_raw]) == pytest.approx(slow[~is_raw], rel=1e-6)
    assert is_raw.any() == (top_k < 12)


def test_querybank_answers_one_query_as_it_answers_many():
    rng = np.random.default_rng(6)
    bank = QueryBank.fit(cosines(rng, (4, 9)))
    similarity = cosines(rng, (20, 9))
    one_by_one = [bank.apply(similarity[i : i + 1])[0] for i in range(20)]
    assert np.array_equal(bank.apply(similarity), one_by_one)


def test_querybank_of_a_shortlist_that_holds_the_best():
    rng = np.random.default_rng(7)
    bank = QueryBank.fit(cosines(rng, (4, 9)))
    similarity = cosines(rng, (1, 9))
    ids = np.argsort(-similarity[0])[:4]
    shortlist = QueryBank(bank.penalty[ids], bank.active[ids])
    assert np.array_equal(shortlist.apply(similarity[:, ids]), bank.apply(similarity)[:, ids])


def test_querybank_orders_alike_with_its_bank_doubled_or_an_item_shifted():
    rng = np.random.default_rng(8)
    similarity, bank = cosines(rng, (20, 6)), cosines(rng, (50, 6))  # all items are active
    scores = querybank_norm(similarity, bank)
    doubled = querybank_norm(similarity, np.concatenate([bank, bank]))
    assert doubled == pytest.approx(scores - math.log(2) / 20)
    shift = np.array([0.3, 0, 0, -0.2, 0, 0])
    shifted = querybank_norm(similarity + shift, bank + shift, top_k=6)
    assert shifted == pytest.approx(querybank_norm(similarity, bank, top_k=6))


def test_ties_count_as_retrieved_wherever_they_stand():
    assert QueryBank.fit(np.array([[0.5, 0.1, 0.5, 0.2]])).active.tolist() == [1, 0, 1, 0]
    bank = QueryBank(np.array([0.3, 0.0, 0.0]), np.array([True, False, False]))
    assert bank.apply(np.array([[0.5, 0.5, 0.1]])) == pytest.approx(np.array([[0.2, 0.5, 0.1]]))
    bank = QueryBank(bank.penalty[::-1], bank.active[::-1])
    assert bank.apply(np.array([[0.1, 0.5, 0.5]])) == pytest.approx(np.array([[0.1, 0.5, 0.2]]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [1e-3, 1e3, 1e6])
def test_querybank_stays_finite(dtype, beta):
    rng = np.random.default_rng(9)
    similarity, bank = cosines(rng, (20, 6)).astype(dtype), cosines(rng, (50, 6)).astype(dtype)
    fitted = QueryBank.fit(100 * bank, inverse_temperature=beta)
    # Log-sum-exp lies between the maximum and log(num_bank) / beta above it.
    best = 100.0 * bank.max(axis=0)
    assert (fitted.penalty >= best - 1e-4).all()
    assert (fitted.penalty <= best + math.log(50) / beta + 1e-4).all()
    assert np.isfinite(fitted.apply(100 * similarity)).all()


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0), (2, 2, 2)])
def test_what_is_no_matrix_is_refused(shape):
    scores = np.zeros(shape)
    with pytest.raises(ValueError, match=r"^similarity is \(.*\): must be"):
        dual_softmax(scores)
    with pytest.raises(ValueError, match=r"^similarity is \("):
        querybank_norm(scores, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"^bank_similarity is \(.*\): must be"):
        QueryBank.fit(scores)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    bad, good = np.array([[0.1, value]]), np.array([[0.1, 0.2]])
    with pytest.raises(ValueError, match=r"^similarity holds values that are not finite"):
        dual_softmax(bad)
    with pytest.raises(ValueError, match=r"^similarity holds values that are not finite"):
        querybank_norm(bad, good)
    with pytest.raises(ValueError, match=r"^bank_similarity holds values that are not finite"):
        querybank_norm(good, bad)


def test_a_bank_of_another_gallery_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 3\) and the bank was fitted to 2 gallery items"):
        querybank_norm(np.zeros((4, 3)), np.zeros((5, 2)))


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
def test_temperatures_are_above_zero(value):
    with pytest.raises(ValueError, match=r"^temperature=.*must be finite and above 0"):
        dual_softmax(np.zeros((2, 2)), temperature=value)
    with pytest.raises(ValueError, match=r"^inverse_temperature=.*must be finite and above 0"):
        QueryBank.fit(np.zeros((2, 2)), inverse_temperature=value)


@pytest.mark.parametrize("top_k", [0, -1, 3])
def test_top_k_lies_within_the_gallery(top_k):
    with pytest.raises(ValueError, match=rf"top_k={top_k}: must be 1 to 2"):
        QueryBank.fit(np.zeros((4, 2)), top_k=top_k)
