import json
import logging
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import open_clip
import pytest

from reelseek.configs import (
    command_line,
    completion_schema,
    experiment_schema,
    feed_schema,
    learning_schema,
    recommend_schema,
    schema,
    sequential_schema,
    train_schema,
)
from reelseek.configs.arguments import prepare_arguments, quote
from reelseek.configs.command_line import (
    load_model_config,
    one_line,
    preset_names,
)
from reelseek.configs.composition import _compose, compose
from tests.command_lines import SCHEMAS
from tests.vision.conftest import FakeReader

REPOSITORY = Path(__file__).parents[2]
YAML_FILES = sorted(
    str(path.relative_to(REPOSITORY / "configs").with_suffix(""))
    for path in (REPOSITORY / "configs").rglob("*.yaml")
)
NEEDED = {
    "index": ["videos=v", "index=i"],
    "search": ["index=i", "query=q"],
    "train": ["eval_only=true", "data.val=v.jsonl"],
}
NEEDED_BY_TOOLS = {
    "status": ["index=i"],
    "verify": ["index=i"],
    "repair": ["index=i"],
    "delete": ["index=i", "keys=[k]"],
    "merge": ["index=i", "sources=[s]"],
    "shard": ["index=i", "shards=2"],
    "export": ["index=i", "output=o"],
    "publish": ["index=i", "to=s3://b/n"],
    "enrich": ["index=i", "ocr=true"],
    "ranker": ["index=i", "judgements=j", "output=o"],
    "token_matching": ["index=i", "output=o"],
    "clip": ["index=i", "query=q", "output=o"],
    "serve": ["index=i"],
    "evaluate_recommenders": ["sequences=s"],
    "sequential": ["sequences=s", "output=o"],
    "build_recommender": ["index=i", "events=e"],
    "completion": ["events=e"],
    "evaluate_completion": ["log=l", "test=t"],
    "replay": ["events=[e]", "measure_from=1"],
    "learn": ["events=e", "output=o"],
    "experiment_effect": ["events=e", "name=n"],
}
TRAINING = ["data.train=t.jsonl", "output=o"]

# What Hydra, OmegaConf or YAML read a meaning into, and what encodings trip over.
PIECES = [
    *"'\"\\${},[]()=:#!%&|<>*?~^@;/+- \t\n\r\x00\x7f\u0085\u2028\u200b",
    *"aZ09.\u00e9e\u0301\u65e5\u0643\U0001f408",
    "\udc80",  # a byte of a file name that is not UTF-8
    *("${", "\\${", "\\\\${", "${query}", "${oc.env:HOME}", "\\'", "\\\\", "'''"),
    *("null", "true", "1e3", "0x1f", "nan", "- a", "{a:1}", "[1,2]", "a=b", "+a", "~a"),
]


def config_object(config_name, *arguments):
    needed = (NEEDED | NEEDED_BY_TOOLS)[config_name]
    return compose(SCHEMAS[config_name], [*needed, *arguments])


def error_line(config_name, *arguments):
    with pytest.raises(ValueError) as caught:
        config_object(config_name, *arguments)
    line = one_line(caught.value)
    assert "\n" not in line
    return line


def run_command(*command):
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


# Text that arrives as typed.


def test_any_text_arrives_as_typed():
    rng = random.Random(0)
    texts = ["".join(rng.choices(PIECES, k=rng.randint(0, 9))) for _ in range(240)]
    texts += PIECES
    names = ["index", "query", "image", "video", "page", "device"]
    for first in range(0, len(texts), len(names)):
        given = dict(zip(names, texts[first : first + len(names)], strict=False))
        quoted = [f"{name}={quote(text)}" for name, text in given.items()]
        cfg = _compose(schema.SearchConfig, quoted)
        assert {name: cfg[name] for name in given} == given


@pytest.mark.parametrize(
    "argument",
    [
        "query=a man, a dog [and] a {cat}: 50% off = $5, isn't it?",
        "query=${oc.env:HOME}",
        "query=C:\\videos\\",
        "query='quoted'",
        'query="quoted"',
        "query=  spaces  ",
        "query=true",
        "query=12",
        "query=a=b",
        "query=",
        "query=null",
        "index=null",
        "video=/data/[1] it's, $HOME/a b.mp4",
    ],
)
def test_text_option_is_taken_literally(argument):
    name, _, value = argument.partition("=")
    overrides = prepare_arguments([argument], schema.SearchConfig)
    assert _compose(schema.SearchConfig, overrides)[name] == value


