import math

import pytest
import torch

from reelseek.training.optimizer import make_optimizer, set_learning_rates
from reelseek.vision import make_pooling
from tests.training import tiny_run

LR, TRUNK_LR, DECAY, WEIGHT_DECAY = 0.1, 0.01, 0.5, 0.2


def optimizer_of(network):
    return make_optimizer(network, config_of())


def config_of(**changes):
    return tiny_run.make_optimizer_config(
        lr=LR, trunk_lr=TRUNK_LR, layer_decay=DECAY, weight_decay=WEIGHT_DECAY, **changes
    )


def by_name(network, optimizer, what):
    """What a parameter's group says, by the name that it has in the open_clip model."""
    names = {id(p): name for name, p in network._model.clip.named_parameters()}
    return {
        names.get(id(parameter), "other"): group[what]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def rate_by_hand(name):
    """Two blocks with a layer before and one behind them: four layers a trunk."""
    if name in ("logit_scale", "visual.proj") or name.endswith("text_projection"):
        return LR
    if "resblocks" in name:
        return TRUNK_LR * DECAY ** (1 if "resblocks.1." in name else 2)
    if "ln_post" in name or "ln_final" in name:
        return TRUNK_LR
    return TRUNK_LR * DECAY**3  # embeddings of patches, tokens and positions, the first norm


@pytest.mark.parametrize("trains", ["heads", "blocks", "all"])
def test_every_parameter_that_trains_is_in_one_group(trains):
    network = tiny_run.make_network(trains=trains, logit_bias=-5.0)
    grouped = [p for group in optimizer_of(network).param_groups for p in group["params"]]
    assert len({id(p) for p in grouped}) == len(grouped)
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    assert {id(p) for p in grouped} == trained
    assert len(grouped) == len(network.trained_state())


@pytest.mark.parametrize(
    "custom_text",
    [
        False,
        True,
    ],
)
def test_rates_fall_from_layer_to_layer_towards_the_input(custom_text):
    network = tiny_run.make_network(tiny_run.make_model(custom_text=custom_text), trains="all")
    rates = by_name(network, optimizer_of(network), "lr")
    assert len(rates) == len(network.trained_state())
    assert rates == pytest.approx({name: rate_by_hand(name) for name in rates})
    assert len(set(rates.values())) == 5


def test_heads_learn_at_the_rate_of_heads(network):
    rates = by_name(network, optimizer_of(network), "lr")
    assert rates == dict.fromkeys(["logit_scale", "visual.proj", "text_projection"], LR)


def test_text_head_and_pooling_may_have_rates_of_their_own(network):
    pooling = make_pooling({"kind": "attention"}, embedding_dim=tiny_run.EMBEDDING_DIM)
    network.pooling = pooling
    optimizer = make_optimizer(network, config_of(text_lr=0.3, pooling_lr=0.4))
    rates = by_name(network, optimizer, "lr")
    assert rates == {"logit_scale": LR, "visual.proj": LR, "text_projection": 0.3, "other": 0.4}


def test_last_block_and_what_follows_it_train():
    network = tiny_run.make_network(trains="blocks")
    names = by_name(network, optimizer_of(network), "lr").keys()
    heads = {"logit_scale", "visual.proj", "text_projection"}
    layers = ("resblocks.1.", "ln_post", "ln_final")
    assert {name for name in names - heads if not any(layer in name for layer in layers)} == set()


def test_only_matrices_decay():
    network = tiny_run.make_network(trains="all", logit_bias=-5.0)
    decays = by_name(network, optimizer_of(network), "weight_decay")
    shapes = {name: p.dim() for name, p in network._model.clip.named_parameters()} | {"other": 0}
    assert decays["other"] == 0.0  # the logit bias
    assert decays["logit_scale"] == 0.0
    assert decays["visual.ln_post.bias"] == decays["visual.class_embedding"] == 0.0
    assert decays["visual.proj"] == decays["visual.conv1.weight"] == WEIGHT_DECAY
    assert decays == {n: WEIGHT_DECAY if shapes[n] > 1 else 0.0 for n in decays}


def test_schedule_by_hand(network):
    optimizer = optimizer_of(network)
    fractions = [
        set_learning_rates(optimizer, step=step, num_steps=10, warmup_steps=4) for step in range(11)
    ]
    # Six steps of a half cosine: at 0, 30, 60, 90, 120, 150 and 180 degrees.
    root = math.sqrt(3) / 2
    cosines = [1, root, 0.5, 0, -0.5, -root, -1]
    expected = [0.25, 0.5, 0.75, 1.0, *((1 + cosine) / 2 for cosine in cosines)]
    assert fractions == pytest.approx(expected, abs=1e-12)


def test_every_group_keeps_its_share_of_the_peak():
    network = tiny_run.make_network(trains="all")
    optimizer = optimizer_of(network)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step in (0, 3, 9, 5):  # not a product of the rates before
        fraction = set_learning_rates(optimizer, step=step, num_steps=10, warmup_steps=4)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([fraction * peak for peak in peaks])


def test_no_warm_up_starts_at_the_peak(network):
    fraction = set_learning_rates(optimizer_of(network), step=0, num_steps=1, warmup_steps=0)
    assert fraction == 1.0


def test_warm_up_longer_than_the_run_never_reaches_the_peak(network):
    optimizer = optimizer_of(network)
    fractions = [
        set_learning_rates(optimizer, step=step, num_steps=3, warmup_steps=6) for step in range(3)
    ]
    assert fractions == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_rate_of_nothing_changes_nothing(network):
    before = {name: part.clone() for name, part in network.trained_state().items()}
    optimizer = optimizer_of(network)
    set_learning_rates(optimizer, step=4, num_steps=4, warmup_steps=0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, part in network.trained_state().items():
        assert torch.equal(part, before[name])
