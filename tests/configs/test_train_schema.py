"""What `train.py` takes: each option's range, and what its parts are made into."""

import pytest

from reelseek.configs import command_line
from reelseek.configs.composition import compose
from reelseek.configs.train_schema import (
    DataConfig,
    Loss,
    PoolingConfig,
    PoolingKind,
    TrainableConfig,
    TrainConfig,
    TrainMode,
)
from reelseek.training.network import TowerPlan, tower_plans
from reelseek.vision import POOLING_KINDS, make_pooling

RECIPES = command_line.preset_names("experiment")
NEEDED = ["data.train=t.jsonl", "output=o"]


def config_of(*arguments):
    return compose(TrainConfig, arguments)


def error_of(*arguments):
    with pytest.raises(ValueError) as caught:
        config_of(*arguments)
    return command_line.one_line(caught.value)


# Recipes.


def test_there_are_recipes():
    assert {"clip4clip_mean", "clip4clip_transformer", "shared_clips"} <= set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_a_checked_configuration(recipe):
    config = config_of(*NEEDED, f"experiment={recipe}")
    assert config.data.train == ["t.jsonl"]
    assert config.loop != config_of(*NEEDED).loop
    config.model.spec()
    config.sampling.sampler()
    for plan in tower_plans(config.trainable):
        assert plan.mode != "frozen"
    if (options := config.pooling.options()) is not None:
        make_pooling(options, embedding_dim=512)


@pytest.mark.parametrize("first", [True, False])
def test_option_on_the_command_line_goes_before_the_recipe(first):
    recipe, own = ["experiment=lora_small_gpu"], ["loop.batch_size=4", "trainable.text=frozen"]
    config = config_of(*NEEDED, *(recipe + own if first else own + recipe))
    assert (config.loop.batch_size, config.trainable.text) == (4, TrainMode.frozen)
    assert (config.loop.chunk_size, config.trainable.image) == (16, TrainMode.lora)


def test_recipe_that_builds_on_another_takes_it_over():
    mean, transformer = (
        config_of(*NEEDED, f"experiment=clip4clip_{name}") for name in ("mean", "transformer")
    )
    assert (mean.pooling.kind, transformer.pooling.kind) == (
        PoolingKind.mean,
        PoolingKind.transformer,
    )
    assert transformer.optimizer.lr == mean.optimizer.lr == 1e-7
    assert transformer.model == mean.model


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", ["mini", "clip_vit_b32", "/data/my model, [1]"])
def test_model_on_the_command_line_goes_before_the_recipe(recipe, model):
    config = config_of(*NEEDED, f"experiment={recipe}", f"model={model}")
    assert config.model == command_line.load_model_config(model)


# Values.


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("data.max_failed_fraction=1.1", ["data.max_failed_fraction=1.1", "0 to 1"]),
        ("data.max_failed_fraction=nan", ["data.max_failed_fraction=nan", "0 to 1"]),
        ("data.workers=-1", ["data.workers=-1", "0 or more"]),
        ("data.weights.a=-1", ["data.weights.a=-1.0", "0 or more"]),
        ("data.weights.a=nan", ["data.weights.a=nan", "0 or more"]),
        ("data.weights.a=much", ["data.weights.a=much: must be a number"]),
        ("trainable.image=everything", ["trainable.image=everything", "frozen", "lora"]),
        ("trainable.num_blocks=0", ["trainable.num_blocks=0", "at least 1"]),
        ("trainable.lora_rank=0", ["trainable.lora_rank=0", "at least 1"]),
        ("pooling.kind=max", ["pooling.kind=max", "mean"]),
        ("pooling.num_layers=0", ["pooling.num_layers=0", "at least 1"]),
        ("pooling.num_heads=0", ["pooling.num_heads=0", "at least 1"]),
        ("pooling.max_frames=0", ["pooling.max_frames=0", "at least 1"]),
        ("pooling.hidden_dim=0", ["pooling.hidden_dim=0", "at least 1"]),
        ("objective.loss=triplet", ["objective.loss=triplet", "infonce", "sigmoid"]),
        ("objective.logit_scale=0.5", ["objective.logit_scale=0.5", "1 to 100"]),
        ("objective.logit_scale=101", ["objective.logit_scale=101.0", "1 to 100"]),
        ("objective.label_smoothing=1", ["objective.label_smoothing=1.0", "0 to less than 1"]),
        ("optimizer.lr=0", ["optimizer.lr=0.0", "more than 0"]),
        ("optimizer.lr=nan", ["optimizer.lr=nan", "more than 0"]),
        ("optimizer.trunk_lr=-1", ["optimizer.trunk_lr=-1.0", "more than 0"]),
        ("optimizer.text_lr=0", ["optimizer.text_lr=0.0", "more than 0"]),
        ("optimizer.pooling_lr=0", ["optimizer.pooling_lr=0.0", "more than 0"]),
        ("optimizer.layer_decay=0", ["optimizer.layer_decay=0.0", "at most 1"]),
        ("optimizer.layer_decay=1.1", ["optimizer.layer_decay=1.1", "at most 1"]),
        ("optimizer.weight_decay=-1", ["optimizer.weight_decay=-1.0", "0 or more"]),
        ("optimizer.warmup_steps=-1", ["optimizer.warmup_steps=-1", "0 or more"]),
        ("optimizer.max_grad_norm=-1", ["optimizer.max_grad_norm=-1.0", "0 or more"]),
        ("optimizer.wise_ft_alpha=1", ["optimizer.wise_ft_alpha=1.0", "0 to less than 1"]),
        ("loop.epochs=0", ["loop.epochs=0", "at least 1"]),
        ("loop.epochs=1.5", ["loop.epochs=1.5: must be a whole number"]),
        ("loop.batch_size=1", ["loop.batch_size=1", "at least 2"]),
        ("loop.chunk_size=-1", ["loop.chunk_size=-1", "0 or more"]),
        ("loop.accumulate_steps=0", ["loop.accumulate_steps=0", "at least 1"]),
        ("loop.frames_per_video=-1", ["loop.frames_per_video=-1", "0 or more"]),
        ("loop.feature_dropout=1", ["loop.feature_dropout=1.0", "0 to less than 1"]),
        ("loop.seed=-1", ["loop.seed=-1", "0 or more"]),
        ("loop.eval_every=0", ["loop.eval_every=0", "at least 1"]),
        ("loop.save_every_seconds=-1", ["loop.save_every_seconds=-1.0", "0 or more"]),
        ("num_bootstrap=-1", ["num_bootstrap=-1", "0 or more"]),
    ],
)
def test_value_out_of_range_is_named_in_one_line(argument, parts):
    line = error_of(*NEEDED, argument)
    assert "\n" not in line
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["output=o"], "data.train is missing: name a .jsonl"),
        (["output=o", "data.val=v.jsonl"], "data.train is missing"),
        (["data.train=t.jsonl"], "output is missing: name a folder"),
        (["eval_only=true", "data.train=t.jsonl"], "data.val is missing"),
    ],
)
def test_what_a_run_needs_is_asked_for(arguments, start):
    assert error_of(*arguments).startswith(start)


