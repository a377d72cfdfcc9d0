"""The text tower as OpenVINO compiles it, its 8-bit weights, and its cache."""

import logging
import sys
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from reelseek.vision.models import openvino_models, openvino_text
from reelseek.vision.models.openvino_text import compile_text_tower
from tests.vision.models.test_openvino_tower import cache, conversions, openvino  # noqa: F401
from tests.vision.models.test_traceable_text import of_transformers, small_model, tokens

pytestmark = pytest.mark.usefixtures("openvino", "cache")


def as_model(colour_model, clip, *, fingerprint=""):
    def tokenize(sentences, context_length=16):
        """A word a token; 99 ends, and the tower's own token pads."""
        rows = torch.full((len(sentences), context_length), padding)
        for row, sentence in zip(rows, sentences, strict=True):
            words = [*[5 + len(word) for word in sentence.split()][: context_length - 1], 99]
            row[: len(words)] = torch.tensor(words)
        return rows

    config = getattr(getattr(clip, "text", None), "config", None)
    padding = getattr(config, "pad_token_id", 0)
    return replace(
        colour_model, clip=clip, tokenize=tokenize, context_length=16, fingerprint=fingerprint
    )


@pytest.fixture
def clip():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_model(open_clip.CLIP)


KINDS = {
    "CLIP": lambda folder: small_model(open_clip.CLIP),
    "SigLIP": lambda folder: small_model(
        open_clip.CustomTextCLIP, no_causal_mask=True, pool_type="last", proj_bias=True
    ),
    **{
        name: lambda folder, name=name: of_transformers(folder, name)
        for name in ("bert", "mpnet", "xlm-roberta")
    },
}


@pytest.mark.parametrize("precision", ["f32", "bf16", "u8"])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_features_are_pytorchs_for_any_number_and_length(tmp_path, colour_model, kind, precision):
    clip = KINDS[kind](tmp_path)
    model = as_model(colour_model, clip)
    tower = compile_text_tower(model, precision=precision)
    for lengths in ([2], [3, 16, 7], [5] * 40):
        given = tokens(lengths, padding=int(model.tokenize([""])[0, -1]))
        found = torch.from_numpy(tower(given.numpy()))
        assert float(F.cosine_similarity(found, clip.encode_text(given)).min()) > 0.999


@torch.inference_mode()
def test_word_that_looks_like_padding_is_read(colour_model, clip):
    """CLIP pads with token 0, which is also that of "!" inside a word."""
    tower = compile_text_tower(as_model(colour_model, clip))
    given = torch.zeros(1, 16, dtype=torch.int64)
    given[0, 9:11] = torch.tensor([7, 99])
    found = torch.from_numpy(tower(given.numpy()))
    assert float(F.cosine_similarity(found, clip.encode_text(given))) > 0.999


@pytest.mark.parametrize(
    ("num_elements", "has_bf16", "precision"),
    [(85_000_000, True, "u8"), (38_000_000, True, "bf16"), (85_000_000, False, "f32")],
)
def test_only_weights_that_take_long_to_read_are_in_8_bits(num_elements, has_bf16, precision):
    class Tower(torch.nn.Module):
        layers = torch.nn.ModuleList([torch.nn.Linear(num_elements, 1, bias=False, device="meta")])

    assert openvino_text.fastest_precision(Tower(), has_bf16=has_bf16) == precision


def test_8_bits_are_within_half_a_step():
    weight = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    weight[3], weight[4] = 0.0, np.abs(weight[4])  # no spread at all; no zero inside
    codes, zero, scale = openvino_text._quantize(weight, axis=1)
    assert codes.dtype == zero.dtype == np.uint8 and scale.shape == (20, 1)
    error = np.abs((codes.astype(np.float32) - zero) * scale - weight)
    assert (error <= scale * 1.001).all() and (error[3] == 0).all()
    assert float(np.median(error / scale)) < 0.3


def test_weights_of_8_bits_take_a_quarter(colour_model, clip, openvino, tmp_path):  # noqa: F811
    clip = of_transformers(tmp_path, "mpnet")
    tower = openvino_text.traceable_text_tower(clip)
    converted = openvino_models.convert(openvino, tower, tokens([3, 9], padding=1)[:, :9])

    def types():
        nodes = [node for node in converted.get_ordered_ops() if node.get_type_name() == "Constant"]
        return [str(node.get_element_type()) for node in nodes if node.data.size >= 1000]

    before = types()
    assert all("uint8" not in each for each in before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_text, "_MIN_COMPRESSED", 1000)
        openvino_text.compress_weights(openvino, converted)
    # Four of attention and two of the network in each of two layers: all that are linear.
    assert sum("uint8_t" in each or "u8" in each for each in types()) == 12


def test_model_is_converted_once(colour_model, clip, conversions, cache, caplog):  # noqa: F811
    model = as_model(colour_model, clip, fingerprint="abc")
    first = compile_text_tower(model)
    assert "preparing the text tower of model=colours" in caplog.text
    caplog.clear()
    second = compile_text_tower(model)
    assert caplog.text == ""
    assert len(conversions) == 1 and len(list(cache.iterdir())) == 1
    given = tokens([4, 8], padding=0).numpy()
    # What is kept has half the digits; the first run uses it too.
    np.testing.assert_allclose(first(given), second(given), rtol=0, atol=1e-5)
    compile_text_tower(replace(model, fingerprint="other"))
    assert len(conversions) == 2


def test_tower_that_comes_out_wrong_is_left_to_pytorch(colour_model, clip, monkeypatch, caplog):
    monkeypatch.setattr(openvino_text, "MIN_COSINE", 1.1)
    with caplog.at_level(logging.INFO):
        assert compile_text_tower(as_model(colour_model, clip)) is None
    assert "PyTorch runs it" in caplog.text


def test_pytorch_runs_what_openvino_cannot(colour_model, monkeypatch):
    assert compile_text_tower(colour_model) is None
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert compile_text_tower(as_model(colour_model, small_model(open_clip.CLIP))) is None
