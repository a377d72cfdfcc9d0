from importlib.util import find_spec

import numpy as np
import pytest

from reelseek.vision import FrameSettings, Preprocessing, ShotSampler, iter_frames
from reelseek.vision.decoding.pyav_reader import PyAVReader
from reelseek.vision.shots import find_cuts, shot_spans
from tests.vision.conftest import FakeReader, textured_pictures

PREPROCESSING = Preprocessing(size=(24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)

needs_scenedetect = pytest.mark.skipif(
    find_spec("scenedetect") is None, reason="PySceneDetect, an extra, is not installed"
)


def shots(seconds_each, *, fps=10, seed=0):
    """A picture of its own for each shot, a little noise on each frame, and the times of the
    cuts."""
    rng = np.random.default_rng(seed)
    lengths = [round(seconds * fps) for seconds in seconds_each]
    pictures = textured_pictures(len(lengths), seed=seed).repeat(lengths, axis=0)
    noisy = pictures + rng.integers(-4, 5, pictures.shape)
    return noisy.clip(0, 255).astype(np.uint8), np.cumsum(lengths)[:-1] / fps


@needs_scenedetect
@pytest.mark.parametrize(
    "seconds_each", [[2, 3, 2.5], [3, 2, 2, 2.2, 3], [2.4, 2.1]], ids=lambda value: str(len(value))
)
@pytest.mark.parametrize("fps", [10, 25])
def test_cuts_are_found_within_a_frame(write_pictures, seconds_each, fps):
    pictures, cuts = shots(seconds_each, fps=fps)
    reader = PyAVReader(write_pictures("a.mp4", pictures, fps=fps))
    found = find_cuts(reader, min_seconds=1.0)
    assert len(found) == len(cuts)
    np.testing.assert_allclose(found, cuts, atol=1 / fps)


@needs_scenedetect
@pytest.mark.parametrize("num_frames", [1, 2, 5, 40])
def test_video_of_one_picture_is_one_shot(write_pictures, num_frames):
    reader = PyAVReader(write_pictures("a.mp4", shots([num_frames / 10])[0]))
    samples = ShotSampler(frames_per_shot=3)(reader)
    assert samples.shot_spans.tolist() == [[0.0, reader.duration_seconds]]
    assert 1 <= len(samples.frame_indices) <= 3


@needs_scenedetect
def test_still_image_is_one_shot_of_one_frame():
    reader = FakeReader(1)
    reader.duration_seconds = 0.0
    samples = ShotSampler()(reader)
    assert samples.frame_indices.tolist() == [0]
    assert samples.shot_spans.tolist() == [[0.0, 0.0]]


@needs_scenedetect
def test_frames_are_the_middles_of_equal_parts_of_each_shot(write_pictures):
    pictures, cuts = shots([2, 3, 2])
    path = write_pictures("a.mp4", pictures)
    sampler = ShotSampler(frames_per_shot=2)
    parts = list(iter_frames(path, FrameSettings(sampler, PREPROCESSING)))
    spans = parts[-1].end.shot_spans
    np.testing.assert_allclose(spans, [[0, 2], [2, 5], [5, 7]], atol=0.1)
    times = np.concatenate([part.times_seconds for part in parts])
    np.testing.assert_allclose(times, [0.5, 1.5, 2.7, 4.2, 5.5, 6.5], atol=0.2)
    # What was chosen for a shot is shown in it.
    assert [np.searchsorted(cuts, seconds, side="right") for seconds in times] == [0, 0, 1, 1, 2, 2]


@needs_scenedetect
def test_shots_of_less_than_the_shortest_are_joined(write_pictures):
    pictures, _ = shots([2, 0.4, 0.4, 2.2])
    reader = PyAVReader(write_pictures("a.mp4", pictures))
    spans = ShotSampler(min_seconds=1.5)(reader).shot_spans
    assert (spans[:-1, 1] - spans[:-1, 0] >= 1.4).all()


@needs_scenedetect
def test_long_shot_is_divided_into_equal_parts(write_pictures):
    pictures, _ = shots([2, 7])
    reader = PyAVReader(write_pictures("a.mp4", pictures))
    samples = ShotSampler(frames_per_shot=1, max_seconds=3.0)(reader)
    expected = [[0, 2], [2, 2 + 7 / 3], [2 + 7 / 3, 2 + 14 / 3], [2 + 14 / 3, 9]]
    np.testing.assert_allclose(samples.shot_spans, expected, atol=0.1)
    assert len(samples.frame_indices) == 4


@needs_scenedetect
def test_no_more_frames_than_asked_for(write_pictures):
    pictures, _ = shots([2, 3, 2])
    reader = PyAVReader(write_pictures("a.mp4", pictures))
    samples = ShotSampler(frames_per_shot=5, max_frames=4)(reader)
    assert len(samples.frame_indices) == 4
    assert len(samples.shot_spans) == 3


@needs_scenedetect
def test_frames_that_do_not_decode_do_not_hide_the_cuts():
    levels = [20] * 30 + [200] * 30
    whole = find_cuts(FakeReader(levels=levels), min_seconds=1.0)
    assert whole.tolist() == [3.0]
    found = find_cuts(FakeReader(levels=levels, missing=[10, 11, 45]), min_seconds=1.0)
    np.testing.assert_allclose(found, [3.0], atol=0.1)


# Spans.


def test_spans_of_a_known_video():
    assert shot_spans(np.array([2.0, 5.0]), 6.0, max_seconds=8.0).tolist() == [
        [0, 2],
        [2, 5],
        [5, 6],
    ]
    assert shot_spans(np.empty(0), 16.0, max_seconds=8.0).tolist() == [[0, 8], [8, 16]]
    assert shot_spans(np.empty(0), 17.0, max_seconds=8.5).tolist() == [[0, 8.5], [8.5, 17]]


def test_spans_cover_the_video_without_gaps():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        duration = float(rng.choice([rng.uniform(0.01, 5), rng.uniform(5, 3000)]))
        cuts = np.sort(rng.uniform(0, duration, rng.integers(0, 20)))
        # A cut at an end, and one that rounding has moved off it.
        cuts = np.concatenate([cuts, rng.choice([0.0, duration, duration - 1e-10], 1)])
        longest = float(rng.choice([rng.uniform(0.5, 20), duration / rng.integers(1, 9)]))
        spans = shot_spans(np.sort(cuts), duration, max_seconds=longest)
        assert spans[0, 0] == 0.0
        assert spans[-1, 1] == duration
        np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
        lengths = spans[:, 1] - spans[:, 0]
        assert (lengths > 0).all()
        assert lengths.max() <= longest * (1 + 1e-6)
        assert set(cuts) <= {0.0, *spans[:, 1]}
        # None is divided that need not be.
        whole = len(shot_spans(np.sort(cuts), duration, max_seconds=1e9))
        assert len(spans) <= whole + duration / longest


@pytest.mark.parametrize("longest", [float("inf"), 1e12])
def test_shots_need_not_be_divided(longest):
    assert shot_spans(np.array([2.0]), 6.0, max_seconds=longest).tolist() == [[0, 2], [2, 6]]


# Without PySceneDetect.


def test_sampler_without_scenedetect_names_the_remedy(monkeypatch):
    monkeypatch.setattr("vision.shots.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'reelseek\[shots\]'"):
        ShotSampler()
