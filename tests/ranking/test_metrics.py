import numpy as np
import pytest

from reelseek.ranking import metrics as metrics_module
from reelseek.ranking.metrics import retrieval_metrics, text_to_video_ranks, video_to_text_ranks


def slow_text_to_video_ranks(similarity, caption_video):
    """By the definition, in plain loops."""
    ranks = []
    for scores, own in zip(similarity.tolist(), caption_video.tolist(), strict=True):
        wrong = [score for video, score in enumerate(scores) if video != own]
        ranks.append(1 + sum(score >= scores[own] for score in wrong))
    return ranks


def slow_video_to_text_ranks(similarity, caption_video):
    ranks = []
    for video, scores in enumerate(similarity.T.tolist()):
        own = [s for s, v in zip(scores, caption_video.tolist(), strict=True) if v == video]
        wrong = [s for s, v in zip(scores, caption_video.tolist(), strict=True) if v != video]
        ranks.append(1 + sum(score >= max(own) for score in wrong))
    return ranks


def test_ranks_worked_out_by_hand():
    similarity = np.array(
        [
            [0.9, 0.1, 0.2],  # of video 0: first
            [0.5, 0.4, 0.3],  # of video 1: video 0 is before it
            [0.7, 0.7, 0.7],  # of video 2: ties with both others, so third
        ]
    )
    own = np.array([0, 1, 2])
    assert text_to_video_ranks(similarity, own).tolist() == [1, 2, 3]
    # Video 0: 0.9 beats 0.5 and 0.7. Video 1: 0.4 is behind 0.7. Video 2: 0.7 beats 0.2 and 0.3.
    assert video_to_text_ranks(similarity, own).tolist() == [1, 2, 1]
    assert retrieval_metrics(similarity, own) == {
        "t2v": {"R@1": 33.33, "R@5": 100.0, "R@10": 100.0, "MdR": 2.0, "MnR": 2.0},
        "v2t": {"R@1": 66.67, "R@5": 100.0, "R@10": 100.0, "MdR": 1.0, "MnR": 1.33},
        "num_queries": 3,
        "num_gallery": 3,
    }


def test_several_captions_of_a_video_do_not_compete_with_each_other():
    similarity = np.array(
        [
            [0.2, 0.9],  # of video 0, and wrong
            [0.8, 0.1],  # of video 0
            [0.8, 0.1],  # of video 0, ties with the one above, which is right too
            [0.7, 0.3],  # of video 1, and wrong
        ]
    )
    own = np.array([0, 0, 0, 1])
    assert text_to_video_ranks(similarity, own).tolist() == [2, 1, 1, 2]
    # Video 0's best, 0.8, beats 0.7. Video 1's only, 0.3, is behind 0.9.
    assert video_to_text_ranks(similarity, own).tolist() == [1, 2]
    metrics = retrieval_metrics(similarity, own)
    assert (metrics["num_queries"], metrics["num_gallery"]) == (4, 2)
    assert (metrics["t2v"]["R@1"], metrics["t2v"]["MdR"]) == (50.0, 1.5)


def test_constant_scores_give_the_worst_rank():
    own = np.repeat(np.arange(20), 3)
    metrics = retrieval_metrics(np.full((60, 20), 0.5), own)
    assert metrics["t2v"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "MdR": 20.0, "MnR": 20.0}
    # All 57 captions of other videos score as high as its own three.
    assert metrics["v2t"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "MdR": 58.0, "MnR": 58.0}


def test_recall_counts_ranks_up_to_k():
    # Caption i's own video is behind i others: ranks 1 to 12.
    similarity = np.zeros((12, 12))
    for i in range(12):
        wrong = [video for video in range(12) if video != i]
        similarity[i, i] = 1
        similarity[i, wrong[:i]] = 2
    metrics = retrieval_metrics(similarity, np.arange(12))["t2v"]
    assert metrics == {"R@1": 8.33, "R@5": 41.67, "R@10": 83.33, "MdR": 6.5, "MnR": 6.5}


