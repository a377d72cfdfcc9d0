"""Runs from a configuration to a model folder, on videos of one colour each, in this process."""

import functools
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import reelseek.indexing.__main__
import reelseek.training.frame_cache
import reelseek.training.run
import tests.conftest
from reelseek.ranking import command as search
from reelseek.training import command as train
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.progress import StepProgress
from reelseek.vision import ModelSpec, load_model, save_model
from tests.command_lines import Done, run_in_this_process

pytestmark = pytest.mark.long

TINY_CFG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "patch_size": 16,
        "head_width": 16,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "cyan": (30, 210, 210),
    "magenta": (210, 30, 210),
    "orange": (240, 130, 20),
    "purple": (110, 20, 160),
}
NUM_STEPS = 40 * 2  # of 16 pairs, 8 a batch


class Collection:
    """A model folder, and lists of videos to train and to validate on, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "tiny"
        save_tiny_model(self.model)
        write_video = tests.conftest.write_video.__wrapped__(folder)
        for name, colour in COLOURS.items():
            write_video(f"{name}.mp4", [colour] * 4, size=(32, 32))
            other = tuple(max(0, level - 5) for level in colour)
            write_video(f"{name}-2.mp4", [other] * 4, size=(32, 32))
        self.train = write_list(
            folder / "train.jsonl", {f"{name}.mp4": [name, f"a {name} wall"] for name in COLOURS}
        )
        self.val = write_list(
            folder / "val.jsonl", {f"{name}-2.mp4": [f"a {name} wall"] for name in COLOURS}
        )

    def evaluation(self, *changes: str) -> list[str]:
        """Of `train.py eval_only=true`."""
        return [
            "eval_only=true",
            f"data.cache={self.folder / 'frames'}",
            f"model={self.model}",
            *("precision=fp32", "num_bootstrap=0", "sampling.num_frames=2", "decoding.workers=1"),
            *changes,
        ]

    def arguments(self, output: Path, *changes: str) -> list[str]:
        """Of `train.py`: the last of two that name the same option counts."""
        arguments = [
            f"data.train={self.train}",
            f"data.val={self.val}",
            f"data.cache={self.folder / 'frames'}",
            f"model={self.model}",
            f"output={output}",
            "precision=fp32",
            "num_bootstrap=0",
            "decoding.workers=1",
            "sampling.num_frames=2",
            "loop.batch_size=8",
            "loop.epochs=40",
            "loop.eval_every=20",
            "optimizer.lr=2e-2",
            "optimizer.warmup_steps=2",
        ]
        by_name = {argument.partition("=")[0]: argument for argument in [*arguments, *changes]}
        return [argument for argument in by_name.values() if not argument.endswith("=MISSING")]


def save_tiny_model(folder: Path, *, seed: int = 0) -> None:
    """A CLIP with weights by chance, as `vision.save_model` writes it."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY_CFG, "preprocess_cfg": {}})
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**TINY_CFG)
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    save_model(load_model(ModelSpec(str(folder), scripts=("Latin",))), folder)


def write_list(path: Path, captions_by_video: dict[str, list[str]], **metadata: str) -> Path:
    lines = [
        json.dumps({"video": video, "captions": captions, **metadata}) + "\n"
        for video, captions in captions_by_video.items()
    ]
    path.write_text("".join(lines))
    return path


def run_here(*arguments: object, program: ModuleType = train, name: str = "train") -> Done:
    """`python train.py ARGUMENTS`, in this process; or another of the programs."""
    return run_in_this_process(program, name, *arguments)


def assert_mistake(done: Done, *parts: str) -> None:
    """Exit code 2, and after warnings and progress one line that names these parts."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.stderr.endswith(f"{line}\n")
    for part in parts:
        assert part in line


def last_state(output: Path):
    state = Checkpoints(output / "checkpoints").read_last()
    assert state is not None
    return state


def losses(output: Path) -> list[float]:
    return [r["train/loss"] for r in last_state(output).history if "train/loss" in r]


def recalls(output: Path) -> list[float]:
    return [r["val/t2v/R@1"] for r in last_state(output).history if "val/t2v/R@1" in r]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def whole_run(collection, tmp_path_factory):
    """A run that nothing has stopped: its output, and what it printed."""
    output = tmp_path_factory.mktemp("whole") / "output"
    return output, run_here(*collection.arguments(output))


@pytest.fixture
def at_step(monkeypatch):
    """Has something done after a step."""

    def watch(step, action):
        class Watch(StepProgress):
            def step(self, record):
                super().step(record)
                if record["step"] == step:
                    action()

        monkeypatch.setattr(reelseek.training.run, "StepProgress", Watch)

    return watch


@pytest.fixture(autouse=True, scope="module")
def pytorch_alone():
    """Dozens of runs in one process are no use that OpenVINO is made for: it crashes in the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        yield