def test_optional_text_can_be_taken_back():
    assert config_object("search", "where=null").where is None
    taken_back = compose(train_schema.TrainConfig, ["data.val=null", *TRAINING])
    assert taken_back.data.val == []


def test_text_that_means_a_missing_value_is_refused_with_the_remedy():
    assert "write a path as ./???" in error_line("index", "videos=???")
    assert config_object("index", "videos=./???").videos == ["v", "./???"]


# Names.


@pytest.mark.parametrize(
    ("config_name", "argument", "line"),
    [
        ("search", "qeury=a", "unknown option qeury; near names: query"),
        ("search", "leve=moment", "unknown option leve; near names: level"),
        ("index", "video=a", "unknown option video; near names: videos"),
        ("train", "data.vall=a", "unknown option data.vall; near names: data.val"),
        ("train", "optimizer.learning_rate=1", "unknown option optimizer.learning_rate; "),
        ("train", "loop.epoch=1", "unknown option loop.epoch; near names: loop.epochs"),
        ("train", "data.weight.a=1", "unknown option data.weight; near names: data.weights"),
        ("train", "loop.seed.a=1", "unknown option loop.seed.a"),
        ("index", "experiment=shared_clips", "unknown option experiment"),
        ("index", "segments.second=4", "unknown option segments.second; near names: segments.sec"),
        (
            "index",
            "sampling.every_second=1",
            "unknown option sampling.every_second; near names: sampling.every_seconds",
        ),
        ("index", "sampling.kind=uniform", "unknown option sampling.kind; "),
        ("index", "decoding.worker=1", "unknown option decoding.worker; near names: decoding.work"),
        ("index", "decoding.workers.a=1", "unknown option decoding.workers.a"),
        ("search", "decoding.workers=1", "unknown option decoding"),
        ("index", "videos.a=1", "unknown option videos.a: videos has no parts"),
        ("search", "zzz=1", "unknown option zzz; options: index, query, image, video, k"),
        ("search", "a dog", "argument 'a dog' is not of the form name=value"),
    ],
)
def test_unknown_name_is_answered_with_near_ones(config_name, argument, line):
    assert error_line(config_name, argument).startswith(line)


@pytest.mark.parametrize("config_name", ["index", "search"])
@pytest.mark.parametrize("argument", ["model.pretrained=openai", "model.scripts=[Latin]"])
def test_part_of_a_model_without_a_model_is_refused_with_the_remedy(config_name, argument):
    name = argument.partition("=")[0]
    assert error_line(config_name, argument) == f"{name} is given without a model: add model=NAME"
    assert config_object(config_name, argument, "model=ViT-B-32").model.name == "ViT-B-32"


# Models.


def test_model_may_be_a_preset():
    model = config_object("index", "model=clip_vit_b32").model
    assert model == schema.ModelConfig("ViT-B-32", "laion2b_s34b_b79k", ["Latin"])


@pytest.mark.parametrize(
    "name", ["ViT-B-16", "hf-hub:timm/ViT-B-16-SigLIP2", "/models/it's, ${mine} [1]", "clip_vitb32"]
)
@pytest.mark.parametrize("config_name", list(NEEDED))
def test_model_may_be_any_name_which_is_left_to_the_loader(config_name, name):
    model = config_object(config_name, f"model={name}").model
    assert model == schema.ModelConfig(name, None, [])
    assert load_model_config(name) == model


def test_parts_of_a_model_may_be_given():
    arguments = ["model=ViT-B-16", "model.pretrained=a, b.pt", "model.scripts=[Latin,Han]"]
    model = config_object("index", *arguments).model
    assert model == schema.ModelConfig("ViT-B-16", "a, b.pt", ["Latin", "Han"])


def test_model_without_a_name_is_refused():
    assert error_line("index", "model=").startswith("model is empty: name a preset")


@pytest.mark.parametrize("name", preset_names("model"))
def test_preset_is_a_model_that_open_clip_lists(name):
    model = load_model_config(name)
    assert model == config_object("index", f"model={name}").model
    if name in ("mini", "mini_fast"):
        assert model.spec().pretrained is None
    else:
        assert (model.name, model.pretrained) in open_clip.list_pretrained()


# Every YAML.


