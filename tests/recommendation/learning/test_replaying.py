import dataclasses

import numpy as np
import pytest

from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.replaying import ReplaySettings, replay
from tests.recommendation.learning.synthetic import log


def run(impressions, outcomes, first=300, **settings):
    from_ms = int(impressions.time_ms[first])
    return replay(
        OnlineModel(), impressions, outcomes, settings=ReplaySettings(from_ms, **settings)
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("delay_ms", [0, 3_600_000])
def test_no_outcome_changes_a_prediction_up_to_its_event(seed, delay_ms):
    """Whatever outcomes later events get, earlier predictions stay the same to the last bit."""
    impressions, outcomes = log(500, seed=seed)
    rng = np.random.default_rng(seed)
    cut_ms = impressions.time_ms[430]
    is_later = impressions.time_ms >= cut_ms
    labels, watched = outcomes.labels.copy(), outcomes.watched.copy()
    labels[is_later] = rng.permutation(1 - labels[is_later])
    watched[is_later] = rng.random(is_later.sum())
    changed = dataclasses.replace(outcomes, labels=labels, watched=watched)

    before = run(impressions, outcomes, delay_ms=delay_ms)
    after = run(impressions, changed, delay_ms=delay_ms)
    known_before = impressions.time_ms[before.index] <= cut_ms
    np.testing.assert_array_equal(before.online[known_before], after.online[known_before])
    assert (before.online[~known_before] != after.online[~known_before]).any()

    # A session's score has seen nothing since the session began.
    starts = np.array(
        [impressions.time_ms[before.index][before.session == s].min() for s in before.session]
    )
    began = starts <= cut_ms
    np.testing.assert_array_equal(before.at_session_start[began], after.at_session_start[began])
    np.testing.assert_array_equal(before.frozen, after.frozen)
    np.testing.assert_array_equal(before.frozen_at_session_start, after.frozen_at_session_start)


def test_the_same_log_gives_the_same_bits():
    impressions, outcomes = log(500)
    first, second = run(impressions, outcomes), run(impressions, outcomes)
    np.testing.assert_array_equal(first.online, second.online)
    np.testing.assert_array_equal(first.at_session_start, second.at_session_start)


def test_each_event_is_predicted_as_if_the_log_ended_there():
    impressions, outcomes = log(400)
    whole = run(impressions, outcomes)
    for last in (320, 377):
        end = int(np.searchsorted(impressions.time_ms, impressions.time_ms[last], side="right"))
        part = run(impressions.take(slice(0, end)), outcomes.take(slice(0, end)))
        np.testing.assert_array_equal(part.online, whole.online[: end - 300])


def test_a_long_delay_is_the_frozen_model_of_an_empty_one():
    impressions, outcomes = log(400)
    done = run(impressions, outcomes, delay_ms=10**12)
    np.testing.assert_allclose(done.online, done.frozen, rtol=1e-12)


def test_every_measured_event_has_all_predictions():
    impressions, outcomes = log(500)
    done = run(impressions, outcomes)
    for predictions in (done.online, done.at_session_start, done.frozen):
        assert predictions.shape == (len(done.index), 3)
        assert np.isfinite(predictions).all()


def test_a_log_out_of_order_is_refused():
    impressions, outcomes = log(50)
    turned = impressions.take(slice(None, None, -1))
    with pytest.raises(ValueError, match="in order of time"):
        replay(OnlineModel(), turned, outcomes, settings=ReplaySettings(0))
