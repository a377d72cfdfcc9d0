import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reelseek.configs.train_schema import TrainableConfig, TrainMode
from reelseek.training.batches import Batch
from reelseek.training.network import Network, TowerPlan, require_no_batch_norm, tower_plans
from reelseek.vision import DualEncoder, ModelSpec, Preprocessing, make_pooling, model_fingerprint
from tests.training.test_towers import EMBED_DIM, sentences, small_clip

FROZEN, HEADS, LORA, ALL = (TowerPlan(what) for what in ("frozen", "heads", "lora", "all"))
BLOCKS = TowerPlan("blocks", num_blocks=2)
POOLINGS = {
    "mean": {"kind": "mean"},
    "transformer": {"kind": "transformer", "num_layers": 1, "num_heads": 2, "max_frames": 4},
    "attention": {"kind": "attention", "hidden_dim": 6},
}


def tokenize(texts, context_length=16):
    """Letters as tokens, the highest at the end, as in CLIP; 0 pads."""
    tokens = torch.zeros(len(texts), context_length, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        letters = [1 + ord(letter) % 98 for letter in text[: context_length - 1]]
        row[: len(letters) + 1] = torch.tensor([*letters, 99])
    return tokens


def small_model(name="vit", pooling="mean", *, logit_bias=None):
    clip = small_clip(name)
    if logit_bias is not None:
        clip.logit_bias = nn.Parameter(torch.tensor(logit_bias))
    size = clip.visual.image_size
    preprocessing = Preprocessing(
        size=size if isinstance(size, tuple) else (size, size),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
    )
    torch.manual_seed(0)
    made = make_pooling(POOLINGS[pooling], embedding_dim=EMBED_DIM)
    return DualEncoder(
        spec=ModelSpec(name),
        clip=clip,
        tokenize=tokenize,
        context_length=16,
        embedding_dim=EMBED_DIM,
        preprocessing=preprocessing,
        fingerprint=model_fingerprint(clip, preprocessing, tokenize, made),
        pooling=made,
    )


def make_network(name="vit", image=HEADS, text=HEADS, *, pooling="mean", **options):
    model = small_model(name, pooling)
    return Network(model, image=image, text=text, pooling=model.pooling, **options), model


@torch.no_grad()
def train(network):
    """Changes whatever training may change, and nothing else."""
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def clips(model, count=2, num_frames=5):
    shape = (count, num_frames, 3, *model.preprocessing.size)
    generator = torch.Generator().manual_seed(6)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


NUM_FRAMES = torch.tensor([5, 2])


@torch.no_grad()
def embedded(network, model):
    return network.embed_videos(clips(model), NUM_FRAMES), network.embed_texts(sentences())


@torch.no_grad()
def embedded_by(model):
    """The oracle: open_clip's own functions, video by video, no batch and no padding."""
    videos = []
    for frames, num_frames in zip(clips(model), NUM_FRAMES.tolist(), strict=True):
        pixels = model.preprocessing.normalize(frames[:num_frames])
        embeddings = F.normalize(model.clip.encode_image(pixels), dim=-1)
        videos.append(model.pooling(embeddings[None])[0])
    return torch.stack(videos), F.normalize(model.clip.encode_text(sentences()), dim=-1)


def assert_same(ours, theirs, tolerance=1e-5):
    for output, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance)


