import numpy as np
import pytest

from reelseek.ranking.metrics import retrieval_metrics
from reelseek.ranking.rescoring import dual_softmax, querybank_norm
from reelseek.training.retrieval import measure

# Video 0 is a hub: the second caption likes it better than its own video.
HUB = np.array([[0.9, 0.1], [0.8, 0.7]])
OWN = np.array([0, 1])


@pytest.fixture
def random():
    return np.random.default_rng(0)


def scores(random, num_captions, num_videos):
    return random.uniform(-0.2, 1, (num_captions, num_videos)).astype(np.float32)


def test_metrics_of_the_scores_themselves_stay_as_they_are(random):
    similarity, own = scores(random, 24, 12), np.arange(24) // 2
    metrics = measure(
        similarity,
        own,
        temperature=0.05,
        bank_similarity=scores(random, 9, 12),
        num_bootstrap=20,
    )
    assert metrics.pop("rescored").keys() == {"dual_softmax", "querybank_norm"}
    assert metrics == retrieval_metrics(similarity, own, num_bootstrap=20)
    assert "interval_95" in metrics["t2v"]


def test_dual_softmax_is_a_row_that_says_what_it_needs(random):
    similarity, own = scores(random, 24, 12), np.arange(24) // 2
    before = similarity.copy()
    metrics = measure(similarity, own, temperature=0.05, num_bootstrap=20)
    by_video = dual_softmax(similarity, temperature=0.05)
    by_caption = dual_softmax(similarity.T, temperature=0.05).T
    assert metrics["rescored"] == {
        "dual_softmax": {
            "needs_all_test_queries": True,
            "t2v": retrieval_metrics(by_video, own)["t2v"],
            "v2t": retrieval_metrics(by_caption, own)["v2t"],
        }
    }
    assert np.array_equal(similarity, before)
    # The two ways differ here, so that one could not stand in for the other.
    assert retrieval_metrics(by_video, own)["v2t"] != retrieval_metrics(by_caption, own)["v2t"]


def test_querybank_is_a_row_that_counts_its_bank(random):
    similarity, bank, own = scores(random, 24, 12), scores(random, 7, 12), np.arange(24) // 2
    metrics = measure(similarity, own, temperature=0.05, bank_similarity=bank)
    assert metrics["rescored"]["querybank_norm"] == {
        "needs_all_test_queries": False,
        "num_bank": 7,
        "t2v": retrieval_metrics(querybank_norm(similarity, bank), own)["t2v"],
    }


def test_hub_is_held_back_as_worked_out_by_hand():
    # Of the columns, the softmax at temperature 0.1 gives the captions (0.73, 0.27) of video 0 and
    # (0.0025, 0.9975) of video 1: caption 1 scores 0.8 * 0.27 = 0.22 and 0.7 * 0.9975 = 0.70.
    metrics = measure(HUB, OWN, temperature=0.1, bank_similarity=np.array([[0.9, 0.1], [0.9, 0.2]]))
    assert metrics["t2v"]["R@1"] == 50.0
    assert metrics["rescored"]["dual_softmax"]["t2v"]["R@1"] == 100.0
    # The bank takes 0.93 off video 0 and 0.20 off video 1, from both captions, whose best is
    # video 0: caption 0 scores (-0.03, -0.10), caption 1 (-0.13, 0.50).
    assert metrics["rescored"]["querybank_norm"]["t2v"]["R@1"] == 100.0


def test_temperature_counts():
    # Near 0 a caption keeps a video only if it is that video's best; when large, all is as it was.
    hot = measure(HUB, OWN, temperature=100.0)
    assert hot["rescored"]["dual_softmax"]["t2v"]["R@1"] == 50.0


@pytest.mark.parametrize("num_videos", [11, 13])
def test_bank_of_another_gallery_is_refused(random, num_videos):
    with pytest.raises(ValueError, match="gallery"):
        measure(
            scores(random, 12, 12),
            np.arange(12),
            temperature=0.05,
            bank_similarity=scores(random, 3, num_videos),
        )
