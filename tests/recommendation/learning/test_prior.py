import numpy as np
import pytest

from reelseek.recommendation.learning.impressions import History
from reelseek.recommendation.learning.prior import Prior, fit_prior


def history(rows):
    user, video, is_long = zip(*rows, strict=True)
    return History(np.array(user), np.array(video), np.array(is_long, bool))


def test_effects_of_one_round_agree_with_those_of_sums(monkeypatch):
    monkeypatch.setattr("reelseek.recommendation.learning.prior._NUM_ROUNDS", 1)
    rows = [(1, 7, 1), (2, 7, 1), (2, 8, 0), (3, 9, 0)]
    prior = fit_prior(history(rows), {7: 70, 8: 70, 9: 90}, tags={7: "a", 8: "a", 9: "b"})
    mean, scale = 0.5, 4.0
    tag = {"a": 0.5 / (3 + 50), "b": -0.5 / (1 + 50)}
    author = {70: (0.5 + 20 * tag["a"]) / (3 + 20), 90: (-0.5 + 20 * tag["b"]) / (1 + 20)}
    video = {
        7: (1.0 + 10 * author[70]) / 12,
        8: (-0.5 + 10 * author[70]) / 11,
        9: (-0.5 + 10 * author[90]) / 11,
    }
    for each, value in video.items():
        assert prior.video[each] == (pytest.approx(value * scale), {7: 2, 8: 1, 9: 1}[each])
    user_2 = ((1 - mean - video[7]) + (0 - mean - video[8])) / (2 + 5)
    assert prior.user[2] == (pytest.approx(user_2 * scale), 2)


def test_an_unknown_video_has_the_effect_of_its_author_or_tag():
    prior = Prior(video={1: (0.5, 9.0)}, author={10: (0.3, 20.0)}, tag={"a": (0.1, 50.0)})
    assert prior.of_video(1, 10, tag="a") == (0.5, 9.0)
    assert prior.of_video(2, 10, tag="a") == (0.3, 0.0)
    assert prior.of_video(2, 11, tag="a") == (0.1, 0.0)
    assert prior.of_video(2, 11, tag="b") == (0.0, 0.0)


def test_no_history_gives_no_effects():
    none = np.zeros(0, np.int64)
    assert fit_prior(History(none, none, none.astype(bool)), {}, tags={}) == Prior()


def test_videos_without_an_author_are_fitted_too():
    prior = fit_prior(history([(1, 7, 1), (2, 8, 0)]), {}, tags={})
    assert prior.video[7][0] > 0 > prior.video[8][0]
    assert not prior.author