def training_names(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def starting_with(network, *prefixes):
    return {name for name, _ in network.named_parameters() if name.startswith(prefixes)}


IMAGE_BLOCKS = (
    *("image.trunk.transformer.resblocks.1.", "image.trunk.transformer.resblocks.2."),
    *("image.trunk.ln_post.", "image.head."),
)
TEXT_BLOCKS = (
    *("text.trunk.tower.transformer.resblocks.1.", "text.trunk.tower.transformer.resblocks.2."),
    *("text.trunk.tower.ln_final.", "text.head."),
)


@pytest.mark.parametrize(
    ("image", "text", "prefixes"),
    [
        (FROZEN, HEADS, ["text.head."]),
        (HEADS, FROZEN, ["image.head."]),
        (HEADS, HEADS, ["image.head.", "text.head."]),
        (BLOCKS, FROZEN, IMAGE_BLOCKS),
        (FROZEN, BLOCKS, TEXT_BLOCKS),
        (BLOCKS, BLOCKS, [*IMAGE_BLOCKS, *TEXT_BLOCKS]),
        (ALL, FROZEN, ["image."]),
        (HEADS, ALL, ["image.head.", "text."]),
        (ALL, ALL, ["image.", "text."]),
    ],
    ids=lambda value: getattr(value, "what", ""),
)
def test_what_a_plan_names_trains_and_nothing_else(image, text, prefixes):
    network, _ = make_network(image=image, text=text)
    for prefix in prefixes:
        assert starting_with(network, prefix), prefix
    assert training_names(network) == starting_with(network, *prefixes, "logit_scale")


def test_adapters_and_heads_train_of_lora():
    network, _ = make_network(image=LORA, text=LORA)
    names = {name for name, _ in network.named_parameters()}
    adapters = {name for name in names if ".lora_" in name}
    assert any(name.startswith("image.trunk.") for name in adapters)
    assert any(name.startswith("text.trunk.") for name in adapters)
    heads = starting_with(network, "image.head.", "text.head.")
    assert training_names(network) == adapters | heads | {"logit_scale"}


def test_pooling_trains_where_it_has_weights():
    network, _ = make_network(image=FROZEN, text=FROZEN, pooling="attention")
    assert training_names(network) == starting_with(network, "pooling.", "logit_scale")
    assert len(training_names(network)) == 4


def test_gradients_reach_what_trains_and_nothing_else():
    network, model = make_network(image=BLOCKS, text=HEADS, pooling="attention")
    train(network)
    batch = Batch(clips(model), NUM_FRAMES, sentences(2), torch.arange(2), torch.arange(2))
    videos, texts, logit_scale, logit_bias = network(batch)
    assert logit_bias is None
    (logit_scale * (videos @ texts.T)).logsumexp(dim=-1).sum().backward()
    with_gradients = {n for n, p in network.named_parameters() if p.grad is not None}
    assert with_gradients == training_names(network)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [("vit", FROZEN, FROZEN), ("resnet", HEADS, FROZEN), ("timm none", HEADS, FROZEN)],
)
def test_training_nothing_is_refused_with_the_remedy(name, image, text):
    message = f"trainable.image={image.mode} and trainable.text=frozen.*choose blocks, lora, all"
    with pytest.raises(ValueError, match=message):
        make_network(name, image, text)


def test_unknown_plan_is_refused_with_those_known():
    with pytest.raises(ValueError, match=r"'head': must be one of .*'heads'"):
        TowerPlan("head")


@pytest.mark.parametrize("image", TrainMode)
@pytest.mark.parametrize("text", TrainMode)
def test_towers_have_a_plan_each(image, text):
    config = TrainableConfig(image=image, text=text, num_blocks=3, lora_rank=5)
    assert tower_plans(config) == tuple(
        TowerPlan(what.value, num_blocks=3, lora_rank=5) for what in (image, text)
    )


@pytest.mark.parametrize("name", ["vit", "timm mlp", "coca"])
def test_untrained_network_embeds_as_the_model_does(name):
    network, model = make_network(name)
    assert_same(embedded(network, model), embedded_by(model))


PLANS = {
    "image heads": ("vit", HEADS, FROZEN),
    "text heads": ("vit", FROZEN, HEADS),
    "blocks": ("vit", BLOCKS, BLOCKS),
    "all": ("vit", ALL, ALL),
    "lora": ("vit", LORA, LORA),
    "timm heads": ("timm mlp", HEADS, HEADS),
    "timm blocks": ("timm mlp", BLOCKS, BLOCKS),
    "timm lora": ("timm linear", LORA, HEADS),
    "timm classifier": ("timm classifier", ALL, FROZEN),
    "resnet": ("resnet", BLOCKS, HEADS),
    "coca": ("coca", BLOCKS, BLOCKS),
}


@pytest.mark.parametrize(
    ("plan", "pooling"),
    [
        *((plan, "mean") for plan in PLANS),
        *(("text heads", pooling) for pooling in ("transformer", "attention")),
        *(("timm lora", pooling) for pooling in ("transformer", "attention")),
    ],
)
def test_model_of_a_trained_network_embeds_as_the_network(plan, pooling):
    name, image, text = PLANS[plan]
    network, model = make_network(name, image, text, pooling=pooling)
    before = embedded(network, model)
    train(network)
    trained = network.as_model()
    outputs = embedded(network, model)
    assert any(not torch.allclose(a, b, atol=1e-3) for a, b in zip(outputs, before, strict=True))
    assert_same(embedded_by(trained), outputs)
    assert trained.clip.state_dict().keys() == small_clip(name).state_dict().keys()
    assert trained.fingerprint != model.fingerprint
    assert not trained.clip.training
    assert trained.spec == model.spec