@pytest.mark.parametrize("file", YAML_FILES)
def test_every_yaml_becomes_objects(file):
    group, _, name = file.rpartition("/")
    if group == "model":
        config = config_object("train", "model=x" if name == "custom" else f"model={name}")
        assert isinstance(config.model, schema.ModelConfig)
        assert config.model.spec().name == config.model.name
    elif group == "sampling":
        config = config_object("index", f"sampling={name}")
        assert isinstance(config.sampling, schema.SAMPLING_KINDS[name])
        if name == "shots":
            pytest.importorskip("scenedetect", reason="PySceneDetect, an extra, is not installed")
        frame_indices, shot_spans = config.sampling.sampler()(FakeReader(20))
        assert 1 <= len(frame_indices) <= 20
        assert (shot_spans is not None) == (name == "shots")
        assert schema.sampling_from_dict(asdict(config.sampling)) == config.sampling
    elif group == "decoding":
        for config_name in ("index", "train"):
            config = config_object(config_name, f"decoding={name}")
            assert isinstance(config.decoding, schema.DecodingConfig)
    elif group == "task":
        config = config_object("train", f"task={name}", "eval_only=false", *TRAINING)
        assert config.task is train_schema.Task[name]
    elif group == "experiment":
        config = config_object("train", f"experiment={name}", "eval_only=false", *TRAINING)
        assert isinstance(config, train_schema.TrainConfig)
        assert not config.eval_only
    else:
        types = {
            "index": schema.IndexConfig,
            "search": schema.SearchConfig,
            "train": train_schema.TrainConfig,
            "status": schema.StatusConfig,
            "verify": schema.VerifyConfig,
            "repair": schema.RepairConfig,
            "delete": schema.DeleteConfig,
            "merge": schema.MergeConfig,
            "shard": schema.ShardConfig,
            "export": schema.ExportConfig,
            "publish": schema.PublishConfig,
            "enrich": schema.EnrichConfig,
            "ranker": schema.RankerConfig,
            "token_matching": schema.TokenMatchingConfig,
            "clip": schema.ClipConfig,
            "serve": schema.ServeConfig,
            "evaluate_recommenders": recommend_schema.EvaluateConfig,
            "sequential": sequential_schema.SequentialConfig,
            "build_recommender": feed_schema.BuildRecommenderConfig,
            "completion": completion_schema.CompletionConfig,
            "evaluate_completion": completion_schema.EvaluateCompletionConfig,
            "replay": learning_schema.ReplayConfig,
            "learn": learning_schema.LearnConfig,
            "experiment_effect": experiment_schema.ExperimentConfig,
        }
        assert isinstance(config_object(name), types[name])


# Values.