@pytest.mark.parametrize("seed", range(20))
def test_ranks_equal_plain_loops_where_ties_abound(seed):
    rng = np.random.default_rng(seed)
    num_videos = int(rng.integers(1, 9))
    num_captions = num_videos + int(rng.integers(0, 12))
    own = np.concatenate(
        [np.arange(num_videos), rng.integers(num_videos, size=num_captions - num_videos)]
    )
    rng.shuffle(own)
    similarity = rng.integers(-2, 3, size=(num_captions, num_videos))
    t2v = slow_text_to_video_ranks(similarity, own)
    v2t = slow_video_to_text_ranks(similarity, own)
    assert text_to_video_ranks(similarity, own).tolist() == t2v
    assert video_to_text_ranks(similarity, own).tolist() == v2t
    metrics = retrieval_metrics(similarity, own)
    for side, ranks in (("t2v", t2v), ("v2t", v2t)):
        for k in (1, 5, 10):
            fraction = sum(rank <= k for rank in ranks) / len(ranks)
            assert metrics[side][f"R@{k}"] == pytest.approx(100 * fraction, abs=0.0051)
        assert metrics[side]["MdR"] == np.median(ranks)
        assert metrics[side]["MnR"] == pytest.approx(sum(ranks) / len(ranks), abs=0.0051)


@pytest.mark.parametrize(
    ("shape", "caption_video"),
    [((3,), [0, 1, 2]), ((3, 2), [0, 1]), ((2, 2), [[0], [1]]), ((2, 2, 2), [0, 1])],
)
def test_shapes_that_do_not_fit_are_refused(shape, caption_video):
    with pytest.raises(ValueError, match=r"similarity is \(.*\) and caption_video \("):
        retrieval_metrics(np.zeros(shape), np.array(caption_video))


@pytest.mark.parametrize("caption_video", [[0, 0, 0], [0, 1, 2], [-1, 0, 1], [1, 1, 1]])
def test_each_video_needs_a_caption_and_each_caption_a_video(caption_video):
    with pytest.raises(ValueError, match="each video must be the answer to at least one caption"):
        retrieval_metrics(np.zeros((3, 2)), np.array(caption_video))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="not finite"):
        retrieval_metrics(np.array([[0.1, value], [0.2, 0.3]]), np.array([0, 1]))


def similarity_with_ranks(ranks, caption_video, num_videos):
    """Scores that give each caption's own video this rank among `num_videos`."""
    similarity = np.zeros((len(ranks), num_videos))
    for caption, (rank, own) in enumerate(zip(ranks, caption_video, strict=True)):
        wrong = [video for video in range(num_videos) if video != own]
        similarity[caption, wrong[: rank - 1]] = 1
        similarity[caption, wrong[rank - 1 :]] = -1
    return similarity


def t2v_interval(ranks, caption_video, *, num_bootstrap=400, seed=0):
    similarity = similarity_with_ranks(ranks, caption_video, int(max(caption_video)) + 1)
    metrics = retrieval_metrics(similarity, caption_video, num_bootstrap=num_bootstrap, seed=seed)
    return metrics["t2v"]["interval_95"]


def some_scores(seed=0, *, num_videos=40, num_captions=100):
    """Captions that find their own video more often than not, in no order."""
    rng = np.random.default_rng(seed)
    own = np.concatenate(
        [np.arange(num_videos), rng.integers(num_videos, size=num_captions - num_videos)]
    )
    rng.shuffle(own)
    similarity = rng.normal(size=(num_captions, num_videos))
    similarity[np.arange(num_captions), own] += 2
    return similarity, own


def test_intervals_are_added_to_metrics_that_stay_as_they_are():
    similarity, own = some_scores()
    plain = retrieval_metrics(similarity, own)
    metrics = retrieval_metrics(similarity, own, num_bootstrap=300)
    for side in ("t2v", "v2t"):
        intervals = metrics[side].pop("interval_95")
        assert intervals.keys() == plain[side].keys()
        for name, (low, high) in intervals.items():
            assert low <= plain[side][name] <= high, (side, name)
        assert intervals["R@1"][0] < intervals["R@1"][1]
    assert metrics == plain