@pytest.mark.parametrize(
    ("name", "image"), [("vit", HEADS), ("vit", ALL), ("timm linear", LORA)], ids=str
)
def test_untrained_network_is_the_model_that_it_began_with(name, image):
    network, model = make_network(name, image)
    assert network.as_model().fingerprint == model.fingerprint


def test_model_of_a_network_is_a_copy():
    network, model = make_network(image=ALL, text=ALL, pooling="attention")
    trained = network.as_model()
    before = embedded_by(trained)
    train(network)
    assert_same(embedded_by(trained), before, tolerance=0)
    with torch.no_grad():
        for parameter in trained.clip.parameters():
            parameter.zero_()
    assert float(embedded(network, model)[1].norm()) > 1


def test_model_of_a_network_trains_again_with_its_pooling():
    network, _ = make_network(pooling="attention")
    train(network)
    trained = network.as_model()
    again = Network(trained, image=HEADS, text=HEADS, pooling=trained.pooling)
    assert training_names(again) == training_names(network)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("image", [HEADS, BLOCKS, LORA, ALL], ids=lambda plan: plan.mode)
def test_trained_state_makes_the_same_network_of_a_fresh_one(image, pooling):
    options = {"name": "timm linear", "image": image, "pooling": pooling}
    network, model = make_network(**options)
    train(network)
    state = {name: tensor.clone() for name, tensor in network.trained_state().items()}
    assert state.keys() == training_names(network)
    fresh, _ = make_network(**options)
    assert not torch.allclose(embedded(fresh, model)[0], embedded(network, model)[0], atol=1e-3)
    fresh.load_trained_state(state)
    assert_same(embedded(fresh, model), embedded(network, model), tolerance=0)
    assert torch.equal(fresh.logit_scale, network.logit_scale)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("image.head.weight"), r"image.head.weight has shape none there"),
        (lambda state: state.update(extra=torch.zeros(2)), r"extra .*\(2,\) there and none in"),
        (
            lambda state: state.update({"text.head.weight": torch.zeros(32, 15)}),
            r"text.head.weight has shape \(32, 15\) there and \(32, 16\) in this model",
        ),
    ],
    ids=["missing", "unknown", "of another shape"],
)
def test_state_of_another_network_is_refused_and_changes_nothing(change, message):
    network, _ = make_network()
    before = {name: tensor.clone() for name, tensor in network.trained_state().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        network.load_trained_state(state)
    after = network.trained_state()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("scale", "clamped"), [(0.01, 1.0), (1.0, 1.0), (37.0, 37.0), (99.0, 99.0), (1e4, 100.0)]
)
def test_logit_scale_stays_between_1_and_100(scale, clamped):
    network, _ = make_network(logit_scale=scale)
    assert float(network.logit_scale.detach().exp()) == pytest.approx(scale, rel=1e-4)
    network.clamp_logit_scale()
    assert float(network.logit_scale.detach().exp()) == pytest.approx(clamped, rel=1e-4)


def test_logit_scale_is_the_models_own_where_none_is_given():
    network, model = make_network()
    assert network.logit_scale is model.clip.logit_scale
    assert float(network.logit_scale.detach()) == 2.0
    train(network)
    assert torch.equal(network.as_model().clip.logit_scale, network.logit_scale)


def test_logit_scale_that_is_not_learned_is_not_in_what_trains():
    network, _ = make_network(train_logit_scale=False)
    assert training_names(network) == {"image.head.weight", "text.head.weight"}


def test_logit_bias_is_new_where_the_model_has_none_and_else_its_own():
    network, _ = make_network(logit_bias=-10.0)
    assert float(network.logit_bias.detach()) == -10.0
    assert "logit_bias" in training_names(network)
    model = small_model(logit_bias=-7.0)
    options = {"image": HEADS, "text": HEADS, "pooling": model.pooling}
    assert Network(model, **options).logit_bias is None
    assert Network(model, **options, logit_bias=-10.0).logit_bias is model.clip.logit_bias