@pytest.mark.parametrize(
    ("config_name", "argument", "parts"),
    [
        ("search", "k=abc", ["k=abc: must be a whole number"]),
        ("search", "k=0", ["k=0: must be at least 1"]),
        ("search", "k=[", ["["]),
        ("search", "k=1,2", ["k=1,2"]),
        ("search", "level=clip", ["level=clip: must be one of video, moment"]),
        ("search", "json=maybe", ["json=maybe: must be true or false"]),
        ("search", "min_confidence=1.5", ["min_confidence=1.5", "0 to 1"]),
        ("index", "sampling=unifrm", ["=unifrm: must be one of interval, keyframes, shots, unif"]),
        ("index", "sampling.every_seconds=0", ["sampling.every_seconds=0", "more than 0"]),
        ("index", "sampling.min_frames=0", ["sampling.min_frames=0", "at least 1"]),
        ("index", "sampling.max_frames=2", ["sampling.max_frames=2", "sampling.min_frames (8)"]),
        ("index", "segments.seconds=-1", ["segments.seconds=-1.0", "more than 0"]),
        ("index", "segments.overlap_seconds=4", ["overlap_seconds=4.0", "segments.seconds (4.0)"]),
        ("train", "sampling.num_frames=0", ["sampling.num_frames=0", "at least 1"]),
        ("index", "sampling.dedup_threshold=-1", ["sampling.dedup_threshold=-1.0", "0 to 255"]),
        ("index", "sampling.dedup_threshold=256", ["sampling.dedup_threshold=256.0", "0 to 255"]),
        ("train", "sampling.dedup_threshold=nan", ["sampling.dedup_threshold=nan", "0 to 255"]),
        ("index", "decoding.decoder=ffmpeg", ["decoder=ffmpeg", "decord, pyav"]),
        ("index", "decoding.workers=-1", ["decoding.workers=-1", "0 or more"]),
        ("index", "decoding.workers=two", ["decoding.workers=two: must be a whole number"]),
        ("index", "decoding.timeout_seconds=0", ["decoding.timeout_seconds=0.0", "more than 0"]),
        ("train", "decoding.timeout_seconds=nan", ["decoding.timeout_seconds=nan", "more than 0"]),
        ("index", "decoding.memory_gb=0.9", ["decoding.memory_gb=0.9", "at least 1"]),
        (
            "index",
            "decoding.max_videos_per_worker=0",
            ["decoding.max_videos_per_worker=0", "at least 1"],
        ),
        ("train", "eval_only=false", ["eval_only=true"]),
        ("enrich", "ocr=false", ["ocr=true, speech=true or both"]),
        ("enrich", "ocr_every_seconds=0", ["ocr_every_seconds=0.0", "more than 0"]),
        ("enrich", "ocr_confidence=1.1", ["ocr_confidence=1.1", "0 to 1"]),
        ("enrich", "ocr_pixels=31", ["ocr_pixels=31", "at least 32"]),
        ("enrich", "device=mps", ["device=mps", "auto, cpu, cuda"]),
        ("train", "loop.epochs=many", ["loop.epochs=many: must be a whole number"]),
        ("train", "experiment=clip4clip", ["experiment=clip4clip: must be one of clip4clip_mean"]),
        ("train", "experiment=", ["experiment=: must be one of"]),
    ],
)
def test_wrong_value_is_named_in_one_line(config_name, argument, parts):
    line = error_line(config_name, argument)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sampling=keyframes", "sampling.max_frames=0"], ["sampling.max_frames=0", "at least 1"]),
        (["sampling=shots", "sampling.frames_per_shot=0"], ["frames_per_shot=0", "at least 1"]),
        (["sampling=shots", "sampling.min_seconds=-1"], ["min_seconds=-1.0", "0 or more"]),
        (["sampling=shots", "sampling.max_seconds=1"], ["max_seconds=1.0", "min_seconds (1.0)"]),
        (["sampling=shots", "sampling.max_seconds=nan"], ["max_seconds=nan", "min_seconds (1.0)"]),
        (["sampling=shots", "sampling.max_frames=0"], ["sampling.max_frames=0", "at least 1"]),
        (["sampling=keyframes", "sampling.every_seconds=1"], ["every_seconds"]),
        (["sampling=uniform", "sampling.max_frames=1"], ["max_frames"]),
    ],
    ids=lambda values: values[-1],
)
def test_wrong_value_of_a_way_to_sample_is_named_in_one_line(arguments, parts):
    line = error_line("index", *arguments)
    for part in parts:
        assert part in line


@pytest.mark.parametrize("config_name", ["index", "train"])
def test_ways_to_sample_take_their_options(config_name):
    def sampling(*arguments):
        return config_object(config_name, *arguments).sampling

    assert sampling("sampling=keyframes", "sampling.max_frames=7") == schema.KeyFrameSampling(
        max_frames=7
    )
    chosen = sampling(
        "sampling=shots",
        "sampling.frames_per_shot=2",
        "sampling.min_seconds=0",
        "sampling.max_seconds=inf",
        "sampling.dedup_threshold=12.5",
    )
    assert chosen == schema.ShotSampling(
        frames_per_shot=2,
        min_seconds=0.0,
        max_seconds=float("inf"),
        max_frames=20_000,
        dedup_threshold=12.5,
    )
    assert sampling("sampling=uniform", "sampling.dedup_threshold=255").dedup_threshold == 255.0


def test_sampling_that_was_kept_before_there_was_more_to_it_is_read():
    kept = {"kind": "interval", "every_seconds": 1.0, "min_frames": 8, "max_frames": 20_000}
    assert schema.sampling_from_dict(kept) == config_object("index").sampling


def test_shots_without_scenedetect_name_the_remedy(monkeypatch):
    monkeypatch.setattr("vision.shots.find_spec", lambda name: None)
    config = config_object("index", "sampling=shots").sampling
    with pytest.raises(ValueError, match=r"pip install 'reelseek\[shots\]'"):
        config.sampler()


# How videos are decoded.