@pytest.fixture
def limit_file_size():
    """Lets no file grow beyond a size, as on a disk that is full; Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# A run to its end.


def test_run_learns_from_chance(whole_run):
    output, done = whole_run
    first, *_, last = recalls(output)
    assert (first <= 25.0, last) == (True, 100.0)  # of 8 colours
    assert len(losses(output)) == NUM_STEPS
    assert losses(output)[-1] < losses(output)[0] / 2
    assert done.metrics["t2v"]["R@1"] == 100.0
    assert done.metrics["num_failed"] == 0


def test_same_command_after_the_end_does_nothing_more(collection, whole_run):
    output, done = whole_run
    before = (output / "checkpoints" / "last.pt").read_bytes()
    again = run_here(*collection.arguments(output))
    assert again.metrics == done.metrics
    assert (output / "checkpoints" / "last.pt").read_bytes() == before
    assert f"going on after step {NUM_STEPS} of {NUM_STEPS}" in again.stderr


def test_evaluation_of_the_folder_gives_the_metrics_of_the_run(collection, whole_run):
    output, done = whole_run
    evaluated = run_here(
        "eval_only=true",
        f"model={output}",
        f"data.val={collection.val}",
        f"data.train={collection.train}",  # for the bank
        *("precision=fp32", "num_bootstrap=0", "sampling.num_frames=2"),
    )
    assert evaluated.metrics == done.metrics
    assert load_model(ModelSpec(str(output))).fingerprint == done.metrics["fingerprint"]
    assert load_model(ModelSpec(str(collection.model))).fingerprint != done.metrics["fingerprint"]


def test_training_goes_on_from_a_trained_folder(collection, whole_run, tmp_path):
    output, second = whole_run[0], tmp_path / "second"
    done = run_here(*collection.arguments(second, f"model={output}", "loop.epochs=1"))
    assert done.metrics["t2v"]["R@1"] == 100.0
    assert recalls(second)[0] == 100.0
    assert losses(second)[0] < losses(output)[0] / 2


@pytest.mark.parametrize("pooling", ["transformer", "attention"])
def test_folder_with_a_pooling_of_its_own_is_indexed_and_searched(collection, tmp_path, pooling):
    output, index = tmp_path / "output", tmp_path / "index"
    changes = [f"pooling.kind={pooling}", "pooling.num_heads=4", "pooling.num_layers=1"]
    done = run_here(*collection.arguments(output, *changes))
    assert done.metrics["t2v"]["R@1"] == 100.0
    assert (output / "pooling.safetensors").is_file()
    asked = [f"videos={collection.val}", f"index={index}", "decoding.workers=1"]
    indexed = run_here(*asked, f"model={output}", program=reelseek.indexing.__main__, name="index")
    assert indexed.metrics["indexed"] == len(COLOURS)
    question = ["query=a red wall", f"index={index}", "json=true", "k=3"]
    found = run_here(*question, program=search, name="search")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)[0]["key"] == "red-2.mp4"
    other = run_here(*question, f"model={collection.model}", program=search, name="search")
    assert_mistake(other, f"index={index}", str(output), str(collection.model))
    other = run_here(
        *asked, f"model={collection.model}", program=reelseek.indexing.__main__, name="index"
    )
    assert_mistake(other, str(index))


# Each way to train.


@pytest.mark.parametrize(
    "changes",
    [
        ["objective.loss=sigmoid"],
        ["objective.label_smoothing=0.1", "objective.logit_scale=20"],
        ["objective.loss=sigmoid", "loop.chunk_size=3", "loop.accumulate_steps=2"],
        ["trainable.image=lora", "trainable.text=lora", "trainable.lora_rank=2"],
        ["trainable.image=all", "trainable.text=all", "loop.flip=true", "loop.chunk_size=3"],
        ["trainable.image=frozen", "trainable.text=frozen", "pooling.kind=attention"],
        ["loop.frames_per_video=1", "loop.feature_dropout=0.2", "data.workers=1"],
        ["optimizer.text_lr=1e-3", "optimizer.pooling_lr=1e-3", "pooling.kind=transformer"],
        ["data.weights.train=2"],
    ],
    ids=" ".join,
)
def test_every_way_to_train_gives_a_model(collection, tmp_path, changes):
    output = tmp_path / "output"
    some = ["loop.epochs=4", "data.val=MISSING", "optimizer.trunk_lr=1e-3", *changes]
    if "pooling.kind=transformer" in changes:
        some.append("pooling.num_heads=2")
    done = run_here(*collection.arguments(output, *some))
    assert done.metrics == {}
    steps_each = {"data.weights.train=2": 4, "loop.accumulate_steps=2": 1}
    expected = next((num for name, num in steps_each.items() if name in changes), 2)
    assert len(losses(output)) == 4 * expected
    assert losses(output)[-1] < losses(output)[0]
    model = load_model(ModelSpec(str(output)))
    assert model.fingerprint != load_model(ModelSpec(str(collection.model))).fingerprint
    assert not any("lora" in name for name in model.clip.state_dict())


@pytest.mark.parametrize(
    ("what", "moves"),
    [
        ("frozen", set()),
        ("heads", {"visual.proj"}),
        ("blocks", {"visual.proj", "visual.ln_post", "visual.transformer.resblocks.1"}),
        ("lora", {"visual.proj", "visual.transformer.resblocks.0", "resblocks.1"}),
        ("all", {"visual.proj", "visual.conv1", "visual.transformer.resblocks.0", "resblocks.1"}),
    ],
)
def test_only_what_is_to_train_moves(collection, tmp_path, what, moves):
    output = tmp_path / "output"
    run_here(
        *collection.arguments(
            output,
            *(f"trainable.image={what}", "loop.epochs=2", "data.val=MISSING"),
            *("trainable.text=heads", "optimizer.trunk_lr=1e-2"),
        )
    )
    start = load_model(ModelSpec(str(collection.model))).clip.state_dict()
    end = load_model(ModelSpec(str(output))).clip.state_dict()
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert {"text_projection", "logit_scale"} <= moved
    of_image = {name for name in moved if name.startswith("visual.")}
    for part in moves:
        assert any(part in name for name in of_image), part
    if what != "all":
        allowed = tuple(moves) if what != "lora" else ("visual.proj", "visual.transformer.")
        assert all(name.startswith(allowed) for name in of_image), of_image
    assert all(name.startswith(("visual.", "text_projection", "logit_scale")) for name in moved)


def test_chunks_change_nothing(collection, tmp_path):
    for chunk_size in (0, 3):
        some = [f"loop.chunk_size={chunk_size}", "loop.epochs=3", "data.val=MISSING"]
        run_here(*collection.arguments(tmp_path / str(chunk_size), *some))
    assert losses(tmp_path / "3") == pytest.approx(losses(tmp_path / "0"), rel=1e-4)


def test_share_of_the_start_is_kept(collection, tmp_path):
    output = tmp_path / "output"
    some = ["optimizer.wise_ft_alpha=0.25", "loop.epochs=3", "data.val=MISSING"]
    done = run_here(*collection.arguments(output, *some))
    assert done.metrics == {}
    start = load_model(ModelSpec(str(collection.model))).clip
    end = load_model(ModelSpec(str(output))).clip
    trained = last_state(output).weights["image.head.weight"]
    expected = 0.75 * trained + 0.25 * start.visual.proj
    torch.testing.assert_close(end.visual.proj, expected)
    assert not torch.allclose(trained, start.visual.proj, atol=1e-3)


def test_second_run_decodes_nothing_to_train_on(collection, whole_run, tmp_path, monkeypatch):
    def fail(videos, **_):
        assert list(videos) == []
        return iter(())

    monkeypatch.setattr("reelseek.training.frame_cache.encode_videos", fail)
    some = ["loop.epochs=1", "data.val=MISSING"]
    assert run_here(*collection.arguments(tmp_path / "output", *some)).metrics == {}


# Stopped, and going on.


def test_stopped_run_goes_on_to_the_same_end(collection, whole_run, tmp_path, at_step):
    output = tmp_path / "output"
    inside_epoch, at_evaluation = 7, 40
    stops = {1: signal.SIGTERM, inside_epoch: signal.SIGINT, at_evaluation: signal.SIGTERM}
    for step, number in (stops | {NUM_STEPS: signal.SIGTERM}).items():
        at_step(step, functools.partial(os.kill, os.getpid(), number))
        done = run_here(*collection.arguments(output))
        assert (done.returncode, done.stdout) == (128 + number, "")
        assert done.stderr.endswith("stopped; the same command goes on\n")
        assert last_state(output).step == step
    at_step(0, None)
    done = run_here(*collection.arguments(output))
    assert done.metrics == whole_run[1].metrics
    assert last_state(output).history == last_state(whole_run[0]).history


def test_that_it_stopped_is_said_last(collection, tmp_path, at_step, monkeypatch):
    def late(*values, **options):  # as where the thread that listens gets no processor
        time.sleep(3)
        print(*values, **options)

    monkeypatch.setattr("reelseek.indexing.shutdown.print", late, raising=False)
    at_step(1, functools.partial(os.kill, os.getpid(), signal.SIGTERM))
    done = run_here(*collection.arguments(tmp_path / "output"))
    said = done.stderr.splitlines()
    assert said[-2].startswith("stopping when the videos in hand are done")
    assert said[-1] == "stopped; the same command goes on"


def test_run_that_is_stopped_while_it_decodes_goes_on(collection, whole_run, tmp_path, monkeypatch):
    encode_videos = reelseek.training.frame_cache.encode_videos
    encoded = []

    def stop_after_three(videos, **options):
        for video in encode_videos(videos, **options):
            encoded.append(video.tag)
            if len(encoded) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield video

    monkeypatch.setattr("reelseek.training.frame_cache.encode_videos", stop_after_three)
    arguments = collection.arguments(tmp_path / "output", f"data.cache={tmp_path / 'frames'}")
    assert run_here(*arguments).returncode == 128 + signal.SIGTERM
    num_encoded = len(encoded)
    done = run_here(*arguments)
    assert done.metrics == whole_run[1].metrics
    assert len(encoded) == len(set(encoded)) == 2 * len(COLOURS)
    assert num_encoded >= 3


def test_full_disk_keeps_the_last_good_checkpoint(collection, tmp_path, at_step, limit_file_size):
    some = ["trainable.image=all", "loop.epochs=2", "data.val=MISSING"]
    some += ["loop.save_every_seconds=0", "trainable.text=all"]
    output = tmp_path / "output"
    at_step(3, lambda: limit_file_size(1 << 20))
    done = run_here(*collection.arguments(output, *some))
    assert_mistake(done, "last.pt cannot be saved", "the previous checkpoint is kept")
    limit_file_size(resource.RLIM_INFINITY)
    assert last_state(output).step == 2
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["last.pt"]
    at_step(0, None)
    run_here(*collection.arguments(output, *some)).metrics  # noqa: B018
    assert run_here(*collection.arguments(tmp_path / "whole", *some)).returncode == 0
    assert losses(output) == losses(tmp_path / "whole")


def test_disk_that_is_full_at_the_end_is_one_line(collection, tmp_path, limit_file_size):
    arguments = collection.arguments(tmp_path / "output", "loop.epochs=1")
    limit_file_size(1 << 20)  # a checkpoint of heads is smaller, the model larger
    done = run_here(*arguments)
    assert_mistake(done, str(tmp_path / "output"))
    limit_file_size(resource.RLIM_INFINITY)
    assert run_here(*arguments).returncode == 0


# Mistakes.


def test_output_of_another_run_is_refused_with_both_values(collection, whole_run):
    output, _ = whole_run
    changes = ["optimizer.lr=1e-2", "loop.epochs=41", "trainable.image=lora"]
    done = run_here(*collection.arguments(output, *changes))
    assert_mistake(
        done,
        f"output={output} holds a run with other options",
        "optimizer.lr (0.02 there, 0.01 here)",
        "loop.epochs (40 there, 41 here)",
        'trainable.image ("heads" there, "lora" here)',
    )


def test_refused_run_leaves_the_configuration_of_the_other(collection, whole_run):
    output, _ = whole_run
    before = (output / "config.yaml").read_text()
    try:
        run_here(*collection.arguments(output, "optimizer.lr=1e-2"))
        assert (output / "config.yaml").read_text() == before
    finally:
        (output / "config.yaml").write_text(before)


def test_other_weights_in_the_same_folder_are_another_model(collection, tmp_path):
    save_tiny_model(tmp_path / "model")
    some = [f"model={tmp_path / 'model'}", "loop.epochs=1", "data.val=MISSING"]
    run_here(*collection.arguments(tmp_path / "output", *some))
    shutil.rmtree(tmp_path / "model")
    save_tiny_model(tmp_path / "model", seed=1)
    done = run_here(*collection.arguments(tmp_path / "output", *some))
    assert_mistake(done, "model.fingerprint (")


@pytest.fixture
def short_run(collection, tmp_path):
    """The arguments of a run that is done, and its checkpoint."""
    arguments = collection.arguments(tmp_path / "output", "loop.epochs=1", "data.val=MISSING")
    assert run_here(*arguments).returncode == 0
    return arguments, tmp_path / "output" / "checkpoints" / "last.pt"


def test_checkpoint_of_another_shape_is_named(short_run):
    arguments, path = short_run
    state = torch.load(path)
    state["weights"]["image.head.weight"] = torch.zeros(5, 5)
    torch.save(state, path)
    assert_mistake(run_here(*arguments), "image.head.weight has shape (5, 5)", "(32, 16)")


def test_checkpoint_of_something_else_is_named(short_run):
    arguments, path = short_run
    torch.save({"epoch": 3, "model": torch.zeros(2)}, path)
    assert_mistake(run_here(*arguments), str(path))


def test_damaged_checkpoint_is_named_with_the_remedy(short_run):
    arguments, path = short_run
    path.write_bytes(path.read_bytes()[:1000])
    assert_mistake(run_here(*arguments), f"{path} is damaged", f"delete {path.parent}")


def test_line_without_a_video_is_named(collection, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"video": "a.mp4", "captions": ["a"]}\n{"captions": ["b"]}\n')
    done = run_here(*collection.arguments(tmp_path / "output", f"data.train={bad}"))
    assert_mistake(done, f"{bad}, line 2", "`video`")


def test_video_without_captions_is_one_that_failed(collection, tmp_path):
    captions = {str(collection.folder / f"{name}.mp4"): [f"film {name}"] for name in COLOURS}
    first = next(iter(captions))
    some = write_list(tmp_path / "some.jsonl", captions | {first: [" "]})
    changes = [f"data.train={some}", "data.val=MISSING", "loop.batch_size=7", "loop.epochs=1"]
    output = tmp_path / "output"
    refused = run_here(*collection.arguments(output, *changes))
    assert_mistake(refused, "1 of 8 videos are missing, broken or without captions", first)
    done = run_here(*collection.arguments(output, *changes, "data.max_failed_fraction=0.2"))
    assert done.metrics == {}
    assert (output / "failed.tsv").read_text() == f"{first}\thas no caption\n"
    assert "1 caption is left out: line 1 is blank" in done.stderr


def test_video_without_captions_is_left_out_of_an_evaluation(collection, tmp_path):
    captions = {str(collection.folder / f"{name}.mp4"): [f"film {name}"] for name in COLOURS}
    some = write_list(tmp_path / "some.jsonl", captions | {next(iter(captions)): []})
    done = run_here(*collection.evaluation(f"data.val={some}"))
    assert (done.metrics["num_failed"], done.metrics["num_gallery"]) == (1, len(COLOURS) - 1)


@pytest.mark.parametrize(("num_broken", "num_videos"), [(2, 3), (1, 8)])
def test_too_many_broken_videos_are_named(collection, tmp_path, num_broken, num_videos):
    names = [str(collection.folder / f"{name}.mp4") for name in COLOURS]
    names = [*names[: num_videos - num_broken], *(f"none-{i}.mp4" for i in range(num_broken))]
    some = write_list(tmp_path / "some.jsonl", {name: ["a"] for name in names})
    done = run_here(
        *collection.arguments(tmp_path / "output", f"data.train={some}", "data.val=MISSING")
    )
    report = tmp_path / "output" / "failed.tsv"
    fraction = f"{num_broken} of {num_videos} videos are missing, broken or without captions"
    assert_mistake(
        done, fraction, "data.max_failed_fraction=0.1", str(report), "none-0.mp4: no such file"
    )
    lines = [line.split("\t") for line in report.read_text().splitlines()]
    assert lines == [
        [str(tmp_path / f"none-{i}.mp4"), "no such file or directory"] for i in range(num_broken)
    ]


def test_few_broken_videos_are_named_and_left_out(collection, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    names = [*(str(collection.folder / f"{name}.mp4") for name in COLOURS), "broken.mp4"]
    some = write_list(tmp_path / "some.jsonl", {name: [f"film {name}"] for name in names})
    output = tmp_path / "output"
    changes = [
        f"data.train={some}",
        f"data.val={some}",
        "data.max_failed_fraction=0.2",
        "loop.epochs=1",
    ]
    done = run_here(*collection.arguments(output, *changes))
    assert done.metrics["num_failed"] == 1
    assert done.metrics["num_gallery"] == len(COLOURS)
    (line,) = (output / "failed.tsv").read_text().splitlines()
    path, reason = line.split("\t")
    assert (path, bool(reason)) == (str(tmp_path / "broken.mp4"), True)
    assert f"left out: {path}: " in done.stderr
    assert "9 videos are in data.train and in data.val" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "train",
        "val",
    ],
)
def test_list_of_which_no_video_can_be_had_is_named_however_many_may_fail(
    collection, tmp_path, name
):
    some = write_list(tmp_path / "some.jsonl", {"none.mp4": ["a"], "none-2.mp4": ["b"]})
    changes = [f"data.{name}={some}", "data.max_failed_fraction=1"]
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, f"data.{name}", str(some))


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["loop.batch_size=17"], ["loop.batch_size=17", "only 16 pairs"]),
        (["loop.accumulate_steps=3"], ["loop.accumulate_steps=3", "2 batches"]),
        (["data.weights.train=inf"], ["data.weights.train=inf"]),
        (["data.weights.train=0"], ["only 0 pairs"]),
        (["pooling.kind=transformer", "pooling.num_heads=3"], ["num_heads"]),
        (["trainable.image=frozen", "trainable.text=frozen"], ["trainable.image=frozen", "noth"]),
        (["device=cuda:99"], ["device=cuda:99"]),
        (["precision=fp8"], ["precision=fp8", "fp32, bf16"]),
        (
            ["optimizer.lr=1e30", "optimizer.warmup_steps=0"],
            ["the loss is nan at step 3 (epoch 2", ".mp4"],
        ),
    ],
    ids=lambda values: values[0],
)
def test_mistake_that_shows_in_the_run_is_one_line(collection, tmp_path, changes, parts):
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, *parts)


def test_weights_of_sources_that_are_not_there_are_ignored_with_a_warning(collection, tmp_path):
    """Recipes name the sources that they were made for, and run on others."""
    changes = ["data.weights.trian=2", "data.weights.coco=0.4", "loop.epochs=1", "data.val=MISSING"]
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert done.metrics == {}
    assert "data.weights.coco, data.weights.trian: ignored" in done.stderr
    assert "data.train has no such source; there are train" in done.stderr


def test_cache_that_cannot_be_written_is_named(collection, tmp_path):
    (tmp_path / "file").touch()
    changes = [f"data.cache={tmp_path / 'file' / 'cache'}"]
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, f"data.cache={tmp_path / 'file' / 'cache'}", "cannot be made or written")


# Evaluation, from the cache.


@pytest.mark.parametrize("trains", ["heads", "all"])
def test_evaluation_decodes_nothing_that_training_has_cached(
    collection, tmp_path, monkeypatch, trains
):
    output = tmp_path / "output"
    some = [f"trainable.image={trains}", "loop.epochs=1", "pooling.kind=mean"]
    done = run_here(*collection.arguments(output, *some))

    def fail(videos, **_):
        assert list(videos) == []
        return iter(())

    monkeypatch.setattr("reelseek.training.frame_cache.encode_videos", fail)
    asked = [f"model={output}", f"data.val={collection.val}", f"data.train={collection.train}"]
    again = run_here(*collection.evaluation(*asked, some[0]))
    assert again.metrics == done.metrics


def test_second_evaluation_decodes_nothing_and_gives_the_same(collection, tmp_path, monkeypatch):
    asked = [f"data.val={collection.val}", f"data.cache={tmp_path / 'cache'}"]
    first = run_here(*collection.evaluation(*asked))
    assert "caching frames" in first.stderr
    second = run_here(*collection.evaluation(*asked))
    assert "caching frames" not in second.stderr
    assert second.metrics == first.metrics