def test_logit_bias_of_zero_is_the_models_own():
    model = small_model(logit_bias=0.0)
    network = Network(model, image=HEADS, text=HEADS, pooling=model.pooling, logit_bias=-10.0)
    assert network.logit_bias is model.clip.logit_bias


@pytest.mark.parametrize("name", ["vit", "timm mlp", "coca", "resnet"])
@torch.no_grad()
def test_features_of_frames_embed_as_their_pixels(name):
    network, model = make_network(name, pooling="attention")
    train(network)
    frames = clips(model)
    features = network.image.trunk(model.preprocessing.normalize(frames.flatten(0, 1)))
    features = features[0] if isinstance(features, tuple) else features
    features = features.unflatten(0, frames.shape[:2])
    features[1, 2:] = 7.0  # padding
    torch.testing.assert_close(
        network.embed_videos(features, NUM_FRAMES),
        network.embed_videos(frames, NUM_FRAMES),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["vit", "timm mlp", "coca"])
@torch.no_grad()
def test_features_of_texts_embed_as_their_tokens(name):
    network, _ = make_network(name)
    train(network)
    features = network.text.trunk(sentences())
    features = features[0] if isinstance(features, tuple) else features
    torch.testing.assert_close(
        network.embed_texts(features), network.embed_texts(sentences()), rtol=0, atol=1e-6
    )


def test_frozen_trunk_keeps_no_graph():
    network, model = make_network(image=HEADS, text=ALL)
    videos, texts = network.embed_videos(clips(model), NUM_FRAMES), network.embed_texts(sentences())
    graph = {"image": videos.grad_fn, "text": texts.grad_fn}
    reached = {side: leaves(function) for side, function in graph.items()}
    assert reached["image"] == {id(network.image.head.weight)}
    assert reached["text"] == {id(p) for p in network.text.parameters()}


def leaves(function):
    """The parameters that a graph reaches."""
    seen, found, waiting = set(), set(), [function]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [parent for parent, _ in node.next_functions]
    return found


def test_network_stays_in_evaluation_mode():
    network, model = make_network("timm mlp", ALL, ALL)
    statistics = {name: b.clone() for name, b in model.clip.named_buffers() if "running" in name}
    assert statistics
    network.train()
    network.embed_videos(clips(model), NUM_FRAMES)
    assert not any(module.training for module in network.children())
    after = dict(model.clip.named_buffers())
    assert all(torch.equal(after[name], before) for name, before in statistics.items())


def test_dropped_features_are_the_same_in_all_frames_of_a_video_and_only_while_training():
    network, _ = make_network(feature_dropout=0.5)
    with torch.no_grad():
        network.image.head.weight.copy_(torch.eye(32, EMBED_DIM))
    features = torch.full((40, 3, 32), 2.0)
    seen = []
    network.image.head.register_forward_hook(lambda head, given, output: seen.append(given[0]))
    num_frames = torch.full((40,), 3)
    network.eval().embed_videos(features, num_frames)
    assert torch.equal(seen[-1], features.flatten(0, 1))
    torch.manual_seed(0)
    network.train().embed_videos(features, num_frames)
    dropped = seen[-1].unflatten(0, (40, 3))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 4.0}  # scaled, so that the mean remains
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.06)
    assert not torch.equal(dropped[0], dropped[1])


@pytest.mark.model
def test_mini_trains_and_is_a_model_again(mini_fast):
    model = replace(mini_fast, clip=copy.deepcopy(mini_fast.clip))
    tokens = mini_fast.tokenize(["a dog", "a red kite over the sea"], context_length=32)
    network = Network(model, image=FROZEN, text=HEADS, pooling=model.pooling)
    assert training_names(network) == {"text.head.weight", "logit_scale"}
    assert network.as_model().fingerprint == mini_fast.fingerprint
    train(network)
    with torch.no_grad():
        outputs = network.embed_texts(tokens)
        expected = network.as_model().clip.encode_text(tokens, normalize=True)
        assert not torch.allclose(
            outputs, mini_fast.clip.encode_text(tokens, normalize=True), atol=1e-2
        )
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-5)


def test_batch_norm_is_refused_where_training_begins_with_new_weights(network):
    require_no_batch_norm(network, model_name="tiny")
    network.image.trunk.norm = torch.nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match=r"from_scratch=true: model=tiny has batch normal"):
        require_no_batch_norm(network, model_name="tiny")
