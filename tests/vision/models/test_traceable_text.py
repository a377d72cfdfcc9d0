"""Text towers of plain operations, against open_clip's and transformers' own."""

import json

import open_clip
import pytest
import torch

from reelseek.vision.models.sentence_tower import SentenceTower, register_mpnet
from reelseek.vision.models.traceable_text import TransformerTower, traceable_text_tower
from tests.vision.conftest import TINY_CFG

# What each open_clip kind says of its text tower, and whether less padding leaves it the same.
TRANSFORMERS = {
    "CLIP": ({}, True),
    "CLIP by its end token": ({"pool_type": "eos", "eos_id": 99}, True),
    "QuickGELU and biased projection": ({"proj_bias": True, "quick_gelu": True}, True),
    "SigLIP": ({"no_causal_mask": True, "pool_type": "last", "proj_bias": True}, False),
    "layer scale": ({"ls_init_value": 0.5}, True),
}
NETWORKS = {
    "bert": {"type_vocab_size": 2, "pad_token_id": 0},
    "mpnet": {"pad_token_id": 1, "relative_attention_num_buckets": 32},
    "xlm-roberta": {"type_vocab_size": 1, "pad_token_id": 1},
}
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "hidden_act": "gelu",
}


def small_model(kind, **text_cfg):
    config = {
        name: dict(value) if isinstance(value, dict) else value for name, value in TINY_CFG.items()
    }
    config["text_cfg"] |= {"vocab_size": 100, "layers": 2, **text_cfg}
    quick_gelu = config["text_cfg"].pop("quick_gelu", False)
    return kind(**config, quick_gelu=quick_gelu).eval()


def of_transformers(tmp_path, model_type, **text_cfg):
    """An open_clip model whose text tower is one of transformers, with random weights."""
    register_mpnet()
    description = {"model_type": model_type, **SIZES, **NETWORKS[model_type]}
    (tmp_path / "config.json").write_text(json.dumps(description))
    text_cfg = {
        "hf_model_name": str(tmp_path),
        "hf_tokenizer_name": "",
        "hf_model_pretrained": False,
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        **text_cfg,
    }
    clip = open_clip.CustomTextCLIP(16, TINY_CFG["vision_cfg"], text_cfg).eval()
    for parameter in clip.text.parameters():  # biases of 0 would hide mistakes
        parameter.data.normal_(std=0.3)
    return clip


def tokens(lengths, *, padding, end=99, columns=16):
    """Random words, an end token and padding."""
    rows = torch.full((len(lengths), columns), padding)
    for row, length in zip(rows, lengths, strict=True):
        row[: length - 1] = torch.randint(5, end, (length - 1,))
        row[length - 1] = end
    return rows


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.inference_mode()
def test_features_are_open_clips_own(kind, name):
    text_cfg, any_length = TRANSFORMERS[name]
    clip = small_model(kind, **text_cfg)
    tower = traceable_text_tower(clip)
    assert isinstance(tower, TransformerTower) and tower.any_length == any_length
    given = tokens([2, 9, 16], padding=0)
    torch.testing.assert_close(tower(given), clip.encode_text(given), rtol=0, atol=1e-5)
    short = tokens([2, 9], padding=0)
    if any_length:
        torch.testing.assert_close(tower(short[:, :9]), tower(short), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", NETWORKS)
@pytest.mark.parametrize("projection", ["linear", "mlp"])
@torch.inference_mode()
def test_features_are_those_of_transformers(tmp_path, model_type, projection):
    clip = of_transformers(tmp_path, model_type, hf_proj_type=projection)
    tower = traceable_text_tower(clip)
    assert isinstance(tower, SentenceTower) and tower.any_length
    given = tokens([2, 9, 50], padding=tower.padding, columns=60)
    expected = clip.encode_text(given)
    torch.testing.assert_close(tower(given), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tower(given[:2, :9]), expected[:2], rtol=1e-4, atol=1e-5)


def test_towers_of_other_kinds_are_left_to_pytorch(tmp_path):
    assert (
        traceable_text_tower(of_transformers(tmp_path, "bert", hf_pooler_type="cls_pooler")) is None
    )
    assert traceable_text_tower(small_model(open_clip.CustomTextCLIP, embed_cls=True)) is None
    assert traceable_text_tower(torch.nn.Linear(2, 2)) is None