def test_intervals_equal_plain_loops_over_the_same_resamples():
    similarity, own = some_scores(num_videos=15, num_captions=40)
    metrics = retrieval_metrics(similarity, own, num_bootstrap=50, seed=3)
    sides = {
        "t2v": (slow_text_to_video_ranks(similarity, own), own),
        "v2t": (slow_video_to_text_ranks(similarity, own), np.arange(15)),
    }
    for side, (ranks, video) in sides.items():
        rng = np.random.default_rng(3)
        samples = []
        for _ in range(50):
            drawn = rng.integers(15, size=15)
            sample = np.concatenate([np.array(ranks)[video == v] for v in drawn])
            recalls = [100 * np.mean(sample <= k) for k in (1, 5, 10)]
            samples.append([*recalls, np.median(sample), np.mean(sample)])
        bounds = np.quantile(samples, [0.025, 0.975], axis=0).T
        intervals = metrics[side]["interval_95"]
        assert np.array(list(intervals.values())) == pytest.approx(bounds, abs=0.0051)


def test_intervals_depend_on_the_seed_and_not_on_the_size_of_blocks(monkeypatch):
    similarity, own = some_scores()
    metrics = retrieval_metrics(similarity, own, num_bootstrap=100, seed=1)
    assert retrieval_metrics(similarity, own, num_bootstrap=100, seed=1) == metrics
    assert retrieval_metrics(similarity, own, num_bootstrap=100, seed=2) != metrics
    for size in (1, 700):  # one resample at a time, and seven
        monkeypatch.setattr(metrics_module, "_BLOCK_SIZE", size)
        assert retrieval_metrics(similarity, own, num_bootstrap=100, seed=1) == metrics


def test_intervals_of_perfect_retrieval_are_points():
    metrics = retrieval_metrics(np.eye(30), np.arange(30), num_bootstrap=100)
    for side in ("t2v", "v2t"):
        intervals = metrics[side]["interval_95"]
        assert [intervals[f"R@{k}"] for k in (1, 5, 10)] == [[100.0, 100.0]] * 3
        assert intervals["MdR"] == intervals["MnR"] == [1.0, 1.0]


def test_captions_that_agree_count_as_one():
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 61, size=60)
    once = t2v_interval(ranks, np.arange(60))
    # Four captions of a video, always of one rank, are no more than one caption...
    assert t2v_interval(np.repeat(ranks, 4), np.repeat(np.arange(60), 4)) == once
    # ... while four times the videos halve the width, as a bootstrap of captions would.
    more = t2v_interval(np.repeat(ranks, 4), np.arange(240))
    width, naive_width = np.ptp(once["MnR"]), np.ptp(more["MnR"])
    assert 1.6 * naive_width < width < 2.4 * naive_width


@pytest.mark.parametrize("captions_each", [1, 3])
def test_intervals_hold_the_truth_about_95_times_in_100(captions_each):
    # Ranks uniform from 1 to 80, the same for all captions of a video.
    rng = np.random.default_rng(0)
    num_trials, num_videos = 200, 80
    truth = {"R@5": 100 * 5 / num_videos, "MdR": 40.5, "MnR": 40.5}
    held = dict.fromkeys(truth, 0)
    for trial in range(num_trials):
        ranks = np.repeat(rng.integers(1, num_videos + 1, size=num_videos), captions_each)
        own = np.repeat(np.arange(num_videos), captions_each)
        intervals = t2v_interval(ranks, own, seed=trial)
        for name, value in truth.items():
            held[name] += intervals[name][0] <= value <= intervals[name][1]
    for name, count in held.items():
        assert 0.89 <= count / num_trials <= 0.99, name


def test_a_negative_number_of_resamples_is_refused():
    with pytest.raises(ValueError, match="num_bootstrap=-1: must be 0"):
        retrieval_metrics(np.eye(2), np.arange(2), num_bootstrap=-1)
