"""An option's help, default and range stand in one place, and are printed and enforced from it."""

import math
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, is_dataclass

import pytest
import yaml

from reelseek.configs import command_line
from reelseek.configs.composition import compose, default_values, read_yaml, to_yaml
from reelseek.configs.help import option_rows
from reelseek.configs.options import (
    MISSING,
    OneOf,
    Options,
    Range,
    describe,
    option,
    option_fields,
    plain_values,
)
from reelseek.configs.schema import (
    SAMPLING_KINDS,
    DecodingConfig,
    IndexConfig,
    ModelConfig,
    SearchConfig,
    SegmentsConfig,
    UniformSampling,
)
from reelseek.configs.train_schema import TrainConfig
from tests.command_lines import PROJECT, SCHEMAS, assert_user_error, run_program


@pytest.mark.parametrize(
    ("allowed", "text", "inside", "outside"),
    [
        (Range(1), "at least 1", [1, 2, math.inf], [0, 0.9, -1, math.nan]),
        (Range(0), "0 or more", [0, math.inf], [-1, -0.1, math.nan]),
        (Range(0.5, 1), "0.5 to 1", [0.5, 0.7, 1], [0.4, 1.1, math.nan]),
        (Range(0, below=1), "0 to less than 1", [0, 0.99], [1, -0.1, math.nan]),
        (Range(above=0), "more than 0", [0.1, math.inf], [0, -1, math.nan]),
        (Range(above=0, maximum=1), "more than 0, at most 1", [0.1, 1], [0, 1.1, math.nan]),
        (Range(0, below=math.inf), "0 or more, finite", [0, 1e300], [-1, math.inf, math.nan]),
        (Range(1, below=math.inf), "at least 1, finite", [1, 9], [0.9, math.inf, math.nan]),
        (Range(3, or_zero=True), "0, or at least 3", [0, 3, 4], [1, 2, -1, math.nan]),
        (OneOf(("visual", "lexical")), "one of visual, lexical", ["visual"], ["", "vis"]),
    ],
    ids=str,
)
def test_what_is_allowed_is_enforced_and_said(allowed, text, inside, outside):
    @dataclass
    class Example(Options, section="part"):
        value: float = option("of something", allowed)
        maybe: float | None = option("of something else", allowed, default=None)
        several: list[float] = option("of more", allowed, default=[])  # noqa: RUF009
        named: dict[str, float] = option("of others", allowed, default={})  # noqa: RUF009

    (value, *_) = option_fields(Example)
    assert describe(value) == f"of something; {text}"
    for good in inside:
        assert Example(good, good, [good, good], {"a": good}).value == good
    for bad in outside:
        refused = {
            "part.value": {"value": bad},
            "part.maybe": {"maybe": bad},
            "part.several": {"several": [inside[0], bad]},
            "part.named.b": {"named": {"a": inside[0], "b": bad}},
        }
        for name, given in refused.items():
            with pytest.raises(ValueError) as caught:
                Example(**({"value": inside[0]} | given))
            assert str(caught.value) == f"{name}={bad}: must be {text}"
    assert Example(MISSING).maybe is None


@pytest.mark.parametrize("name", SCHEMAS)
def test_help_shows_the_range_and_default_of_each_option(name):
    schema, values = SCHEMAS[name], default_values(SCHEMAS[name])
    rows = {row[0]: row[1:] for row in option_rows(schema, values)}
    for field in option_fields(schema):
        if not is_dataclass(field.type) and not field.metadata["group"]:
            text, default = rows[field.name]
            assert text == describe(field)
            if (value := values[field.name]) not in (None, MISSING, []):
                assert default == str(value).lower()


def test_help_names_ranges_of_sections_and_of_the_kind_that_is_chosen():
    rows = {row[0]: row[1:] for row in option_rows(IndexConfig, default_values(IndexConfig))}
    assert rows["index.recall"][0].endswith("; 0.5 to 1")
    assert rows["sampling.every_seconds"][0].endswith("; more than 0")
    assert rows["decoding.decoder"][0].endswith("; one of decord, pyav")
    assert rows["sampling.max_frames"][0].endswith(", and at least min_frames")
    assert "sampling.num_frames" not in rows
    assert rows["model"] == ("preset, open_clip name or folder; default: the index's", "")


