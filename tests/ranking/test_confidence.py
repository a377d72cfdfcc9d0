import numpy as np
import pytest

from reelseek.ranking.confidence import (
    DEFAULT_CALIBRATION,
    FEATURE_NAMES,
    SUGGESTED_MIN_CONFIDENCE,
    Background,
)
from reelseek.text import everyday_queries


def unit(random, *shape):
    rows = random.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_everyday_queries_are_short_and_different():
    queries = everyday_queries()
    assert 300 <= len(queries) == len(set(queries))
    assert all(query == query.strip() and 1 <= len(query.split()) <= 6 for query in queries)


def test_features_worked_out_in_plain_loops(random):
    queries, items, query = unit(random, 12, 8), unit(random, 30, 8), unit(random, 8)
    found = Background.measure(queries, items).features(query, items[:5])
    scores = [[float(q @ item) for item in items] for q in queries]
    mean, spread = np.mean(scores), np.std(scores)
    near = [
        np.mean(sorted(float(q @ p) for m, p in enumerate(queries) if m != n)[-3:])
        for n, q in enumerate(queries)
    ]
    for n, item in enumerate(items[:5]):
        score = float(query @ item)
        fourth = sorted(row[n] for row in scores)[-4]
        expected = [
            (score - mean) / spread,
            (score - fourth) / spread,
            (np.mean(sorted(float(q @ query) for q in queries)[-3:]) - np.mean(near))
            / np.std(near),
        ]
        np.testing.assert_allclose(found[n], expected)
    assert found.shape == (5, len(FEATURE_NAMES))


def test_item_that_attracts_every_query_is_less_sure(random):
    queries = unit(random, 50, 16)
    hub = queries.mean(axis=0)
    hub /= np.linalg.norm(hub)
    items = np.concatenate([unit(random, 100, 16), hub[None]])
    background = Background.measure(queries, items)
    query = hub + unit(random, 16)
    query /= np.linalg.norm(query)
    other = query - 0.1 * hub
    other *= (query @ hub) / (query @ other)  # scores as the hub does
    of_hub, of_other = background.features(query, np.stack([hub, other]))
    assert of_hub[0] == pytest.approx(of_other[0])
    assert of_hub[2] == of_other[2]
    near = np.stack([hub, other]) @ queries.T
    assert (of_hub[1] < of_other[1]) == (np.sort(near[0])[-4] > np.sort(near[1])[-4])


def test_background_that_does_not_fit_is_refused(random):
    with pytest.raises(ValueError, match=r"must be \(B, D\) and \(N, D\)"):
        Background.measure(np.ones((9, 3)), np.ones((9, 4)))
    with pytest.raises(ValueError, match="4 background queries and 9 items: must be at least 5"):
        Background.measure(np.ones((4, 3)), np.ones((9, 3)))
    background = Background.measure(unit(random, 9, 3), unit(random, 9, 3))
    with pytest.raises(ValueError, match=r"must be \(D,\) and \(n, D\)"):
        background.features(np.ones(4), np.ones((2, 3)))


def test_queries_that_all_score_alike_give_finite_features():
    same = np.tile([1.0, 0.0], (6, 1))
    background = Background.measure(same, same)
    assert np.isfinite(background.features(np.array([0.0, 1.0]), same)).all()


def test_default_is_surer_of_higher_scores_and_of_typical_queries():
    start = np.array([[2.5, 0.0, 0.0]])
    for position in range(3):
        more = start.copy()
        more[0, position] += 1
        assert DEFAULT_CALIBRATION.probability(more) > DEFAULT_CALIBRATION.probability(start)
    assert 0 < SUGGESTED_MIN_CONFIDENCE < 1
    with pytest.raises(ValueError, match=r"features is \(1, 2\): must be \(n, 3\)"):
        DEFAULT_CALIBRATION.probability(np.ones((1, 2)))


def test_probability_of_a_hit_does_not_depend_on_the_hits_beside_it(random):
    features = random.normal(size=(200, len(FEATURE_NAMES)))
    alone = [float(DEFAULT_CALIBRATION.probability(row[None])[0]) for row in features]
    assert DEFAULT_CALIBRATION.probability(features).tolist() == alone
