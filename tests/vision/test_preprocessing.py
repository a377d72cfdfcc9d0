import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from vision import Preprocessing

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
SQUARE, WIDE, TALL = (64, 64), (48, 80), (90, 56)  # (height, width)

# (height, width) of pictures: landscape, portrait, square, odd, extreme, smaller than the model's
# input, and already of its size.
PICTURES = [(120, 213), (213, 120), (100, 100), (101, 77), (333, 64), (70, 500), (33, 41), (64, 64)]


def picture(height, width):
    """Gradients, edges and texture, so that a shift by a pixel shows."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[0:height, 0:width]
    waves = 127 + 60 * np.sin(x / 7) + 60 * np.cos(y / 5)
    ramps = np.stack([x * 255 / width, y * 255 / height, waves], axis=-1)
    checks = ((x // 9 + y // 11) % 2)[..., None] * 40
    noise = rng.integers(-15, 16, (height, width, 3))
    return np.clip(ramps + checks + noise, 0, 255).astype(np.uint8)


def ours(cfg, array):
    preprocessing = Preprocessing.from_open_clip(cfg.__dict__)
    frames = torch.from_numpy(array).permute(2, 0, 1)[None]
    return preprocessing.normalize(preprocessing.resize(frames))[0]


@pytest.mark.parametrize("array_size", PICTURES, ids=str)
@pytest.mark.parametrize("size", [SQUARE, WIDE, TALL], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_agrees_with_the_transform_of_open_clip(resize_mode, interpolation, size, array_size):
    array = picture(*array_size)
    cfg = PreprocessCfg(
        size=size,
        mean=MEAN,
        std=STD,
        interpolation=interpolation,
        resize_mode=resize_mode,
        fill_color=90,
    )
    expected = image_transform_v2(cfg, is_train=False)(Image.fromarray(array))
    difference = (ours(cfg, array) - expected).abs() * 255 * torch.tensor(STD).view(3, 1, 1)
    assert difference.shape == (3, *size)
    # In steps of a byte: PIL rounds between its two passes, torch in its own way.
    assert float(difference.mean()) < 0.1
    assert float(difference.max()) <= 2.01


def test_frames_of_a_batch_do_not_mix():
    preprocessing = Preprocessing(size=(32, 48), mean=MEAN, std=STD)
    frames = torch.stack([torch.from_numpy(picture(60, 80)).roll(i * 20, 0) for i in range(3)])
    frames = frames.permute(0, 3, 1, 2)
    resized = preprocessing.resize(frames)
    assert resized.shape == (3, 3, 32, 48)
    assert resized.dtype == torch.uint8
    for frame, alone in zip(frames, resized, strict=True):
        assert torch.equal(preprocessing.resize(frame[None])[0], alone)


def test_longest_pads_with_the_fill_colour():
    preprocessing = Preprocessing(
        size=(40, 40), mean=MEAN, std=STD, resize_mode="longest", fill_color=7
    )
    resized = preprocessing.resize(torch.full((1, 3, 20, 40), 200, dtype=torch.uint8))[0]
    assert resized[:, 10:30].unique().tolist() == [200]
    assert torch.cat([resized[:, :10], resized[:, 30:]], dim=1).unique().tolist() == [7]


def test_normalize_is_exact():
    preprocessing = Preprocessing(size=(1, 1), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    frame = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([0.0, 1.0, -3.2]).view(1, 3, 1, 1)
    torch.testing.assert_close(preprocessing.normalize(frame), expected)


def test_size_of_open_clip_may_be_one_number():
    cfg = PreprocessCfg(size=40).__dict__
    assert Preprocessing.from_open_clip(cfg).size == (40, 40)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"interpolation": "nearest"}, "interpolation is 'nearest'.*bicubic"),
        ({"resize_mode": "crop"}, "resize_mode is 'crop'.*shortest"),
    ],
)
def test_unknown_choice_is_refused(option, named):
    with pytest.raises(ValueError, match=named):
        Preprocessing(size=(8, 8), mean=MEAN, std=STD, **option)