def nodes():
    """Each YAML file with values, and the class of its options."""
    yield from ((f"{name}.yaml", schema) for name, schema in SCHEMAS.items())
    yield from ((f"sampling/{kind}.yaml", schema) for kind, schema in SAMPLING_KINDS.items())
    yield "decoding/default.yaml", DecodingConfig
    for path in (PROJECT / "configs/model").glob("*.yaml"):
        yield f"model/{path.name}", ModelConfig


@pytest.mark.parametrize(("file", "schema"), list(nodes()))
def test_default_stands_in_the_yaml_or_in_the_type(file, schema):
    values = yaml.safe_load((PROJECT / "configs" / file).read_text())

    def check(node, own):
        for field in option_fields(node):
            has_default = field.default_factory is not NO_DEFAULT or field.default not in (
                NO_DEFAULT,
                MISSING,
            )
            value = own.get(field.name)
            if is_dataclass(field.type) and isinstance(value, dict):
                check(field.type, value)
            elif has_default and node is not ModelConfig:  # a preset has values of its own
                assert field.name not in own, f"{file}: {field.name} has a default in its type"
            assert value not in ([], {}, "???"), f"{file}: {field.name} gives no value"

    check(schema, values)


def test_ranges_hold_in_python_too():
    with pytest.raises(ValueError, match=r"^sampling.num_frames=0: must be at least 1$"):
        UniformSampling(num_frames=0)


def test_sections_are_checked_before_the_rules_that_their_options_share():
    with pytest.raises(ValueError, match=r"^segments.seconds=-1: must be more than 0$"):
        SegmentsConfig(kind="windows", seconds=-1, overlap_seconds=-2)


def test_device_and_precision_of_training_are_checked_first():
    given = ["data.train=t", "output=o"]
    with pytest.raises(ValueError, match=r"^precision=fp15: must be one of auto, fp32, bf16$"):
        compose(TrainConfig, [*given, "precision=fp15"])
    with pytest.raises(ValueError, match=r"^device=cuad: must be auto, cpu, cuda or cuda:N$"):
        compose(TrainConfig, [*given, "device=cuad"])


# What `main` receives.


def test_main_receives_its_object_and_learns_which_options_were_given():
    seen = []
    arguments = ["videos=v", "--index", "i", "sampling.every_seconds=2", "model=mini"]
    command_line.run(seen.append, IndexConfig, usage="", arguments=arguments)
    (config,) = seen
    assert isinstance(config, IndexConfig)
    assert config.sampling.every_seconds == 2.0
    assert config.given == {
        *("videos", "index", "index.folder", "sampling", "sampling.every_seconds", "model"),
    }
    assert SearchConfig.given == IndexConfig.given == frozenset()


def test_nothing_is_written_beside_what_main_writes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command_line.run(lambda config: None, SearchConfig, usage="", arguments=["index=i", "query=q"])
    assert list(tmp_path.iterdir()) == []


def test_configuration_is_kept_as_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    name = "/videos/${HOME/it's [1], 1e3: \u65e5\u672c " + "long " * 30
    given = [f"data.train={name}", "data.train=1e3", f"output={name}", "optimizer.lr=1e-7"]
    config = compose(TrainConfig, given)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert read_yaml(path) == plain_values(config)
    assert read_yaml(path)["data"]["train"] == [name, "1e3"]
    assert read_yaml(path)["optimizer"]["lr"] == 1e-7
    assert read_yaml(path)["trainable"]["image"] == "heads"


# Runs of several configurations.


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("argument", ["-m", "--multirun", "--multirun=true"])
def test_multirun_is_refused_by_every_command(capsys, name, argument):
    def main(config):
        pytest.fail("it ran")

    with pytest.raises(SystemExit, match="2"):
        command_line.run(main, SCHEMAS[name], usage="", arguments=[argument, "a=1"])
    out, err = capsys.readouterr()
    line = f"error: {argument}: is not supported; start one command for each run\n"
    assert (out, err) == ("", line)


@pytest.mark.parametrize(
    "argument",
    ["hydra.mode=MULTIRUN", "multirun=true", "--hydra.sweep.dir=x", "~where", "+multirun=1"],
)
def test_hydra_is_not_an_option(argument):
    with pytest.raises(ValueError, match=r"^(unknown option|argument '~where' is not)"):
        compose(SearchConfig, ["index=i", "query=q", argument])


def test_multirun_of_a_process_is_one_line():
    assert_user_error(run_program("search.py", "index=i", "query=a", "--multirun"), "--multirun")
