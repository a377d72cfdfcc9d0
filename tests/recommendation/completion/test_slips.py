import numpy as np
import pytest

from reelseek.recommendation.completion.phrases import Phrases, build_phrases
from reelseek.recommendation.completion.slips import corrected

TEXTS = sorted(["weather berlin", "weather forecast", "whale song", "cat videos", "谍战电视剧战争"])


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    scores = np.arange(len(TEXTS), 0, -1.0)
    return Phrases(*build_phrases(TEXTS, scores, num_users=np.full(len(TEXTS), 9)))


def fixed(phrases, prefix, k=5, min_users=0):
    letters = "".join(sorted({letter for text in TEXTS for letter in text}))
    found = corrected(phrases, prefix, k, alphabet=letters, min_users=min_users)
    return [each.text for each in found]


@pytest.mark.parametrize(
    "typed", ["wether", "weathre f", "weahter", "wheather", "weatger", "weaather"]
)
def test_one_slip(phrases, typed):
    assert "weather forecast" in fixed(phrases, typed)


def test_a_query_that_is_complete_but_for_a_slip(phrases):
    assert fixed(phrases, "cat vidos") == ["cat videos"]
    assert fixed(phrases, "谍战电影剧战争") == ["谍战电视剧战争"]


@pytest.mark.parametrize(
    "typed",
    [
        "wet",  # too short
        "eather",  # the first letter is right
        "wetter ber",  # two slips
        "weatherx",  # no letters after the slip agree
        "x" * 100,
    ],
)
def test_no_more_than_that(phrases, typed):
    assert fixed(phrases, typed) == []


def test_privacy_and_k(phrases):
    assert fixed(phrases, "wether", min_users=10) == []
    assert fixed(phrases, "wether", k=1) == ["weather berlin"]
