import itertools

import numpy as np
import pytest

from reelseek.ranking import align_steps, align_steps_in_videos


def by_brute_force(scores, spans):
    """The greatest mean over all choices of segments of which each starts when the one before it
    has ended; None where there is none."""
    num_steps, num_segments = scores.shape
    best = None
    for chosen in itertools.permutations(range(num_segments), num_steps):
        if all(spans[a][1] <= spans[b][0] for a, b in itertools.pairwise(chosen)):
            mean = np.mean([scores[event, segment] for event, segment in enumerate(chosen)])
            best = mean if best is None else max(best, mean)
    return best


def adjacent(num_segments):
    return np.array([[4.0 * n, 4.0 * n + 4] for n in range(num_segments)])


def random_spans(random, num_segments):
    """Some overlap, some hold others, and they are in no order."""
    starts = random.integers(0, 12, num_segments)
    return np.stack([starts, starts + random.integers(1, 6, num_segments)], axis=1).astype(float)


@pytest.mark.parametrize("seed", range(60))
def test_match_is_the_best_of_all_there_are(seed):
    random = np.random.default_rng(seed)
    num_steps, num_segments = random.integers(1, 4), random.integers(1, 8)
    scores = random.normal(size=(num_steps, num_segments))
    spans = random_spans(random, num_segments) if seed % 2 else adjacent(num_segments)
    match = align_steps(scores, spans)
    expected = by_brute_force(scores, spans)
    if expected is None:
        assert match is None
        return
    assert match.ordered == pytest.approx(expected)
    assert match.ordered == pytest.approx(scores[np.arange(num_steps), match.segments].mean())
    assert match.unordered == pytest.approx(scores.max(axis=1).mean())
    assert match.score == pytest.approx(2 * match.ordered - match.unordered)
    assert (match.spans == spans[match.segments]).all()
    assert (match.spans[1:, 0] >= match.spans[:-1, 1]).all()


def test_order_decides_and_is_paid_for():
    scores = np.array([[0.9, 0.1, 0.2], [0.1, 0.2, 0.8]])
    forward = align_steps(scores, adjacent(3))
    backward = align_steps(scores[:, ::-1], adjacent(3))
    assert forward.segments.tolist() == [0, 2]
    assert forward.score == forward.ordered == forward.unordered == pytest.approx(0.85)
    assert backward.unordered == forward.unordered
    assert backward.score < backward.ordered < 0.3
    free = align_steps(scores[:, ::-1], adjacent(3), order_weight=0)
    assert free.score == free.ordered == backward.ordered


def test_two_events_are_not_one_segment():
    scores = np.array([[0.1, 0.9, 0.1], [0.1, 0.9, 0.2]])
    assert align_steps(scores, adjacent(3)).segments.tolist() == [1, 2]


def test_video_without_room_for_all_events_has_no_match():
    assert align_steps(np.ones((2, 1)), adjacent(1)) is None
    overlapping = np.array([[0.0, 6.0], [3.0, 9.0]])
    assert align_steps(np.ones((2, 2)), overlapping) is None
    assert align_steps(np.ones((2, 2)), np.zeros((2, 2)) + 1).segments.tolist() == [0, 1]


def test_many_videos_are_each_as_alone():
    random = np.random.default_rng(1)
    counts = [3, 1, 6, 2]
    scores = random.normal(size=(2, sum(counts)))
    spans = np.concatenate([adjacent(count) for count in counts])
    matches = align_steps_in_videos(scores, spans, counts=counts)
    ends = np.cumsum(counts)
    for match, count, end in zip(matches, counts, ends, strict=True):
        alone = align_steps(scores[:, end - count : end], adjacent(count))
        assert (match is None) == (alone is None) == (count < 2)
        if match is not None:
            assert match.score == alone.score
            assert match.segments.tolist() == alone.segments.tolist()


@pytest.mark.parametrize(
    ("scores", "spans", "options", "message"),
    [
        (np.ones(3), adjacent(3), {}, r"scores is \(3,\): must be \(E, S\)"),
        (np.ones((0, 3)), adjacent(3), {}, "at least one step"),
        (np.ones((1, 3)), adjacent(2), {}, r"spans is \(2, 2\): must be \(3, 2\)"),
        (np.full((1, 2), np.nan), adjacent(2), {}, "not finite"),
        (np.ones((1, 2)), adjacent(2), {"order_weight": -1}, "order_weight=-1: must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(scores, spans, options, message):
    with pytest.raises(ValueError, match=message):
        align_steps(scores, spans, **options)


def test_counts_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="counts add up to 3: must be 2"):
        align_steps_in_videos(np.ones((1, 2)), adjacent(2), counts=[1, 2])
