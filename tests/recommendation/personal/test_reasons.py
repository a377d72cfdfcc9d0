import numpy as np

from reelseek.recommendation.learning.examples import VideoFacts
from reelseek.recommendation.personal.reasons import personal_reasons
from reelseek.recommendation.personal.scorer import PersonalScores

ANN = VideoFacts("Ann", "cats", 60_000.0)


def reasons(logits, chosen, video=ANN):
    (found,) = personal_reasons(PersonalScores(np.array([logits]), np.array([chosen])), [video])
    return found


def test_the_strongest_comes_first():
    expected = ("you often watch “cats”", "you often watch Ann")
    assert reasons([0.2, 0.9, 0.0, 0.1], [5.0, 5.0, 5.0, 2.0]) == expected
    assert reasons([0.0, 0.0, 0.3, 0.4], [0.0, 0.0, 9.0, 8.0]) == (
        "it looks like what you watch",
        "you often watch videos of about this length",
    )


def test_what_speaks_against_it_or_is_rare_is_not_said():
    assert reasons([-0.5, 0.01, 0.5, 0.1], [9.0, 9.0, 1.0, 9.0]) == ()
    assert personal_reasons(PersonalScores.nothing(2), [ANN, ANN]) == [(), ()]


def test_long_names_are_cut():
    (said,) = reasons([1.0, 0, 0, 0], [9.0, 0, 0, 0], VideoFacts("A" * 500))
    assert said == f"you often watch {'A' * 59}…"
