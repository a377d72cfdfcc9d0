import numpy as np
import pytest

from reelseek.recommendation.learning.figures import bootstrap, calibration, summary, weighted_auc
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.replaying import ReplaySettings, replay
from reelseek.recommendation.learning.sessions import auc, session_auc
from tests.recommendation.learning.synthetic import log


@pytest.mark.parametrize("seed", range(5))
def test_a_weight_counts_as_that_many_events(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(2, size=50), rng.integers(9, size=50) / 9
    weights = rng.integers(4, size=50)
    repeated = np.repeat(np.arange(50), weights)
    expected = auc(labels[repeated], scores[repeated])
    assert weighted_auc(labels, scores)(weights.astype(float)) == pytest.approx(expected)


def test_calibration_by_hand():
    labels, probabilities = np.array([0, 1, 0, 1.0]), np.array([0.1, 0.8, 0.4, 0.5])
    found = calibration(labels, probabilities)
    assert found["ratio"] == 0.9
    assert found["error"] == pytest.approx((0.1 + 0.2 + 0.4 + 0.5) / 4)  # one event a bin


def test_figures_are_those_of_the_predictions():
    impressions, outcomes = log(800)
    from_ms = int(impressions.time_ms[400])
    done = replay(OnlineModel(), impressions, outcomes, settings=ReplaySettings(from_ms))
    labels = outcomes.labels[done.index, 0]
    odd = impressions.user[done.index] % 2 == 1
    figures = summary(done, labels, head=0, slices={"odd": odd, "none": odd & ~odd})
    assert figures["AUC"] == round(auc(labels, done.online[:, 0]), 4)
    inside = session_auc(labels, done.at_session_start[:, 0], done.session)
    assert figures["session_GAUC"] == round(inside.mean, 4)
    assert figures["frozen"]["AUC"] == round(auc(labels, done.frozen[:, 0]), 4)
    low, high = figures["intervals"]["AUC"]
    assert low < figures["AUC"] < high
    assert figures["slices"]["odd"]["num_events"] == odd.sum()
    assert figures["slices"]["none"]["AUC"] is None


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda drawn: np.array([(values * drawn).sum() / drawn.sum()]), 400)[:, 0]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
