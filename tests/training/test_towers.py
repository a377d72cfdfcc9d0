import copy
import functools
import itertools

import open_clip
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, RobertaConfig

from reelseek.text import strip_padding
from reelseek.training.towers import (
    split_image_tower,
    split_text_tower,
    trunk_fingerprint,
    trunk_layers,
)

VISION_CFG = {"image_size": 32, "layers": 3, "width": 32, "patch_size": 16, "head_width": 16}
TEXT_CFG = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 3}
RESNET_CFG = {"image_size": 64, "layers": (1, 1, 1, 2), "width": 8, "head_width": 32}
EMBED_DIM = 16


def timm_clip(name, proj, pool):
    vision_cfg = {"timm_model_name": name, "timm_proj": proj, "timm_pool": pool, "image_size": 160}
    return open_clip.CustomTextCLIP(EMBED_DIM, vision_cfg, TEXT_CFG)


def eva_clip(name):
    """Of the shape of EVA and the Perception Encoder, whose classifier is the projection."""
    clip = timm_clip("test_vit", "", "token")
    size = {"depth": 3, "embed_dim": 32, "num_heads": 2, "img_size": 32, "patch_size": 16}
    clip.visual.trunk = timm.create_model(name, num_classes=EMBED_DIM, **size)
    clip.visual.image_size = (32, 32)
    return clip


def coca(width=32):
    pooled = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    return open_clip.CoCa(
        embed_dim=EMBED_DIM,
        vision_cfg=VISION_CFG | pooled | {"width": width},
        text_cfg=TEXT_CFG | {"embed_cls": True, "output_tokens": True},
        multimodal_cfg={"context_length": 16, "width": 32, "heads": 2, "layers": 1},
    )


BUILDERS = {
    "vit": lambda: open_clip.CLIP(EMBED_DIM, VISION_CFG, TEXT_CFG),
    "vit, biased text": lambda: open_clip.CLIP(
        EMBED_DIM, VISION_CFG, TEXT_CFG | {"proj_bias": True}
    ),
    "resnet": lambda: open_clip.CLIP(EMBED_DIM, RESNET_CFG, TEXT_CFG),
    "timm mlp": lambda: timm_clip("test_efficientnet", "mlp", "avg"),
    "timm linear": lambda: timm_clip("test_vit", "linear", "token"),
    "timm none": lambda: timm_clip("test_efficientnet", "none", "avg"),
    "timm classifier": lambda: timm_clip("test_vit", "", "token"),
    "eva": lambda: eva_clip("eva02_base_patch16_clip_224"),
    "perception encoder": lambda: eva_clip("vit_pe_core_tiny_patch16_384"),
    "coca": coca,
    # Its classifier pools besides, as that of MobileCLIP's FastViT.
    "timm pooling head": lambda: timm_clip("test_convnext", "", "avg"),
}
HEADLESS = ("resnet", "timm none", "timm pooling head")


@functools.cache
def built(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = BUILDERS[name]().eval()
        with torch.no_grad():
            for parameter in clip.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape))
            clip.logit_scale.fill_(2.0)
    return clip


def small_clip(name):
    """A model of random weights, none of them zero, so that each matters."""
    return copy.deepcopy(built(name))


def pictures(clip, count=3):
    size = clip.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def sentences(count=3):
    """`(count, 16)` tokens, of different lengths, the highest at the end, as in CLIP."""
    tokens = torch.randint(1, 98, (count, 16), generator=torch.Generator().manual_seed(2))
    for i, row in enumerate(tokens):
        row[4 + 3 * i % 12] = 99
        row[5 + 3 * i % 12 :] = 0
    return tokens


def first(output):
    return output[0] if isinstance(output, tuple) else output


def towers_of(clip):
    """Each tower of a model: itself, its two parts, and what it takes."""
    return {
        "image": (lambda x: first(clip.visual(x)), split_image_tower(clip), pictures(clip)),
        "text": (
            lambda x: clip.encode_text(x, normalize=True),
            split_text_tower(clip),
            sentences(),
        ),
    }


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_head_of_the_trunk_is_the_tower(name, side):
    tower, (trunk, head), inputs = towers_of(small_clip(name))[side]
    output = head(first(trunk(inputs)))
    output = F.normalize(output, dim=-1) if side == "text" else output
    assert torch.equal(output, tower(inputs))
    assert float(output.std(dim=0).min()) > 0  # else all inputs look alike


