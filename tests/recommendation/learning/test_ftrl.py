import math

import numpy as np
import pytest

from reelseek.recommendation.learning.ftrl import Rates, gradient_step, weights_of


def test_two_steps_by_hand():
    """Algorithm 1 of McMahan et al. 2013, with alpha .5, beta 1, l1 .1, l2 2."""
    rates = Rates(alpha=0.5, beta=1.0, l1=0.1, l2=2.0)
    z, n = np.zeros(1), np.zeros(1)
    assert weights_of(z, n, rates).tolist() == [0.0]
    z, n = gradient_step(
        z, n, gradient=np.array([0.6]), squared=np.array([0.36]), weights=np.zeros(1), rates=rates
    )
    first = -(0.6 - 0.1) / ((1 + 0.6) / 0.5 + 2)
    weights = weights_of(z, n, rates)
    assert weights[0] == pytest.approx(first)

    z, n = gradient_step(
        z, n, gradient=np.array([-0.8]), squared=np.array([0.64]), weights=weights, rates=rates
    )
    sigma = (math.sqrt(0.36 + 0.64) - math.sqrt(0.36)) / 0.5
    assert z[0] == pytest.approx(0.6 - 0.8 - sigma * first)
    assert n[0] == pytest.approx(1.0)
    second = -np.sign(z[0]) * max(abs(z[0]) - 0.1, 0) / ((1 + 1) / 0.5 + 2)
    assert weights_of(z, n, rates)[0] == pytest.approx(second)


def test_a_gradient_below_l1_leaves_the_weight_at_zero():
    assert weights_of(np.array([0.09]), np.array([4.0]), Rates(alpha=1, l1=0.1)).tolist() == [0.0]
