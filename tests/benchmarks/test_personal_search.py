import itertools

import numpy as np
import pytest

from benchmarks.personal_search import (
    Page,
    author_of,
    clicks,
    difference,
    expected_reciprocal_rank,
    gain,
    kinds_of,
    relevance,
)
from benchmarks.user_simulator import SimulatorSettings, UserSimulator


def test_reciprocal_rank_of_the_first_click_by_all_outcomes():
    probabilities = np.array([0.2, 0.0, 0.7, 0.4])
    expected = 0.0
    for clicked in itertools.product([False, True], repeat=4):
        if any(clicked):
            chance = np.prod(np.where(clicked, probabilities, 1 - probabilities))
            expected += chance / (1 + clicked.index(True))
    assert expected_reciprocal_rank(probabilities) == pytest.approx(expected, abs=1e-12)
    assert expected_reciprocal_rank(np.array([0.0, 1.0, 1.0])) == 0.5
    assert expected_reciprocal_rank(np.zeros(0)) == 0


def test_kind_is_that_of_the_question_that_stands_out():
    scores = np.array([[0.5, 0.5, 0.9], [0.1, 0.2, 0.1], [0.3, 0.3, 0.3]])
    assert kinds_of(scores)[1:].tolist() == [1, 0]


def test_the_author_depends_on_the_name_alone():
    authors = [author_of(f"{number}.mp4") for number in range(500)]
    assert authors == [author_of(f"{number}.mp4") for number in range(500)]
    assert set(authors) == set(range(24))


def test_gain_is_of_the_sums():
    before, after = np.array([1.0, 3.0]), np.array([2.0, 3.0])
    assert gain(before, after)["percent"] == 25.0
    found = gain(np.ones(50), np.full(50, 1.2))
    assert found == {"percent": 20.0, "interval": [20.0, 20.0]}


def test_difference_is_in_points():
    found = difference(np.full(9, 0.5), np.full(9, 0.48))
    assert found == {"without": 50.0, "with": 48.0, "points": -2.0, "interval": [-2.0, -2.0]}


def test_relevance_is_lost_where_the_weight_reaches_far_enough():
    page = Page(np.array([1, 0]), np.array([0.30, 0.28]), unit=0.05)  # .4 apart
    personal = np.array([[-1.0, 1.0], [1.0, -1.0]])  # of two users
    found = relevance([(page, 1)], personal, weights=[0.0, 0.1, 0.3])
    assert found[:, :, 0].tolist() == [[1, 1], [1, 1], [1, 0]]
    assert (found[:, :, 1] == 1).all()


def test_users_whose_tastes_are_known_find_clicks_earlier():
    settings = SimulatorSettings(
        num_users=20, num_videos=30, num_topics=1, new_videos_per_day=0, drift_per_day=0
    )
    simulator = UserSimulator(settings)
    personal = np.tanh(simulator.tastes[:, simulator.style])
    page = Page(np.arange(30), np.linspace(0.3, 0.29, 30), unit=0.1)
    every, several = clicks({0: [page]}, simulator, personal, weights=[0.0, 1.0], seconds=300.0)
    without, by_taste = every.by_weight
    assert 250 < every.visits.sum() < 350
    assert without.sum() * 1.15 < by_taste.sum() <= every.best.sum()
    np.testing.assert_array_equal(several.by_weight, every.by_weight)
    assert every.figures(1)["percent"] > 15
