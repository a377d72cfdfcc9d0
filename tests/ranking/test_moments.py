import math
from itertools import pairwise

import numpy as np
import pytest

from reelseek.ranking.moments import Moment, merge_moments, merge_moments_in_videos
from reelseek.vision import segment_spans


def adjacent_spans(num_segments):
    """Segments of 4 seconds, one after the other."""
    return np.array([[4.0 * i, 4.0 * i + 4.0] for i in range(num_segments)])


def drawn(scores, spans):
    """Scores as they are with one second more that scores as the whole video does."""
    seconds = [end - start for start, end in spans]
    mean = sum(s * t for s, t in zip(scores, seconds, strict=True)) / sum(seconds)
    return [(s * t + mean) / (t + 1) for s, t in zip(scores, seconds, strict=True)]


def assert_moments(scores, spans, expected):
    """`expected` has start, end and best segment of each moment; its score is that segment's."""
    found = merge_moments(np.array(scores), spans)
    positions = [(each.start_seconds, each.end_seconds, each.best_segment) for each in found]
    assert positions == expected
    wanted = drawn(scores, spans)
    assert [each.score for each in found] == pytest.approx(
        [wanted[best] for _, _, best in expected]
    )


def test_one_clear_peak_is_a_moment_of_its_own():
    # Mean 0.25, so the peak's neighbours would have to reach (0.85 + 0.25) / 2.
    scores = [0.1, 0.1, 0.85, 0.1, 0.1]
    assert_moments(scores, adjacent_spans(5), [(8.0, 12.0, 2), (0.0, 8.0, 0), (12.0, 20.0, 3)])
    assert merge_moments(np.array(scores), adjacent_spans(5))[0].score == pytest.approx(0.73)


def test_short_segment_scores_by_chance_and_stands_behind_a_long_one():
    spans = np.array([[0.0, 10.0], [10.0, 11.0], [11.0, 21.0], [21.0, 40.0]])
    moments = merge_moments(np.array([0.1, 0.5, 0.1, 0.4]), spans)
    assert [each.best_segment for each in moments][:2] == [3, 1]


def test_peak_grows_over_neighbours_that_match_too():
    # Mean 0.4: neighbours match from (0.8 + 0.4) / 2 on.
    scores = np.array([0.1, 0.61, 0.8, 0.7, 0.1, 0.1])
    best = merge_moments(scores, adjacent_spans(6))[0]
    assert (best.start_seconds, best.end_seconds, best.best_segment) == (4.0, 16.0, 2)


def test_two_separate_peaks_are_two_moments_best_first():
    assert_moments(
        [0.1, 0.8, 0.1, 0.1, 0.9, 0.1],
        adjacent_spans(6),
        [(16.0, 20.0, 4), (4.0, 8.0, 1), (0.0, 4.0, 0), (8.0, 16.0, 2), (20.0, 24.0, 5)],
    )


@pytest.mark.parametrize("level", [0.8, 0.01, 0.0, -0.3])
def test_video_that_matches_evenly_is_one_moment(level):
    noise = np.random.default_rng(0).uniform(0.92, 1.0, size=30)
    spans = segment_spans(61.0, segment_seconds=4.0, overlap_seconds=2.0)
    scores = level * noise[: len(spans)]
    best = int(scores.argmax())
    assert_moments(scores.tolist(), spans, [(0.0, 61.0, best)])


def test_segments_that_overlap_a_moment_are_part_of_it():
    spans = segment_spans(12.0, segment_seconds=4.0, overlap_seconds=2.0)
    assert spans.tolist() == [[0, 4], [2, 6], [4, 8], [6, 10], [8, 12]]
    # [2, 6) and [6, 10) reach into the peak, though they do not match.
    scores = [0.1, 0.1, 0.9, 0.1, 0.1]
    assert_moments(scores, spans, [(4.0, 8.0, 2), (0.0, 4.0, 0), (8.0, 12.0, 4)])


def test_still_image_is_one_moment():
    assert merge_moments(np.array([0.3]), np.array([[0.0, 0.0]])) == [Moment(0.0, 0.0, 0.3, 0)]


@pytest.mark.parametrize("seed", range(60))
def test_moments_do_not_overlap_and_answer_for_every_segment(seed):
    rng = np.random.default_rng(seed)
    seconds = float(rng.uniform(1, 6))
    spans = segment_spans(
        float(rng.uniform(0.1, 90)),
        segment_seconds=seconds,
        overlap_seconds=float(rng.uniform(0, 0.95 * seconds)),
    )
    # Some smooth, some rough, some with many ties.
    scores = rng.normal(size=len(spans))
    if seed % 3 == 0:
        scores = np.convolve(scores, np.ones(5) / 5, mode="same")[: len(spans)]
    if seed % 3 == 1:
        scores = np.round(scores)
    moments = merge_moments(scores, spans)
    scores = drawn(scores.tolist(), spans.tolist())

    peaks = [moment.score for moment in moments]
    assert peaks == sorted(peaks, reverse=True)
    for moment in moments:
        inside = (spans[:, 0] >= moment.start_seconds) & (spans[:, 1] <= moment.end_seconds)
        assert inside[moment.best_segment]
        assert moment.score == pytest.approx(scores[moment.best_segment])
    in_time = sorted(moments, key=lambda moment: moment.start_seconds)
    for earlier, later in pairwise(in_time):
        assert earlier.end_seconds <= later.start_seconds
    for (start, end), score in zip(spans, scores, strict=True):
        touching = [m for m in moments if m.start_seconds < end and start < m.end_seconds]
        assert max(moment.score for moment in touching) >= score - 1e-9


def test_moments_of_a_video_do_not_depend_on_the_videos_beside_it():
    rng = np.random.default_rng(5)
    counts = rng.integers(1, 40, size=30).tolist()
    scores = [rng.random(n).astype(np.float32) for n in counts]
    spans = [adjacent_spans(n) + rng.random() for n in counts]
    for min_score in (-math.inf, 0.7):
        together = merge_moments_in_videos(
            np.concatenate(scores), np.concatenate(spans), counts=counts, min_score=min_score
        )
        alone = [
            merge_moments(*video, min_score=min_score) for video in zip(scores, spans, strict=True)
        ]
        assert together == alone
        best = merge_moments_in_videos(
            np.concatenate(scores),
            np.concatenate(spans),
            counts=counts,
            min_score=min_score,
            only_best=True,
        )
        assert best == [moments[:1] for moments in alone]
        assert max(map(len, alone)) > 1
