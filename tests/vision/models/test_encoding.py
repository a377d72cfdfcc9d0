import copy
from dataclasses import replace

import open_clip
import pytest
import torch
from torch.nn import functional as F

import reelseek.vision.models.openvino_tower
from reelseek.vision import (
    FrameEncoder,
    Preprocessing,
    choose_device,
    choose_precision,
    make_pooling,
    mean_pool,
)
from reelseek.vision.models.encoding import _is_faster_in_int8
from tests.conftest import COLOURS
from tests.vision.conftest import TINY_CFG

CPU = torch.device("cpu")


def noisy_pictures(count, size, seed=0):
    """Blurred noise, each picture with a tint of its own: `(count, 3, *size)` uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    fine = torch.rand(count, 3, *size, generator=generator)
    smooth = F.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (255 * (0.85 * smooth + 0.15 * fine)).to(torch.uint8)


def tiny_clip():
    return open_clip.CLIP(**TINY_CFG)


def tiny_coca():
    """Its image tower gives two tensors: the features of the image and those of its patches."""
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    return open_clip.CoCa(
        embed_dim=16,
        vision_cfg=TINY_CFG["vision_cfg"] | pooled,
        text_cfg=TINY_CFG["text_cfg"] | {"embed_cls": True, "output_tokens": True},
        multimodal_cfg=TINY_CFG["text_cfg"],
    )


@pytest.mark.parametrize("build_clip", [tiny_clip, tiny_coca])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 0.02)])
def test_embedding_is_that_of_encode_image(colour_model, build_clip, precision, tolerance):
    torch.manual_seed(0)
    clip = build_clip().eval()
    preprocessing = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = replace(colour_model, clip=clip, preprocessing=preprocessing)
    pixels = noisy_pictures(9, (32, 32))
    with torch.inference_mode():
        expected = clip.encode_image(preprocessing.normalize(pixels), normalize=True)
    embeddings = FrameEncoder(model, device="cpu", precision=precision).encode(pixels)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=tolerance)
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}


def test_embedding_is_what_the_model_says_normalised(colour_encoder):
    pixels = torch.tensor(list(COLOURS.values()), dtype=torch.uint8)[:, :, None, None]
    embeddings = colour_encoder.encode(pixels.expand(-1, -1, 16, 16))
    expected = torch.tensor([[220.0, 30, 30], [30, 200, 30], [30, 30, 220]])
    torch.testing.assert_close(embeddings, F.normalize(expected, dim=-1))
    assert embeddings.dtype == torch.float32


@pytest.mark.parametrize("num_frames", [1, 7, 8, 9, 33])
def test_batching_does_not_change_what_is_encoded(colour_encoder, num_frames):
    pixels = noisy_pictures(num_frames, (16, 16))
    together = colour_encoder.encode(pixels)
    one_by_one = torch.cat([colour_encoder.encode(frame[None]) for frame in pixels])
    assert together.shape == (num_frames, 3)
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-6)


@pytest.mark.model
def test_batching_does_not_change_what_mini_encodes(mini):
    encoder = FrameEncoder(mini, device="cpu", precision="fp32")
    pixels = noisy_pictures(11, mini.preprocessing.size)
    together = encoder.encode(pixels)
    one_by_one = torch.cat([encoder.encode(frame[None]) for frame in pixels])
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(11))
    # Not all the same, which would make the comparison empty.
    assert float((together @ together.T).min()) < 0.95


@pytest.mark.model
def test_bf16_agrees_with_fp32(mini):
    pixels = noisy_pictures(12, mini.preprocessing.size, seed=1)
    reference = FrameEncoder(mini, device="cpu", precision="fp32").encode(pixels)
    bf16 = FrameEncoder(mini, device="cpu", precision="bf16").encode(pixels)
    assert bf16.dtype == torch.float32
    assert not torch.equal(bf16, reference)
    assert float((bf16 * reference).sum(dim=-1).min()) >= 0.995


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", "cpu:x"])
def test_device_that_is_not_there_is_refused_with_the_remedy(device):
    with pytest.raises(ValueError, match=f"device={device} .*use auto or cpu"):
        choose_device(device)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("precision", ["fp16", "", "BF16"])
def test_unknown_precision_is_refused_with_those_known(precision):
    with pytest.raises(ValueError, match=f"precision={precision}: .*auto, int8, bf16, fp32"):
        choose_precision(precision, CPU)


def test_precision_that_is_named_is_taken():
    assert choose_precision("fp32", CPU) == torch.float32
    assert choose_precision("bf16", CPU) == torch.bfloat16


@pytest.mark.parametrize(
    ("has_avx512", "has_amx", "dtype"),
    [
        (False, False, torch.float32),
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
    ],
)
def test_auto_is_bf16_where_the_processor_computes_in_it(monkeypatch, has_avx512, has_amx, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert choose_precision("auto", CPU) == dtype


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bf16_where_the_gpu_computes_in_it(monkeypatch, native, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_precision("auto", torch.device("cuda")) == dtype


def tiny_model(colour_model, build_clip):
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    clip = build_clip().eval()
    return replace(colour_model, clip=clip, embedding_dim=16, preprocessing=preprocessing)


def trunk_of(clip):
    """A copy of the image tower less its last projection."""
    trunk = copy.deepcopy(clip.visual)
    trunk.proj = None
    return trunk


@pytest.mark.parametrize(("build_clip", "num_features"), [(tiny_clip, 32), (tiny_coca, 16)])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 0.05)])
def test_trunk_gives_features_that_are_not_normalised(
    colour_model, build_clip, num_features, precision, tolerance
):
    model = tiny_model(colour_model, build_clip)
    trunk = trunk_of(model.clip)
    encoder = FrameEncoder(model, device="cpu", precision=precision, trunk=trunk)
    pixels = noisy_pictures(9, (32, 32))
    features = encoder.encode(pixels)
    assert features.shape == (9, num_features)
    assert encoder.embedding_dim == num_features
    assert features.dtype == torch.float32
    assert float((features.norm(dim=-1) - 1).abs().min()) > 0.5
    expected = FrameEncoder(model, device="cpu", precision="fp32").encode(pixels)
    embeddings = F.normalize(features @ model.clip.visual.proj.detach(), dim=-1)
    torch.testing.assert_close(embeddings, expected, rtol=0, atol=tolerance)
    assert {parameter.dtype for parameter in trunk.parameters()} == {torch.float32}


def test_compiled_trunk_is_not_taken_for_the_compiled_tower(colour_model, monkeypatch):
    compiled = []  # in place of OpenVINO, which takes seconds

    def keep(tower, example, *, dtype, num_streams, cache_key, int8=False):
        compiled.append((cache_key, int8))
        return tower

    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(reelseek.vision.models.openvino_tower, "OpenVinoTower", keep)
    model = tiny_model(colour_model, tiny_clip)
    pixels = noisy_pictures(5, (32, 32))
    for trunk in (None, trunk_of(model.clip)):
        encoder = FrameEncoder(model, device="cpu", compiled=True, trunk=trunk)
        assert encoder.engine == "openvino"
        plain = FrameEncoder(model, device="cpu", precision="fp32", trunk=trunk)
        torch.testing.assert_close(encoder.encode(pixels), plain.encode(pixels))
    exact, quantized, trunks = compiled
    assert (exact, quantized) == ((model.fingerprint, False), (model.fingerprint, True))
    assert trunks[0] != model.fingerprint
    assert not trunks[1]  # `auto` takes no 8 bits for what is trained on


@pytest.mark.parametrize("num_frames", [1, 6, 20])
def test_stretch_is_pooled_as_the_model_pools(colour_model, num_frames):
    torch.manual_seed(0)
    options = {"kind": "transformer", "num_layers": 1, "num_heads": 1, "max_frames": 8}
    pooling = make_pooling(options, embedding_dim=3).eval()
    torch.nn.init.normal_(pooling.out.weight)
    encoder = FrameEncoder(replace(colour_model, pooling=pooling), device="cpu")
    frames = F.normalize(torch.randn(num_frames, 3), dim=-1)
    pooled = encoder.pool(frames)
    assert pooled.shape == (3,)
    assert not pooled.requires_grad
    torch.testing.assert_close(pooled, pooling(frames[None])[0].detach())
    assert not torch.allclose(pooled, mean_pool(frames), atol=1e-3)


def test_stretch_is_pooled_by_the_mean_where_nothing_was_trained(colour_encoder):
    frames = F.normalize(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(colour_encoder.pool(frames), mean_pool(frames))


@pytest.mark.parametrize(
    "groups, dtype, is_faster",
    [
        (4, torch.float32, True),
        (4, torch.bfloat16, False),
        (1, torch.float32, True),
        (1, torch.bfloat16, True),
    ],
)
def test_auto_is_int8_for_what_gains_from_it(monkeypatch, groups, dtype, is_faster):
    tower = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=groups), torch.nn.Linear(4, 4))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert _is_faster_in_int8(tower, dtype) == is_faster
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not _is_faster_in_int8(tower, dtype)
