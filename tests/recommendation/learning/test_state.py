import numpy as np
import pytest

from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.prior import Prior
from reelseek.recommendation.learning.state import (
    DamagedState,
    decode,
    encode,
    fingerprint,
    restore,
    take_state,
)
from tests.recommendation.learning.learner import digest_of, new_model
from tests.recommendation.learning.synthetic import log


def learn(model, impressions, outcomes, part):
    scored = model.predict(impressions.take(part))
    model.learn(scored, impressions.take(part), outcomes=outcomes.take(part))


def test_changes_lead_to_the_same_bits_as_the_whole():
    impressions, outcomes = log(1200, num_users=200, num_videos=300)
    model, follower = new_model(), new_model()
    for begin in range(0, 1200, 20):
        learn(model, impressions, outcomes, slice(begin, begin + 20))
        if begin % 60 == 0:
            restore(follower, decode(encode(take_state(model, only_changed=True))))
    restore(follower, decode(encode(take_state(model, only_changed=True))))
    assert model.table.num_evicted > 0
    assert model.table.num_expired > 0
    assert model.table.num_candidates > 0
    assert model.tastes.table.num_evicted > 0
    assert digest_of(follower) == digest_of(model)


def test_a_restored_model_goes_on_with_the_same_bits():
    impressions, outcomes = log(600, num_users=200, num_videos=300)
    first, second = new_model(), new_model()
    for begin in range(0, 300, 20):
        learn(first, impressions, outcomes, slice(begin, begin + 20))
    restore(second, decode(encode(take_state(first))))
    for begin in range(300, 600, 20):
        for model in (first, second):
            learn(model, impressions, outcomes, slice(begin, begin + 20))
    np.testing.assert_array_equal(
        first.predict(impressions).probabilities, second.predict(impressions).probabilities
    )
    assert digest_of(first) == digest_of(second)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:20],
        lambda b: b"",
        lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:],
        lambda b: b"X" + b[1:],
    ],
)
def test_damaged_bytes_are_refused(damage):
    with pytest.raises(DamagedState):
        decode(damage(encode(take_state(OnlineModel()))))


def test_models_that_differ_have_other_fingerprints():
    assert fingerprint(OnlineModel()) == fingerprint(OnlineModel())
    assert fingerprint(OnlineModel()) != fingerprint(new_model())
    assert fingerprint(OnlineModel()) != fingerprint(OnlineModel(prior=Prior(tag={"a": (1, 2)})))
