from dataclasses import dataclass, field

import numpy as np
import pytest

from reelseek.vision import (
    IntervalSampler,
    KeyFrameSampler,
    MomentSampler,
    UniformSampler,
    frame_indices_at,
    frames_in_span,
    segment_spans,
)
from reelseek.vision.sampling import subsample


@dataclass
class Video:
    """A timeline, its key frames given where they matter."""

    times_seconds: np.ndarray
    duration_seconds: float
    is_key_frame: np.ndarray = field(default_factory=lambda: np.ones(0, dtype=bool))


def sample(sampler, times, duration):
    return sampler(Video(np.asarray(times), duration)).frame_indices


def even_times(num_frames, fps):
    return np.arange(num_frames) / fps, num_frames / fps


def random_videos(count, seed=0):
    """Times of variable frame rates, with pauses and repeated times, and durations."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        gaps = rng.choice([0.0, 0.02, 0.04, 1.5], size=rng.integers(0, 60), p=[0.1, 0.4, 0.4, 0.1])
        times = np.concatenate([[0.0], np.cumsum(gaps)])
        yield times, float(times[-1] + rng.choice([0.0, 0.04]))


def on_screen(times, moment):
    """The oracle: the last frame that has started, or is about to."""
    return max(i for i, start in enumerate(times) if start <= moment + 0.0005)


def test_uniform_takes_the_middles_of_equal_parts():
    times, duration = even_times(100, fps=10)
    assert sample(UniformSampler(5), times, duration).tolist() == [10, 30, 50, 70, 90]
    assert sample(UniformSampler(1), times, duration).tolist() == [50]


def test_uniform_takes_every_frame_once_of_a_shorter_video():
    times, duration = even_times(3, fps=10)
    assert sample(UniformSampler(12), times, duration).tolist() == [0, 1, 2]


def test_uniform_follows_presentation_times_not_frame_numbers():
    times = np.array([0.0, 0.1, 0.2, 0.3, 8.0, 9.0])  # frame 3 stays on screen for 7.7 s
    assert sample(UniformSampler(5), times, 10.0).tolist() == [3, 5]
    assert sample(UniformSampler(10), times, 10.0).tolist() == [3, 4, 5]


def test_interval_takes_the_middle_of_each_interval():
    times, duration = even_times(100, fps=10)
    assert sample(IntervalSampler(every_seconds=2.0), times, duration).tolist() == [
        10,
        30,
        50,
        70,
        90,
    ]
    # The 1 s that is left after three intervals is too short for a fourth.
    assert sample(IntervalSampler(every_seconds=3.0), times, duration).tolist() == [15, 45, 75]


def test_interval_samples_a_short_video_uniformly_with_min_frames():
    times, duration = even_times(20, fps=10)
    sampler = IntervalSampler(every_seconds=1.0, min_frames=8)
    frame_indices = sample(sampler, times, duration)
    assert len(frame_indices) == 8
    np.testing.assert_array_equal(frame_indices, sample(UniformSampler(8), times, duration))


def test_interval_samples_a_long_video_uniformly_with_max_frames():
    times, duration = even_times(1000, fps=10)
    sampler = IntervalSampler(every_seconds=1.0, min_frames=2, max_frames=20)
    frame_indices = sample(sampler, times, duration)
    assert len(frame_indices) == 20
    assert np.diff(frame_indices).tolist() == [50] * 19  # the whole video, not its beginning


@pytest.mark.parametrize(
    ("duration", "num_frames"), [(3.9, 4), (4.0, 4), (5.0, 5), (6.0, 6), (6.9, 6), (7.0, 6)]
)
def test_interval_bounds_hold_at_their_edges(duration, num_frames):
    times = np.arange(0, duration, 0.01)
    sampler = IntervalSampler(every_seconds=1.0, min_frames=4, max_frames=6)
    assert len(sample(sampler, times, duration)) == num_frames


@pytest.mark.parametrize(
    "sampler",
    [
        UniformSampler(1),
        UniformSampler(7),
        UniformSampler(500),
        IntervalSampler(every_seconds=0.5, min_frames=3),
        IntervalSampler(every_seconds=0.1, max_frames=9),
        KeyFrameSampler(),
        KeyFrameSampler(max_frames=3),
    ],
    ids=repr,
)
def test_indices_ascend_without_repeats_and_are_in_range(sampler):
    rng = np.random.default_rng(3)
    for times, duration in random_videos(200):
        video = Video(times, duration, rng.random(len(times)) < 0.2)
        frame_indices, shot_spans = sampler(video)
        assert shot_spans is None
        assert frame_indices.dtype == np.int64
        assert len(frame_indices) >= 1
        assert (np.diff(frame_indices) > 0).all()
        assert frame_indices[0] >= 0 and frame_indices[-1] < len(times)


def test_uniform_agrees_with_a_search_frame_by_frame():
    for times, duration in random_videos(50, seed=1):
        middles = [(i + 0.5) * duration / 6 for i in range(6)]
        expected = sorted({on_screen(times, middle) for middle in middles})
        assert sample(UniformSampler(6), times, duration).tolist() == expected


def test_still_image_is_its_one_frame():
    for sampler in (
        UniformSampler(12),
        IntervalSampler(every_seconds=1.0, min_frames=8),
        KeyFrameSampler(),
    ):
        assert sample(sampler, np.zeros(1), 0.0).tolist() == [0]


def key_frames(is_key_frame, **options):
    times = np.arange(len(is_key_frame)) / 10
    video = Video(times, len(is_key_frame) / 10, np.array(is_key_frame, dtype=bool))
    return KeyFrameSampler(**options)(video).frame_indices.tolist()


def test_key_frames_are_taken_and_no_others():
    assert key_frames([1, 0, 0, 1, 1, 0, 0, 1]) == [0, 3, 4, 7]


def test_first_frame_stands_for_a_video_without_key_frames():
    assert key_frames([0, 0, 0]) == [0]


def test_too_many_key_frames_are_thinned_out_evenly():
    assert key_frames([1] * 100, max_frames=5) == [10, 30, 50, 70, 90]
    assert key_frames([1, 0] * 50, max_frames=5) == [10, 30, 50, 70, 90]


def test_thinning_out_is_even():
    rng = np.random.default_rng(0)
    for _ in range(300):
        count, most = int(rng.integers(0, 200)), int(rng.integers(1, 50))
        kept = subsample(np.arange(count), most)
        assert len(kept) == min(count, most)
        if count <= most:
            assert kept.tolist() == list(range(count))
            continue
        # As many are left out before the first as after the last, to one; steps differ by one.
        assert abs(kept[0] - (count - 1 - kept[-1])) <= 1
        steps = np.diff(kept)
        assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_moment_just_before_a_frame_shows_that_frame():
    """Times that two decoders, or a sum of floats, write differently."""
    times = np.arange(10) / 10
    assert frame_indices_at(times, np.array([0.2, 0.5, 0.9]) - 0.0001).tolist() == [2, 5, 9]
    assert frame_indices_at(times, np.array([0.2, 0.5, 0.9]) - 0.001).tolist() == [1, 4, 8]
    assert frame_indices_at(times, times + 1e-9).tolist() == list(range(10))
    assert frame_indices_at(times.astype(np.float32), times).tolist() == list(range(10))


def test_moments_beyond_the_ends_show_the_first_and_the_last_frame():
    times = np.array([0.0, 1.0, 2.0])
    assert frame_indices_at(times, np.array([-5.0, 0.5, 99.0])).tolist() == [0, 2]


def test_moments_are_taken_as_they_are_named():
    times, duration = even_times(10, fps=2)
    assert sample(MomentSampler((0.4, 3.9, 0.45, 99.0)), times, duration).tolist() == [0, 7, 9]


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: UniformSampler(0), "num_frames is 0"),
        (lambda: IntervalSampler(every_seconds=0.0), "every_seconds is 0.0"),
        (lambda: IntervalSampler(every_seconds=float("nan")), "every_seconds is nan"),
        (lambda: IntervalSampler(every_seconds=1.0, min_frames=0), "min_frames is 0"),
        (lambda: IntervalSampler(every_seconds=1.0, min_frames=5, max_frames=4), "max_frames 4"),
        (lambda: KeyFrameSampler(max_frames=0), "max_frames is 0"),
        (lambda: MomentSampler(()), "moments_seconds is empty"),
    ],
)
def test_impossible_sampler_is_refused(build, named):
    with pytest.raises(ValueError, match=named):
        build()


def test_segments_of_a_known_video():
    spans = segment_spans(10.0, segment_seconds=4.0, overlap_seconds=2.0)
    assert spans.tolist() == [[0, 4], [2, 6], [4, 8], [6, 10]]
    spans = segment_spans(9.0, segment_seconds=4.0, overlap_seconds=0.0)
    assert spans.tolist() == [[0, 4], [4, 8], [8, 9]]


@pytest.mark.parametrize("duration", [0.0, 0.5, 4.0])
def test_video_no_longer_than_a_segment_is_one_segment(duration):
    spans = segment_spans(duration, segment_seconds=4.0, overlap_seconds=2.0)
    assert spans.tolist() == [[0.0, duration]]


def test_segments_cover_the_video_and_overlap_as_asked():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        segment = rng.choice([0.5, 1.0, 4.0, rng.uniform(0.1, 20)])
        overlap = segment * rng.choice([0.0, 0.5, rng.uniform(0, 0.95)])
        step = segment - overlap
        # Durations at whole steps are where rounding could add or drop a segment.
        duration = rng.choice([rng.uniform(0, 300), rng.integers(1, 50) * step, step + overlap])
        spans = segment_spans(duration, segment_seconds=segment, overlap_seconds=overlap)
        starts, ends = spans.T
        assert starts[0] == 0.0
        assert ends[-1] == pytest.approx(duration, abs=1e-6)
        assert (ends > starts).all()
        assert (starts[1:] < ends[:-1] + 1e-9).all()  # nothing between them is left out
        np.testing.assert_allclose(np.diff(starts), step)
        np.testing.assert_allclose(ends[:-1] - starts[:-1], segment)
        assert ends[-1] - starts[-1] <= segment + 1e-9
        # The last one is needed: the one before it ends earlier than the video.
        assert len(spans) == 1 or ends[-2] < duration


@pytest.mark.parametrize("overlap", [-0.1, 4.0, 5.0, float("nan")])
def test_impossible_overlap_is_refused(overlap):
    with pytest.raises(ValueError, match=r"overlap_seconds is .* segment_seconds \(4.0\)"):
        segment_spans(10.0, segment_seconds=4.0, overlap_seconds=overlap)


def test_frames_in_span_include_its_start_and_not_its_end():
    times = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    assert frames_in_span(times, 1.0, 3.0).tolist() == [1, 2]


def test_frame_nearest_the_middle_stands_for_a_span_without_any():
    times = np.array([0.0, 1.0, 9.0])
    assert frames_in_span(times, 4.0, 8.0).tolist() == [2]
    assert frames_in_span(times, 2.0, 6.0).tolist() == [1]
    assert frames_in_span(times, 20.0, 24.0).tolist() == [2]


def test_every_sampled_frame_is_in_some_segment():
    sampler = IntervalSampler(every_seconds=0.5, min_frames=4)
    for times, duration in random_videos(100, seed=2):
        sampled = times[sample(sampler, times, duration)]
        spans = segment_spans(duration, segment_seconds=1.0, overlap_seconds=0.5)
        found = {int(i) for span in spans for i in frames_in_span(sampled, *span)}
        assert found == set(range(len(sampled)))


def test_length_that_is_rounded_down_gives_no_interval_less():
    times, duration = even_times(50, 10)
    exact = sample(IntervalSampler(1.0), times, duration)
    rounded = sample(IntervalSampler(1.0), times, duration - 1e-7)
    assert exact.tolist() == rounded.tolist()
    assert len(exact) == 5
