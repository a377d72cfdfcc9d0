import copy
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
from torch import nn

from reelseek.training.lora import add_lora, merged
from reelseek.training.towers import split_image_tower, split_text_tower
from tests.training.test_towers import coca, first, pictures, sentences, small_clip

IMAGE_TOWERS = (
    *("vit", "resnet", "timm mlp", "timm linear", "timm classifier", "eva"),
    *("perception encoder", "timm pooling head"),
)
TRUNKS = {
    **{f"image of {name}": (name, split_image_tower, pictures) for name in IMAGE_TOWERS},
    **{
        f"text of {name}": (name, split_text_tower, lambda clip: sentences())
        for name in ("vit", "coca", "timm mlp")
    },
}

every_trunk = pytest.mark.parametrize("trunk", TRUNKS, indirect=True)


@dataclass(frozen=True)
class Adapted:
    clip: Any
    trunk: nn.Module
    inputs: torch.Tensor


@pytest.fixture
def trunk(request):
    """A model, the trunk of one of its towers, and inputs of it."""
    name, split, inputs = TRUNKS[request.param]
    clip = small_clip(name)
    return Adapted(clip, split(clip)[0], inputs(clip))


def adapters(module):
    return {name: p for name, p in module.named_parameters() if ".lora_" in name}


@torch.no_grad()
def train(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in adapters(module).values():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def encoded(clip):
    return clip.encode_image(pictures(clip)), clip.encode_text(sentences())


@every_trunk
@torch.no_grad()
def test_adapters_start_as_nothing(trunk):
    before = first(trunk.trunk(trunk.inputs))
    add_lora(trunk.trunk, rank=2)
    torch.testing.assert_close(first(trunk.trunk(trunk.inputs)), before, rtol=0, atol=1e-5)
    assert adapters(trunk.trunk)


@every_trunk
def test_adapters_alone_train_and_each_has_a_part(trunk):
    add_lora(trunk.trunk, rank=2)
    train(trunk.trunk)
    training = {name for name, p in trunk.trunk.named_parameters() if p.requires_grad}
    assert training == adapters(trunk.trunk).keys()
    first(trunk.trunk(trunk.inputs)).square().sum().backward()
    for name, parameter in trunk.trunk.named_parameters():
        assert (parameter.grad is not None) == (name in training), name


def test_adapters_have_the_rank_that_is_asked_for():
    trunk, _ = split_image_tower(small_clip("vit"))
    add_lora(trunk, rank=3)
    for name, parameter in adapters(trunk).items():
        assert parameter.shape[0 if ".lora_A." in name else 1] == 3, name


@every_trunk
def test_merged_model_is_the_adapted_one_with_the_names_of_the_original(trunk):
    clip = trunk.clip
    original, plain = encoded(clip), copy.deepcopy(clip)
    shapes = {name: tensor.shape for name, tensor in clip.state_dict().items()}
    add_lora(trunk.trunk, rank=2)
    train(trunk.trunk)
    adapted = encoded(clip)
    changes = [float((a - o).abs().max()) for a, o in zip(adapted, original, strict=True)]
    assert max(changes) > 3e-4
    whole = merged(copy.deepcopy(clip))
    assert {name: tensor.shape for name, tensor in whole.state_dict().items()} == shapes
    assert {type(parameter) for parameter in whole.parameters()} == {nn.Parameter}
    assert {type(module) for module in whole.modules()} == {type(m) for m in plain.modules()}
    plain.load_state_dict(whole.state_dict())
    for output, expected in zip(encoded(plain), adapted, strict=True):
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    for output, expected in zip(encoded(clip), adapted, strict=True):  # was copied, not changed
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


def test_merging_nothing_changes_nothing():
    clip = small_clip("vit")
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    state = merged(clip).state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_adapters_are_in_blocks_and_not_in_the_head():
    clip = small_clip("vit")
    trunk, head = split_image_tower(clip)
    add_lora(trunk, rank=2)
    assert not adapters(head)
    assert all(".resblocks." in name for name in adapters(trunk))
    maps = {name.partition(".lora_")[0] for name in adapters(trunk)}
    # in each of three blocks: both projections of the attention, and two maps of the MLP
    assert len(maps) == 3 * 4
    assert sum(".mlp." in name for name in maps) == 3 * 2


def test_image_tower_whose_attention_has_keys_of_another_width_is_adapted():
    clip = coca(width=32).eval()  # its embeddings have 16 dimensions, as coca_ViT-B-32's 512 of 768
    trunk, _ = split_image_tower(clip)
    add_lora(trunk, rank=2)
    assert any(".resblocks." in name for name in adapters(trunk))


def test_adapters_of_a_map_that_is_used_by_its_weight_alone_have_a_part():
    """EVA-01's attention is given to a functional form with biases of its own."""
    clip = small_clip("eva")
    size = {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 32, "patch_size": 16}
    clip.visual.trunk = timm.create_model("eva_giant_patch14_224", num_classes=16, **size).eval()
    trunk, _ = split_image_tower(clip)
    add_lora(trunk, rank=2)
    train(trunk)
    trunk(pictures(clip)).square().sum().backward()
    dead = [name for name, p in adapters(trunk).items() if p.grad is None]
    assert not dead


def test_tower_without_linear_maps_is_refused():
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(ValueError, match="no linear maps to adapt; train blocks"):
        add_lora(trunk, rank=2)


def test_missing_peft_is_answered_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"pip install 'reelseek\[train\]'"):
        add_lora(split_image_tower(small_clip("vit"))[0], rank=2)


def test_merging_needs_no_peft_where_there_are_no_adapters(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "peft"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "peft", None)
    clip = small_clip("vit")
    assert merged(clip) is clip
