import numpy as np
import pytest

from reelseek.recommendation.learning.guard import Guard, GuardSettings

SETTINGS = GuardSettings(windows=(200, 400), warm_examples=1000, mature_seconds=0)
HEADS, LIKE = 3, 2


def frozen_after(predicted_likes: np.ndarray, liked: np.ndarray):
    """What the guard says of examples at which nothing but likes changes, one each second."""
    guard = Guard(SETTINGS, wait_seconds=0)
    num = len(liked)
    labels = np.zeros((num, HEADS))
    labels[:, :LIKE] = (np.arange(num) % 2)[:, None]
    labels[:, LIKE] = liked
    predicted = np.full((num, HEADS), 0.5)
    predicted[:, LIKE] = predicted_likes
    for number in range(num):
        one = slice(number, number + 1)
        guard.add([number + 1], [float(number)], predicted=predicted[one], labels=labels[one])
        guard.judge(float(number + 1), number + 1)
    return guard.frozen


@pytest.mark.parametrize("factor", [1.5, 30])
def test_likes_that_nobody_gives_do_not_freeze_a_model(factor):
    predicted = np.concatenate([np.full(2000, 1e-5), np.full(1000, factor * 1e-5)])
    assert frozen_after(predicted, np.zeros(3000)) is None


def test_likes_out_of_nowhere_do():
    liked = np.zeros(3000)
    liked[2000::10] = 1
    assert frozen_after(np.full(3000, 1e-5), liked) is not None
