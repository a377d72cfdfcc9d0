"""Random frames and crops: functions of a seed, within their bounds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reelseek.training.shards.augment import RandomCrop, RandomFrames
from reelseek.vision import Preprocessing, UniformSampler

PREPROCESSING = Preprocessing((24, 24), mean=(0.5,) * 3, std=(0.5,) * 3)


def make_crop(**changes):
    options = {"min_area": 0.25, "flip": False, "seed": 0}
    return RandomCrop(PREPROCESSING, **(options | changes))


@pytest.fixture
def frame():
    """`(3, 96, 96)`: red grows to the right, green downwards, so that colours tell places."""
    ramp = torch.linspace(0, 255, 96)
    red, green = torch.meshgrid(ramp, ramp, indexing="xy")
    return torch.stack([red, green, torch.zeros(96, 96)]).round().to(torch.uint8)


def area_of(cropped):
    """The crop's fraction of the frame: how far both colours reach."""
    _, height, width = cropped.shape
    spans = [
        (plane.float().mean(dim=dim).max() - plane.float().mean(dim=dim).min()).item() / 255
        for plane, dim in ((cropped[0], 0), (cropped[1], 1))
    ]
    return spans[0] * spans[1] * (width / (width - 1)) * (height / (height - 1))


def test_crops_differ_by_seed_and_are_of_the_allowed_area(frame):
    crops = [make_crop(seed=seed).resize(frame) for seed in range(60)]
    assert {tuple(crop.shape) for crop in crops} == {(3, 24, 24)}
    areas = [area_of(crop) for crop in crops]
    assert 0.2 < min(areas) < 0.4
    assert 0.8 < max(areas) < 1.05
    assert len({crop.numpy().tobytes() for crop in crops}) == 60


def test_frames_of_a_sample_are_cropped_alike_whatever_was_drawn_before(frame):
    crop = make_crop(seed=7)
    first = crop.resize(frame)
    state = torch.random.get_rng_state()
    torch.rand(100)
    assert torch.equal(crop.resize(frame), first)
    torch.random.set_rng_state(state)
    crop.resize(frame)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_half_of_the_samples_are_mirrored(frame):
    plain = PREPROCESSING.resize(frame)
    results = [make_crop(min_area=0.0, flip=True, seed=seed).resize(frame) for seed in range(100)]
    mirrored = [torch.equal(result, plain.flip(-1)) for result in results]
    assert all(m or torch.equal(r, plain) for m, r in zip(mirrored, results, strict=True))
    assert 30 < sum(mirrored) < 70


def test_without_a_crop_the_frame_is_the_models(frame):
    assert torch.equal(make_crop(min_area=0.0).resize(frame), PREPROCESSING.resize(frame))


def test_random_frames_are_some_of_the_samplers_in_order():
    times = np.arange(50) / 10
    reader = SimpleNamespace(times_seconds=times, duration_seconds=5.0, is_key_frame=times < 0)
    sampled = UniformSampler(10)(reader).frame_indices
    chosen = [RandomFrames(UniformSampler(10), 3, seed)(reader).frame_indices for seed in range(9)]
    assert all(len(set(own)) == 3 and set(own) <= set(sampled) for own in chosen)
    assert all((np.diff(own) > 0).all() for own in chosen)
    assert len({tuple(own) for own in chosen}) > 1
    for num_frames in (0, 10, 11):
        whole = RandomFrames(UniformSampler(10), num_frames, 0)(reader).frame_indices
        np.testing.assert_array_equal(whole, sampled)