def test_evaluation_needs_no_output():
    assert config_of("eval_only=true", "data.val=v.jsonl").output is None


# Lists and weights.


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("[a.jsonl,b.jsonl]", ["a.jsonl", "b.jsonl"]),
        ("['a, b.jsonl',c.jsonl]", ["a, b.jsonl", "c.jsonl"]),
        ("a, b.jsonl", ["a, b.jsonl"]),
        ("/data/my [1] films/it's ${HOME}.jsonl", ["/data/my [1] films/it's ${HOME}.jsonl"]),
        ("shards/{000..003}.tar", ["shards/{000..003}.tar"]),
        ("a=b.jsonl", ["a=b.jsonl"]),
        ("null", []),
        ("[]", []),
    ],
)
def test_lists_are_named_alone_or_in_brackets(monkeypatch, argument, expected):
    monkeypatch.delenv("HOME")
    config = config_of("eval_only=true", "data.val=v", f"data.train={argument}")
    assert config.data.train == expected


def test_every_source_has_a_weight_of_its_own():
    config = config_of(*NEEDED, "data.weights.coco=2", "data.weights.my_list=0.5")
    assert config.data.weights == {"coco": 2.0, "my_list": 0.5}


def test_weight_on_the_command_line_goes_before_that_of_the_recipe():
    config = config_of(*NEEDED, "experiment=shared_clips", "data.weights.coco_mini=1")
    assert (config.data.weights["coco_mini"], config.data.weights["panda70m"]) == (1.0, 2.0)


@pytest.mark.parametrize("name", ["panda-70m", "msrvtt_1ka"])
def test_name_of_a_source_may_hold_marks(name):
    assert config_of(*NEEDED, f"data.weights.{name}=2").data.weights == {name: 2.0}


# What the parts are made into.


@pytest.mark.parametrize("image", TrainMode)
@pytest.mark.parametrize("text", TrainMode)
def test_towers_have_a_plan_each(image, text):
    config = TrainableConfig(image=image, text=text, num_blocks=3, lora_rank=5)
    assert tower_plans(config) == tuple(
        TowerPlan(what.value, num_blocks=3, lora_rank=5) for what in (image, text)
    )


@pytest.mark.parametrize("kind", [None, *PoolingKind])
def test_pooling_takes_its_own_options_alone(kind):
    config = PoolingConfig(kind=kind, num_layers=1, num_heads=2, max_frames=9, hidden_dim=3)
    options = config.options()
    assert (
        options
        == {
            None: None,
            PoolingKind.mean: {"kind": "mean"},
            PoolingKind.transformer: {
                "kind": "transformer",
                "num_layers": 1,
                "num_heads": 2,
                "max_frames": 9,
            },
            PoolingKind.attention: {"kind": "attention", "hidden_dim": 3},
        }[kind]
    )
    if options is not None:
        assert make_pooling(options, embedding_dim=8).options() == options


def test_kinds_are_those_of_the_library():
    assert [kind.value for kind in PoolingKind] == list(POOLING_KINDS)
    assert {loss.value for loss in Loss} == {"infonce", "sigmoid"}


def test_default_weights_are_not_shared():
    one = DataConfig(max_tokens=0, max_failed_fraction=0.1, workers=0)
    one.weights["a"] = 2.0
    assert DataConfig(max_tokens=0, max_failed_fraction=0.1, workers=0).weights == {}