@pytest.mark.parametrize("config_name", ["index", "train"])
def test_decoding_takes_its_options(config_name):
    decoding = config_object(
        config_name,
        "decoding.decoder=decord",
        "decoding.workers=3",
        "decoding.timeout_seconds=0.5",
        "decoding.memory_gb=1.0",
        "decoding.max_videos_per_worker=1",
    ).decoding
    assert decoding == schema.DecodingConfig(
        decoder=schema.Decoder.decord,
        workers=3,
        timeout_seconds=0.5,
        memory_gb=1.0,
        max_videos_per_worker=1,
    )


@pytest.mark.parametrize(
    ("decoder", "order"), [("pyav", ("pyav", "decord")), ("decord", ("decord", "pyav"))]
)
def test_pool_is_made_of_what_was_configured(monkeypatch, decoder, order):
    from reelseek import vision

    made = []
    monkeypatch.setattr(
        vision, "DecodePool", lambda *given, **options: made.append((given, options))
    )
    config = config_object(
        "index",
        "sampling=keyframes",
        "sampling.dedup_threshold=3",
        f"decoding.decoder={decoder}",
        "decoding.workers=2",
        "decoding.timeout_seconds=9",
        "decoding.memory_gb=1.5",
        "decoding.max_videos_per_worker=5",
    )
    preprocessing = vision.Preprocessing(size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    config.decoding.pool(config.sampling.frame_settings(preprocessing))
    (((settings,), options),) = made
    assert settings == vision.FrameSettings(
        vision.KeyFrameSampler(20_000), preprocessing, dedup_threshold=3.0
    )
    assert tuple(options["decoders"]) == order
    assert options["num_workers"] == 2
    assert options["limits"] == vision.WorkerLimits(
        timeout_seconds=9.0, memory_bytes=1536 << 20, max_videos_per_worker=5
    )


def test_memory_without_a_bound_is_a_mistake_or_taken():
    try:
        config = config_object("index", "decoding.memory_gb=inf")
    except ValueError:
        return
    with config.decoding.pool(config.sampling.frame_settings(None)):
        pass


@pytest.mark.parametrize(
    ("config_name", "missing"), [("index", "videos is missing"), ("search", "index is missing")]
)
def test_missing_value_is_named_in_one_line(config_name, missing):
    with pytest.raises(ValueError) as caught:
        compose(SCHEMAS[config_name], [])
    assert one_line(caught.value).startswith(missing)


def test_names_in_messages_cannot_steer_the_terminal(capsys, monkeypatch):
    name = "esc\x1b[31m\u202e\x9b\udcff.mp4"
    shown = r"esc\x1b[31m\u202e\x9b\udcff.mp4"
    assert one_line(ValueError(f"videos={name}: no such file")) == f"videos={shown}: no such file"

    monkeypatch.setattr(logging.root, "handlers", [])
    command_line._show_only_own_warnings()
    logging.getLogger("reelseek.indexing.anything").warning("%s: is damaged\nor not", name)
    assert capsys.readouterr().err == f"WARNING: {shown}: is damaged\\nor not\n"


def test_printed_json_has_no_nan(capsys):
    command_line.print_json({"score": float("nan"), "key": "\x1b[31m\n"})
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail) == {"score": None, "key": "\x1b[31m\n"}
    assert out.count("\n") == 1 and out.strip().isprintable()


# Processes.


def test_mistake_is_one_line_on_stderr_and_exit_code_2():
    done = run_command("search.py", "index=i", "query=a", "k=abc")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["search.py"], ["train.py"], ["-m", "indexing"]], ids=lambda command: command[-1]
)
def test_help_lists_the_options_and_imports_no_heavy_library(command):
    done = run_command("-X", "importtime", *command, "--help")
    assert done.returncode == 0
    assert "usage: python" in done.stdout
    for name in {"search.py": ["level", "k"], "train.py": ["data.val"]}.get(command[0], ["videos"]):
        assert f"  {name} " in done.stdout
    recipes = f"\nexperiments: {', '.join(preset_names('experiment'))}\n"
    assert (recipes in done.stdout) == (command == ["train.py"])
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    heavy = {"torch", "faiss", "open_clip", "transformers", "av", "decord", "numpy", "psutil"}
    assert imported.isdisjoint(heavy)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_full_disk_behind_stdout_is_one_line():
    program = (
        "from configs import command_line; from configs.schema import SearchConfig; "
        "command_line.run(lambda config: command_line.print_json(1), SearchConfig, usage='', "
        "arguments=['index=i', 'query=a'])"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    assert done.stderr == "error: standard output: No space left on device\n"
    assert done.returncode == 2
