"""`train.py data.stream=true` on twenty shards: from the command to a model folder."""

import json
import os
import signal
import sys

import pytest
import torch

import reelseek.training.run
from reelseek.training.progress import StepProgress
from reelseek.training.shards import pool
from tests.training.shards.generated import NUM_SHARDS, SHARD_SAMPLES, write_shards
from tests.training.test_run import (
    TINY_CFG,
    assert_mistake,
    last_state,
    losses,
    run_here,
    save_tiny_model,
)

pytestmark = pytest.mark.long

BATCH_SIZE, EPOCHS = 16, 2
STEPS_PER_EPOCH = (NUM_SHARDS - 1) * SHARD_SAMPLES // BATCH_SIZE
BROKEN_SAMPLE = (3, 5)


@pytest.fixture(autouse=True, scope="module")
def pytorch_alone_with_one_thread():
    """One number of threads for all runs: with another, sums round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, and twenty shards, of which one sample and one shard are broken."""
    folder = tmp_path_factory.mktemp("shards")
    save_tiny_model(folder / "tiny")
    write_shards(folder / "shards", broken=[BROKEN_SAMPLE])
    shard = folder / "shards" / "0007.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    return folder


def arguments(folder, output, *changes):
    given = [
        f"data.train={folder / 'shards'}/{{0000..0019}}.tar",
        f"data.cache={folder / 'cache'}",
        f"model={folder / 'tiny'}",
        f"output={output}",
        "data.stream=true",
        "data.shards_per_group=4",
        "data.min_crop_area=0.5",
        "data.workers=2",
        "loop.flip=true",
        "trainable.image=all",
        "trainable.text=all",
        "optimizer.trunk_lr=1e-3",
        "precision=fp32",
        "num_bootstrap=0",
        "decoding.workers=1",
        "sampling.num_frames=2",
        f"loop.batch_size={BATCH_SIZE}",
        f"loop.epochs={EPOCHS}",
        "optimizer.warmup_steps=2",
    ]
    return list({a.partition("=")[0]: a for a in [*given, *changes]}.values())


def stop_at(monkeypatch, step, number):
    class Watch(StepProgress):
        def step(self, record):
            super().step(record)
            if record["step"] == step:
                os.kill(os.getpid(), number)

    monkeypatch.setattr(reelseek.training.run, "StepProgress", Watch)


def assert_same_run(output, other):
    ours, theirs = last_state(output), last_state(other)
    assert ours.history == theirs.history
    assert ours.weights.keys() == theirs.weights.keys()
    for name, weights in ours.weights.items():
        assert torch.equal(weights, theirs.weights[name]), name


@pytest.fixture(scope="module")
def whole_run(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "output"
    return output, run_here(*arguments(folder, output))


def test_run_sees_each_epoch_and_learns(whole_run):
    output, done = whole_run
    assert 0 <= done.metrics["training"]["data_wait_fraction"] < 1
    assert json.loads((output / "metrics.json").read_text()) == done.metrics
    assert len(losses(output)) == EPOCHS * STEPS_PER_EPOCH
    assert sum(losses(output)[-3:]) < sum(losses(output)[:3])
    assert (output / "open_clip_model.safetensors").is_file()


def test_broken_shard_and_sample_are_named_counted_and_skipped(folder, whole_run):
    output, done = whole_run
    shard = folder / "shards" / "0007.tar"
    sample = f"{folder / 'shards' / '0003.tar'}, '0005.png'"
    assert f"left out: {shard}: is not a whole, uncompressed tar" in done.stderr
    assert done.stderr.count(f"left out: {sample}: not a readable image") == 1
    report = dict(line.split("\t") for line in (output / "skipped.tsv").read_text().splitlines())
    assert set(report) == {str(shard), sample}
    assert report[sample].endswith("'0005.png'")  # and no file of ours
    skipped = [record["data/num_skipped"] for record in last_state(output).history]
    assert sum(skipped) == done.metrics["training"]["num_skipped_samples"] >= 1


def test_run_that_was_stopped_inside_shards_ends_with_the_same_weights(
    folder, whole_run, tmp_path, monkeypatch
):
    output = tmp_path / "output"
    skipped = [record["data/num_skipped"] for record in last_state(whole_run[0]).history]
    stop_step = 1 + skipped.index(1)
    assert stop_step % STEPS_PER_EPOCH
    with monkeypatch.context() as patch:
        stop_at(patch, stop_step, signal.SIGTERM)
        done = run_here(*arguments(folder, output))
    assert done.returncode == 128 + signal.SIGTERM
    assert last_state(output).step == stop_step
    # How samples are loaded is free to change: the batches are the same.
    done = run_here(*arguments(folder, output, "decoding.workers=2", "data.workers=1"))
    assert_same_run(output, whole_run[0])
    ours, theirs = done.metrics["training"], whole_run[1].metrics["training"]
    assert ours["num_skipped_samples"] == theirs["num_skipped_samples"]
    assert (output / "skipped.tsv").read_text() == (whole_run[0] / "skipped.tsv").read_text()


def test_killed_decoders_change_nothing(folder, whole_run, tmp_path, monkeypatch):
    """As when the system needs memory: the samples in hand are loaded again."""
    receive = pool._Worker.receive
    calls = []

    def kill_sometimes(worker):
        calls.append(worker)
        if len(calls) % 40 == 0:
            worker._process.kill()
        return receive(worker)

    monkeypatch.setattr(pool._Worker, "receive", kill_sometimes)
    assert run_here(*arguments(folder, tmp_path / "output")).metrics
    assert len(calls) > (NUM_SHARDS - 1) * SHARD_SAMPLES * EPOCHS
    assert_same_run(tmp_path / "output", whole_run[0])


def test_model_is_trained_from_new_weights_and_continued(folder, tmp_path):
    (tmp_path / "model").mkdir()
    config = {"model_cfg": TINY_CFG, "preprocess_cfg": {}}
    (tmp_path / "model" / "open_clip_config.json").write_text(json.dumps(config))
    some = [f"model={tmp_path / 'model'}", "trainable.from_scratch=true", "loop.epochs=1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_here(*arguments(folder, first, *some)).metrics
    assert run_here(*arguments(folder, second, f"model={first}", "loop.epochs=1")).metrics
    assert losses(second)[0] < losses(first)[0]


def test_missing_shard_is_one_line_before_the_model_is_loaded(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("reelseek.vision.load_model", None)
    some = [f"data.train={folder / 'shards'}/{{0000..0020}}.tar"]
    done = run_here(*arguments(folder, tmp_path / "output", *some))
    assert_mistake(done, "data.train=", "0020.tar: no such shard")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["loop.batch_size=153"], ["loop.batch_size=153", "only 152 captioned samples"]),
        (["data.stream=false"], ["data.min_crop_area=0.5", "add data.stream=true"]),
        (["data.weights.a=2"], ["data.weights", "data.stream=true"]),
        (
            ["trainable.from_scratch=true", "trainable.image=heads", "loop.flip=false"],
            ["trainable.from_scratch=true", "trainable.image=all"],
        ),
    ],
    ids=lambda values: values[0],
)
def test_mistake_is_one_line(folder, tmp_path, changes, parts):
    done = run_here(*arguments(folder, tmp_path / "output", *changes))
    assert_mistake(done, *parts)