@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_trunk_gives_one_vector_of_features_for_each_input(name):
    clip = small_clip(name)
    for _, (trunk, head), inputs in towers_of(clip).values():
        features = first(trunk(inputs))
        assert features.dim() == 2
        in_batches = head(features.expand(2, 3, -1))  # frames of videos
        torch.testing.assert_close(in_batches[1], head(features), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_parts_share_their_parameters_with_the_model_and_none_with_each_other(name):
    clip = small_clip(name)
    of_model = {id(parameter) for parameter in clip.parameters()}
    for trunk, head in (split_image_tower(clip), split_text_tower(clip)):
        in_trunk = {id(parameter) for parameter in trunk.parameters()}
        in_head = {id(parameter) for parameter in head.parameters()}
        assert in_trunk | in_head <= of_model
        assert not in_trunk & in_head
    image_parameters = {id(parameter) for parameter in clip.visual.parameters()}
    trunk, head = split_image_tower(clip)
    assert {id(p) for p in (*trunk.parameters(), *head.parameters())} == image_parameters


@pytest.mark.parametrize("name", BUILDERS)
def test_all_of_a_text_tower_is_in_its_parts_and_nothing_else(name):
    clip = small_clip(name)
    clip.encode_text(sentences()).square().sum().backward()
    used = {id(parameter) for parameter in clip.parameters() if parameter.grad is not None}
    trunk, head = split_text_tower(clip)
    assert {id(p) for p in (*trunk.parameters(), *head.parameters())} == used


@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("part", [0, 1], ids=["trunk", "head"])
@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_to_train_a_part_is_to_train_the_model(name, part, side):
    clip = small_clip(name)
    tower, parts, inputs = towers_of(clip)[side]
    before = tower(inputs)
    for parameter in parts[part].parameters():
        parameter.mul_(1.5).add_(0.1)
    if side == "image" and part == 1 and name in HEADLESS:
        assert isinstance(parts[1], nn.Identity)
        assert torch.equal(tower(inputs), before)
    else:
        assert not torch.allclose(tower(inputs), before, atol=1e-4)
        output = parts[1](first(parts[0](inputs)))
        output = F.normalize(output, dim=-1) if side == "text" else output
        assert torch.equal(output, tower(inputs))


@pytest.mark.parametrize("name", BUILDERS)
@torch.no_grad()
def test_model_is_left_as_it_was(name):
    clip = small_clip(name)
    names, images, texts = list(clip.state_dict()), pictures(clip), sentences()
    before = clip.encode_image(images), clip.encode_text(texts)
    split_image_tower(clip), split_text_tower(clip)
    assert list(clip.state_dict()) == names
    assert torch.equal(clip.encode_image(images), before[0])
    assert torch.equal(clip.encode_text(texts), before[1])


TEXT_BLOCKS = {"vit": lambda clip: clip.transformer.resblocks}
IMAGE_BLOCKS = {
    "vit": lambda clip: clip.visual.transformer.resblocks,
    "coca": lambda clip: clip.visual.transformer.resblocks,
    "resnet": lambda clip: clip.visual.layer4,
    "timm mlp": lambda clip: clip.visual.trunk.blocks,
    "timm linear": lambda clip: clip.visual.trunk.blocks,
    "timm classifier": lambda clip: clip.visual.trunk.blocks,
    "eva": lambda clip: clip.visual.trunk.blocks,
    "perception encoder": lambda clip: clip.visual.trunk.blocks,
    "timm pooling head": lambda clip: clip.visual.trunk.stages,
}


def assert_layers_in_order(trunk, inputs, blocks):
    """The oracle is the graph: what lies before a block has a part in what the block gives."""
    layers = trunk_layers(trunk)
    assert len(layers) == len(blocks) + 2
    for layer, block in zip(layers[1:-1], blocks, strict=True):
        assert {id(p) for p in layer} == {id(p) for p in block.parameters()}
    flat = list(itertools.chain(*layers))
    assert len({id(p) for p in flat}) == len(flat)
    assert {id(p) for p in flat} == {id(p) for p in trunk.parameters()}
    names = {id(parameter): name for name, parameter in trunk.named_parameters()}

    outputs = []
    handles = [
        block.register_forward_hook(lambda block, given, output: outputs.append(first(output)))
        for block in blocks
    ]
    trunk(inputs)
    for handle in handles:
        handle.remove()
    for depth, output in enumerate(outputs, start=1):
        gradients = torch.autograd.grad(
            output.square().sum(), flat, allow_unused=True, retain_graph=True
        )
        has_part = {id(p) for p, g in zip(flat, gradients, strict=True) if g is not None}
        up_to_here = {id(p) for layer in layers[: depth + 1] for p in layer}
        differing = {names[number] for number in has_part ^ up_to_here}
        assert not differing, f"block {depth}: {differing}"


@pytest.mark.parametrize("name", IMAGE_BLOCKS)
def test_layers_of_an_image_trunk_go_from_its_input_to_its_output(name):
    clip = small_clip(name)
    trunk, _ = split_image_tower(clip)
    assert_layers_in_order(trunk, pictures(clip), IMAGE_BLOCKS[name](clip))


@pytest.mark.parametrize("name", ["vit", "coca", "timm mlp"])
def test_layers_of_a_text_trunk_go_from_its_input_to_its_output(name):
    clip = small_clip(name)
    trunk, _ = split_text_tower(clip)
    blocks = clip.transformer.resblocks if name == "vit" else clip.text.transformer.resblocks
    assert_layers_in_order(trunk, sentences(), blocks)


def test_trunk_without_blocks_is_one_layer():
    trunk = nn.Conv2d(3, 4, 2)
    assert trunk_layers(trunk) == [[], list(trunk.parameters()), []]


def hf_clip(folder, config, *, proj, embed_dim=EMBED_DIM):
    """A text tower of transformers with random weights, its configuration in a folder."""
    config.save_pretrained(folder)
    text_cfg = {
        "hf_model_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": proj,
        "hf_pooler_type": "mean_pooler",
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return open_clip.CustomTextCLIP(embed_dim, VISION_CFG, text_cfg).eval()


BERT_SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}


@pytest.mark.parametrize(
    ("proj", "embed_dim", "head_type"),
    [("linear", 16, nn.Linear), ("mlp", 16, nn.Sequential), (None, 32, nn.Identity)],
)
def test_text_tower_of_transformers_is_split(tmp_path, proj, embed_dim, head_type):
    clip = hf_clip(tmp_path, BertConfig(**BERT_SIZE), proj=proj, embed_dim=embed_dim)
    trunk, head = split_text_tower(clip)
    assert isinstance(head, head_type)
    with torch.no_grad():
        assert trunk(sentences()).shape == (3, 32)
        assert torch.equal(head(trunk(sentences())), clip.encode_text(sentences()))
        for parameter in head.parameters():
            parameter.mul_(-1.5)
        assert torch.equal(head(trunk(sentences())), clip.encode_text(sentences()))
    assert_layers_in_order(trunk, sentences(), clip.text.transformer.encoder.layer)


@pytest.mark.parametrize("config_class", [BertConfig, RobertaConfig])
def test_columns_of_padding_are_cut_where_the_tower_masks_it(tmp_path, config_class):
    config = config_class(**BERT_SIZE)
    clip = hf_clip(tmp_path, config, proj="linear")
    tokens = torch.where(sentences() == 0, config.pad_token_id, sentences().clamp(min=2))
    longest = max(len(row[row != config.pad_token_id]) for row in tokens)
    cut = strip_padding(tokens, clip)
    assert cut.shape == (3, longest) != tokens.shape
    with torch.no_grad():
        torch.testing.assert_close(
            clip.encode_text(cut), clip.encode_text(tokens), rtol=0, atol=1e-5
        )
    assert strip_padding(torch.full((2, 5), config.pad_token_id), clip).shape == (2, 1)


@pytest.mark.parametrize("name", ["vit", "coca", "timm mlp"])
def test_tokens_of_a_tower_with_a_place_for_each_are_not_cut(name):
    assert torch.equal(strip_padding(sentences(), small_clip(name)), sentences())


def test_trunk_fingerprint_is_that_of_its_weights_and_not_of_the_head():
    clip = small_clip("vit")
    trunk, head = split_image_tower(clip)
    before = trunk_fingerprint(trunk)
    with torch.no_grad():
        head.weight.add_(1)
        assert trunk_fingerprint(trunk) == before
        assert trunk_fingerprint(split_image_tower(small_clip("vit"))[0]) == before
        clip.visual.ln_post.bias[0] += 1e-6
        assert trunk_fingerprint(trunk) != before


@pytest.mark.model
@pytest.mark.parametrize(("name", "num_layers"), [("mini", 12), ("mini_fast", 6)])
@torch.no_grad()
def test_mini_is_split(request, name, num_layers):
    mini = request.getfixturevalue(name)
    images = pictures(mini.clip, 1)
    trunk, head = split_image_tower(mini.clip)
    assert torch.equal(head(trunk(images)), mini.clip.encode_image(images))
    assert len(trunk_layers(trunk)) == len(mini.clip.visual.trunk.blocks) + 2
    tokens = mini.tokenize(["a dog", "two red kites"], context_length=mini.context_length)
    trunk, head = split_text_tower(mini.clip)
    assert torch.equal(head(trunk(tokens)), mini.clip.encode_text(tokens))
    assert len(trunk_layers(trunk)) == num_layers + 2
    cut = strip_padding(tokens, mini.clip)
    assert cut.shape[1] < tokens.shape[1]
    torch.testing.assert_close(head(trunk(cut)), mini.clip.encode_text(tokens), rtol=0, atol=1e-5)
