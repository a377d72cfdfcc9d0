import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from reelseek.vision import Preprocessing, UncroppedFrame
from reelseek.vision.decoding.orientation import square

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


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("pixel_aspect", [2.0, 0.5, 4 / 3])
@pytest.mark.parametrize("size", [SQUARE, WIDE, TALL], ids=str)
def test_pixels_that_are_not_square_are_resized_as_those_that_are(resize_mode, pixel_aspect, size):
    y, x = torch.meshgrid(torch.arange(144) / 144, torch.arange(192) / 192, indexing="ij")
    smooth = torch.stack([x, y, (6 * x).sin() * (4 * y).cos() / 2 + 0.5])
    stored = (255 * smooth).to(torch.uint8)  # (3, 144, 192)
    preprocessing = Preprocessing(size=size, mean=MEAN, std=STD, resize_mode=resize_mode)
    resized = preprocessing.resize(stored, pixel_aspect)
    if resize_mode == "shortest":  # would be cut: no longer than 4:3 of the model's shape
        least, most = (edge * (size[1] / size[0]) / (192 / 144) for edge in (3 / 4, 4 / 3))
        pixel_aspect = max(pixel_aspect, min(1, least))
        pixel_aspect = min(pixel_aspect, max(1, most))
    expected = preprocessing.resize(square(stored, pixel_aspect))
    assert resized.shape == expected.shape == (3, *size)
    assert (resized.float() - expected.float()).abs().mean() < 2


@pytest.mark.parametrize(
    ("shape", "pixel_aspect", "same_as"),
    [
        ((90, 120), 4 / 3, (90, 120)),  # 16:9 stored as 4:3: as it is stored
        ((90, 100), 1.6, (90, 120)),  # 16:9 stored narrower: to 4:3
        ((90, 100), 1.1, (90, 110)),  # to less than 4:3: as it is meant to be seen
        ((90, 160), 4 / 3, (90, 160)),  # longer than 4:3 already
        ((120, 90), 0.5, (120, 90)),
        ((120, 90), 4 / 3, (120, 120)),
    ],
)
def test_picture_that_is_cut_is_stretched_to_four_thirds_at_most(shape, pixel_aspect, same_as):
    height, width = shape
    ramp = (torch.arange(width) * 255 / (width - 1)).to(torch.uint8).expand(3, height, width)
    preprocessing = Preprocessing(size=(60, 60), mean=MEAN, std=STD, interpolation="bilinear")
    as_meant = torch.nn.functional.interpolate(
        ramp[None].float(), size=same_as, mode="bilinear", antialias=True
    )
    expected = preprocessing.resize(as_meant.round().to(torch.uint8)[0])
    resized = preprocessing.resize(ramp, pixel_aspect)
    assert (resized.float() - expected.float()).abs().max() <= 3


# Whole pictures


@pytest.mark.parametrize(
    ("height", "width", "pixel_aspect", "expected"),
    [
        (90, 160, 1.0, (90, 160)),
        (180, 320, 1.0, (112, 200)),
        (320, 180, 1.0, (200, 112)),
        (90, 120, 4 / 3, (90, 160)),
        (90, 160, 0.5, (180, 160)),
        (300, 400, 2.0, (75, 200)),
        (1, 4000, 1.0, (1, 200)),
    ],
)
def test_whole_picture_keeps_its_shape_and_is_made_smaller_only(
    height, width, pixel_aspect, expected
):
    frames = torch.from_numpy(picture(height, width)).permute(2, 0, 1)
    resized = UncroppedFrame(longest_pixels=200).resize(frames, pixel_aspect)
    assert (resized.dtype, tuple(resized.shape)) == (torch.uint8, (3, *expected))
    difference = resized.float().mean(dim=(1, 2)) - frames.float().mean(dim=(1, 2))
    assert float(difference.abs().max()) < 2


def test_picture_that_is_small_enough_is_not_touched():
    frames = torch.from_numpy(picture(90, 160)).permute(2, 0, 1)
    assert UncroppedFrame().resize(frames) is frames


def test_picture_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="longest_pixels is 0"):
        UncroppedFrame(0)
