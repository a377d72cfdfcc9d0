"""Dense layers in 8 bits: which they are, what they compute, and what becomes of a bad tower."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import reelseek.vision.models.openvino_models as openvino_models
import reelseek.vision.models.quantization as quantization
from reelseek.vision import FrameEncoder, FrameSettings, UniformSampler, iter_frames
from reelseek.vision.models.calibration_frames import draw_frames
from reelseek.vision.models.openvino_models import compile_model
from reelseek.vision.models.openvino_tower import OpenVinoTower
from reelseek.vision.models.quantization import quantize_dense_layers
from tests.vision.models.test_encoding import noisy_pictures
from tests.vision.models.test_openvino_tower import (  # noqa: F401
    SIZE,
    cache,
    conversions,
    openvino,
    tiny_model,
)


class ThreeKinds(nn.Module):
    """A first, a depthwise and a dense convolution, and a matrix."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 32, 3, stride=2)
            self.depthwise = nn.Conv2d(32, 32, 3, groups=32)
            self.dense = nn.Conv2d(32, 48, 1)
            self.matrix = nn.Linear(48, 40)

    def forward(self, pixels):
        features = self.depthwise(self.first(pixels.float() / 255).relu()).relu()
        return self.matrix(self.dense(features).relu().mean(dim=(2, 3)))


def quantized(frames, *, has_vnni=True):
    model = openvino_models.convert(
        openvino_models.import_openvino(),
        ThreeKinds().eval(),
        torch.zeros((1, 3, *SIZE), dtype=torch.uint8),
    )
    model.reshape([-1, 3, *SIZE])
    return quantize_dense_layers(
        model,
        frames,
        compile_model=lambda watched: compile_model(watched, precision="f32"),
        has_vnni=has_vnni,
    )


def int8_weights(model):
    constants = [op.get_data() for op in model.get_ops() if op.get_type_name() == "Constant"]
    return [each for each in constants if each.dtype == np.int8]


@pytest.mark.parametrize(("has_vnni", "largest"), [(True, 127), (False, 63)])
def test_dense_layers_alone_have_8_bit_weights(openvino, has_vnni, largest):  # noqa: F811
    weights = int8_weights(quantized(draw_frames(2, SIZE), has_vnni=has_vnni))
    assert sorted(each.shape for each in weights) == [(40, 48), (48, 32, 1, 1)]
    for each in weights:  # each output channel uses the whole range
        assert (np.abs(each).reshape(len(each), -1).max(axis=1) == largest).all()


def test_outputs_agree_and_their_mean_is_not_shifted(openvino):  # noqa: F811
    frames = np.concatenate([draw_frames(8, SIZE), noisy_pictures(8, SIZE).numpy()])
    model = quantized(frames, has_vnni=False)
    outputs = compile_model(model, precision="f32")([frames])[0]
    with torch.inference_mode():
        expected = ThreeKinds().eval()(torch.from_numpy(frames)).numpy()
    errors = outputs - expected
    assert 0 < np.abs(errors).max() < 0.05 * np.abs(expected).max()
    corrections = [op for op in model.get_ops() if op.get_type_name() == "Subtract"]
    last = corrections[-1].input_value(1).get_node().get_data()
    # What is subtracted is most of the mean error.
    assert np.abs(errors.mean(axis=0)).mean() < 0.5 * np.abs(errors.mean(axis=0) + last).mean()


def test_calibration_frames_are_always_the_same_and_all_differ():
    frames = draw_frames(3, (24, 40))
    assert (frames.shape, frames.dtype) == ((3, 3, 24, 40), np.uint8)
    assert np.array_equal(frames, draw_frames(3, (24, 40)))
    assert len(np.unique(frames.reshape(3, -1), axis=0)) == 3
    assert frames.std(axis=(1, 2, 3)).min() > 20


# The tower of an encoder


