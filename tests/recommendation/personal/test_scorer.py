import numpy as np
import pytest

from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.impressions import Impressions
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.personal.scorer import ASPECTS, PersonalScorer
from tests.recommendation.personal.learned import (
    NUM_AUTHORS,
    NUM_VIDEOS,
    SETTINGS,
    Events,
    facts_of,
    learn,
    video_of,
)

LOG = Events(600)
VIDEOS = [f"v{number}" for number in range(NUM_VIDEOS)]
FACTS = [facts_of(video) for video in VIDEOS]


@pytest.fixture
def model(tmp_path) -> OnlineModel:
    return learn(LOG, tmp_path).model


def logits(model: OnlineModel, user: str) -> np.ndarray:
    """`(n, heads)`, by the model alone."""

    def ids(values):
        column = np.empty(len(values), object)
        column[:] = values
        return column

    num = len(VIDEOS)
    impressions = Impressions(
        user=ids([user] * num),
        video=ids(VIDEOS),
        time_ms=np.full(num, round(1000 * LOG.now_seconds)),
        tab=ids(["search"] * num),
        author=ids([each.author for each in FACTS]),
        tag=ids([each.tag for each in FACTS]),
        duration_ms=np.array([each.duration_ms for each in FACTS]),
        upload_day=np.full(num, np.nan),
        position=np.zeros(num, np.int64),
        query=ids([""] * num),
    )
    probabilities = model.predict(impressions).probabilities
    return np.log(probabilities / (1 - probabilities))


def score(model: OnlineModel, user: str, facts=None):
    now_ms = 1000.0 * round(LOG.now_seconds)
    facts = FACTS if facts is None else facts
    return PersonalScorer(model).score(user, facts, now_ms=now_ms)


@pytest.mark.parametrize("aspect", ["author", "tag", "duration"])
def test_it_is_what_the_model_loses_when_it_forgets_that_of_the_user(model, aspect):
    found = score(model, "u3").logits[:, ASPECTS.index(aspect)]
    before = logits(model, "u3")
    (number,) = [n for n, each in enumerate(model.namespaces) if each.columns == ("user", aspect)]
    keys = [key for key in model.table.keys_of(range(model.table.num_used)) if key is not None]
    model.table.remove([key for key in keys if key[0] == number and key[1] == "u3"])
    lost = before - logits(model, "u3")
    np.testing.assert_allclose(found, lost[:, :2].mean(axis=1), atol=1e-9)
    assert np.abs(found).max() > 0.01


def test_so_is_what_the_taste_adds(model):
    found = score(model, "u3").logits[:, ASPECTS.index("content")]
    before = logits(model, "u3")
    model.tastes.forget(lambda user: user == "u3")
    lost = before - logits(model, "u3")
    np.testing.assert_allclose(found, lost[:, :2].mean(axis=1), atol=1e-9)
    alike = found.reshape(-1, NUM_AUTHORS)  # videos of an author look the same
    assert (alike.argmax(axis=1) == 3).all()
    assert alike[:, 3].min() > 0.01
    assert not score(model, "u3").logits[:, ASPECTS.index("content")].any()


def test_the_videos_of_the_author_that_a_user_opens_come_first(model):
    for user in range(5):
        scores = score(model, f"u{user}").scores
        best = np.argsort(-scores)[: NUM_VIDEOS // 5]
        assert {FACTS[number].author for number in best} == {f"author {user}"}
        assert np.abs(scores).max() < 1


def test_how_often_a_user_has_chosen(model):
    events = [each.event for each in LOG.events]
    videos = {video_of(3, index) for index in range(NUM_VIDEOS // 5)}
    clicks = [e for e in events if type(e).__name__ == "Click" and e.user == "u3"]
    num = sum(event.video in videos for event in clicks)
    chosen = score(model, "u3").num_chosen[3, ASPECTS.index("author")]
    assert 1.8 * num - 4 < chosen <= 2 * num  # a click and a long view each; the last still wait
    assert score(model, "u3").num_chosen[4, 0] == 0


def test_of_nobody_and_of_nothing_nothing_is_known(model):
    assert not score(model, "somebody").scores.any()
    assert not score(model, "").scores.any()
    assert not score(model, "u3", [UNKNOWN_VIDEO, VideoFacts("another", "other")]).scores.any()
    assert score(model, "u3", []).scores.shape == (0,)
    assert not PersonalScorer(OnlineModel(SETTINGS)).score("u3", FACTS, now_ms=0).scores.any()


def test_a_score_does_not_depend_on_the_others(model):
    together = score(model, "u7").logits
    for number in (0, 17, 59):
        alone = score(model, "u7", [FACTS[number]]).logits
        assert np.array_equal(alone[0], together[number])


def test_counters_decay(model):
    later = PersonalScorer(model).score("u3", FACTS, now_ms=1000 * LOG.now_seconds + 30 * 86.4e6)
    now = PersonalScorer(model).score("u3", FACTS, now_ms=1000 * LOG.now_seconds)
    np.testing.assert_allclose(later.num_chosen[:, :3], now.num_chosen[:, :3] / 2)