def test_tower_is_quantised_once_and_read_by_the_next(
    openvino, cache, conversions, tiny_model  # noqa: F811
):  # fmt: skip
    pixels = noisy_pictures(80, SIZE)
    reference = FrameEncoder(tiny_model, device="cpu", precision="fp32").encode(pixels)
    for _ in range(2):
        encoder = FrameEncoder(tiny_model, device="cpu", precision="int8", compiled=True)
        embeddings = encoder.encode(pixels)
        assert (encoder.engine, encoder.precision) == ("openvino", "int8")
        assert float(F.cosine_similarity(embeddings, reference).min()) >= 0.985
        # The tower was checked meanwhile: these come from 8 bits.
        assert not torch.allclose(encoder.encode(pixels[:4]), reference[:4], atol=1e-4)
    assert len(conversions) == len(list(cache.iterdir())) == 2  # int8, and what it is checked by


@pytest.mark.model
@pytest.mark.shared
def test_8_bits_of_mini_agree_with_fp32_on_real_frames(openvino, mini, shared_data):  # noqa: F811
    videos = sorted((shared_data / "captioned" / "msrvtt_1ka").glob("*.mp4"))[:40:2]
    settings = FrameSettings(UniformSampler(4), mini.preprocessing)
    pixels = torch.cat([next(iter_frames(video, settings)).pixels for video in videos])
    reference = FrameEncoder(mini, device="cpu", precision="fp32").encode(pixels)
    # By name: `auto` takes bf16 for this tower where the processor has instructions for it.
    encoder = FrameEncoder(mini, device="cpu", precision="int8", compiled=True)
    encoder.encode(pixels)
    assert encoder.precision == "int8"
    cosines = F.cosine_similarity(encoder.encode(pixels), reference)
    assert 0.995 <= float(cosines.mean()) < 0.9999  # 8 bits, not the exact tower
    assert float(cosines.quantile(0.05)) >= 0.985


@pytest.mark.parametrize("damage", [b"", b"garbage" * 100])
def test_damaged_quantised_files_are_made_anew(
    openvino, cache, conversions, damage  # noqa: F811
):  # fmt: skip
    def encode(pixels):
        example = torch.zeros((2, 3, *SIZE), dtype=torch.uint8)
        tower = OpenVinoTower(
            ThreeKinds().eval(),
            example,
            dtype=torch.float32,
            int8=True,
            num_streams=1,
            cache_key="key",
        )
        return tower(pixels)

    pixels = noisy_pictures(3, SIZE)
    expected = encode(pixels)
    (folder,) = cache.iterdir()
    for path in folder.iterdir():
        path.write_bytes(damage)
    assert torch.equal(encode(pixels), expected)
    assert len(conversions) == 2
    assert torch.equal(encode(pixels), expected)
    assert len(conversions) == 2


def test_bad_quantised_tower_is_not_used_and_the_log_says_so(
    openvino, tiny_model, monkeypatch, caplog  # noqa: F811
):  # fmt: skip
    # Weights of -1, 0 and 1 are too coarse.
    monkeypatch.setattr(quantization, "_MAX_WEIGHT", {True: 1, False: 1})
    pixels = noisy_pictures(100, SIZE)
    reference = FrameEncoder(tiny_model, device="cpu", precision="fp32").encode(pixels)
    encoder = FrameEncoder(tiny_model, device="cpu", precision="int8", compiled=True)
    with caplog.at_level(logging.WARNING):
        embeddings = encoder.encode(pixels)
    assert encoder.precision != "int8"
    assert float(F.cosine_similarity(embeddings, reference).min()) >= 0.99
    assert [r.getMessage()[:26] for r in caplog.records] == ["precision=int8 is not used"]


def test_int8_is_refused_where_it_cannot_run(tiny_model, monkeypatch):  # noqa: F811
    with pytest.raises(ValueError, match=r"^precision=int8: .*compiled tower; use auto$"):
        FrameEncoder(tiny_model, device="cpu", precision="int8")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^precision=int8: needs OpenVINO; pip install"):
        FrameEncoder(tiny_model, device="cpu", precision="int8", compiled=True)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(ValueError, match=r"^precision=int8: needs an x86 processor"):
        FrameEncoder(tiny_model, device="cpu", precision="int8", compiled=True)
    assert FrameEncoder(tiny_model, device="cpu", compiled=True).precision != "int8"
