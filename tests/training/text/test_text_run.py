import json
import os
import socket
import subprocess
import sys

import pytest
import torch

from reelseek.text import TextEncoder, Tokenizer
from reelseek.training import command
from reelseek.vision import ModelSpec, load_model
from tests.command_lines import PROJECT, run_in_this_process
from tests.training import tiny_run
from tests.training.test_run import save_tiny_model
from tests.training.text import tiny_text
from tests.training.text.tiny_text import Run, arguments, load

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_text.make_folder(tmp_path_factory.mktemp("texts"))


def copied(trainer):
    return {name: part.clone() for name, part in trainer.finished_weights().items()}


def train_here(folder, output, *changes):
    paths = Run(folder, "unused").paths
    given = arguments(folder / "model", paths, output, *changes)
    return run_in_this_process(command, "train", *given)


def assert_mistake(done, *parts):
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_loss_falls_and_only_the_text_tower_changes(folder):
    trainer = Run(folder, "falls", "loop.epochs=6").trainer()
    before = {name: part.clone() for name, part in trainer.network.state_dict().items()}
    assert tiny_run.run(trainer)
    losses = tiny_run.losses_of(trainer)
    assert sum(losses[-5:]) < sum(losses[:5]) - 1
    after = trainer.network.state_dict()
    changed = {name for name, part in before.items() if not part.equal(after[name])}
    assert {name.split(".")[0] for name in changed} == {"text", "mlm"}
    first, *_, last = (r for r in trainer.state.history if "val/mlm/loss" in r)
    assert last["val/mlm/loss"] < first["val/mlm/loss"] - 0.3
    assert last["val/hashtags/MRR"] > first["val/hashtags/MRR"]


@pytest.mark.parametrize(
    ("stop_after", "changes"),
    [
        (7, ()),  # in the second epoch
        (2, ("loop.epochs=1", "loop.chunk_size=5", "text.anchor_weight=1")),
    ],
)
def test_run_that_was_stopped_goes_on_as_if_it_had_not_been(folder, tmp_path, stop_after, changes):
    whole = Run(folder, str(tmp_path / "whole"), *changes).trainer()
    assert tiny_run.run(whole)
    run = Run(folder, str(tmp_path / "stopped"), *changes)
    assert tiny_run.run(run.trainer(), stop_after=stop_after) is False
    resumed = run.trainer()
    assert resumed.state.step == stop_after
    assert tiny_run.run(resumed)
    assert resumed.state.history == whole.state.history
    theirs = copied(whole)
    for name, part in copied(resumed).items():
        assert torch.equal(part, theirs[name]), name


def test_chunks_do_not_change_a_step(folder, tmp_path):
    """Though the tower drops features: each text has masks of its own."""
    changes = ("loop.epochs=1", "text.anchor_weight=1")
    whole = Run(folder, str(tmp_path / "a"), *changes).trainer()
    chunks = Run(folder, str(tmp_path / "b"), *changes, "loop.chunk_size=3").trainer()
    assert tiny_run.run(whole)
    assert tiny_run.run(chunks)
    assert tiny_run.losses_of(chunks) == pytest.approx(tiny_run.losses_of(whole), abs=1e-4)


def test_two_processes_are_as_one(folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with monkeypatch.context() as patch:
        for name, value in (shared | {"RANK": "0"}).items():
            patch.setenv(name, value)
        other = subprocess.Popen(
            [sys.executable, "-m", "tests.training.text.tiny_text", folder],
            cwd=PROJECT,
            env=os.environ | {"RANK": "1"},
        )
        try:
            tiny_text.main(folder)
            assert other.wait(60) == 0
        finally:
            other.kill()
    two = torch.load(folder / "two.pt")
    one = tiny_text.train_all(folder, "one", tiny_text.ALONE)
    for name, (losses, weights) in one.items():
        assert two[name][0] == pytest.approx(losses, abs=1e-5), name
        for part, tensor in weights.items():
            torch.testing.assert_close(two[name][1][part], tensor, rtol=0, atol=1e-4)


def test_command_writes_a_model_folder_whose_images_are_as_before(folder, tmp_path):
    output = tmp_path / "out"
    done = train_here(folder, output, "loop.epochs=4")
    metrics = done.metrics
    assert json.loads((output / "metrics.json").read_text()) == metrics
    for part in ("before", "after"):
        assert {"mlm", "halves", "hashtags", "pairs", "score"} <= metrics[part].keys()
    assert metrics["after"]["mlm"]["loss"] < metrics["before"]["mlm"]["loss"]
    assert metrics["after"]["score"] > metrics["before"]["score"]
    start, model = load(folder / "model"), load(output)
    assert metrics["after"]["fingerprint"] == model.fingerprint != start.fingerprint
    pictures = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.clip.encode_image(pictures), start.clip.encode_image(pictures))
    assert torch.equal(model.clip.logit_scale, start.clip.logit_scale)

    # The same command does nothing more, and an evaluation says the same of the folder.
    assert train_here(folder, output, "loop.epochs=4").metrics == metrics
    evaluated = train_here(
        folder, tmp_path / "none", "eval_only=true", f"model={output}", "output=MISSING"
    )
    assert evaluated.metrics == metrics["after"]
    # What goes on from the folder goes on with its head.
    further = train_here(folder, tmp_path / "further", "loop.epochs=1", f"model={output}")
    assert further.metrics["before"]["mlm"] == metrics["after"]["mlm"]


def test_new_words_are_in_the_folder(folder, tmp_path):
    (tmp_path / "chinese.txt").write_text("红狗跑\n红猫跑\n红狗睡\nzebra runs\nzebra sleeps\n" * 8)
    done = train_here(
        folder,
        tmp_path / "out",
        f"data.train={tmp_path / 'chinese.txt'}",
        "pairs=MISSING",
        "text.new_tokens=6",
        "text.hashtags=false",
    )
    assert done.returncode == 0, done.stderr
    model = load_model(ModelSpec(str(tmp_path / "out")))
    tokens = model.tokenize(["红狗跑 zebra"])[0].tolist()
    start = load(folder / "model")
    assert 1 in start.tokenize(["红狗跑"])[0].tolist()  # [UNK]
    size = start.clip.text.vocab_size
    assert [token >= size for token in tokens[:6]] == [False, True, True, True, True, False]
    assert set(model.spec.scripts) == set()  # those of the start were not in its folder
    encoder = TextEncoder(model.clip, Tokenizer(model.tokenize, context_length=16))
    dog, cat = encoder.encode(["红狗跑", "红猫跑"])
    assert not torch.allclose(dog, cat)


def test_towers_of_clip_learn_by_contrast_alone(folder, tmp_path):
    save_tiny_model(tmp_path / "clip")
    refused = train_here(folder, tmp_path / "refused", f"model={tmp_path / 'clip'}")
    assert_mistake(refused, "no mask token", "text.mlm_weight=0")
    words = train_here(
        folder,
        tmp_path / "words",
        f"model={tmp_path / 'clip'}",
        "text.mlm_weight=0",
        "text.new_tokens=3",
    )
    assert_mistake(words, "text.new_tokens=0")
    done = train_here(
        folder,
        tmp_path / "out",
        f"model={tmp_path / 'clip'}",
        "text.mlm_weight=0",
        "loop.epochs=5",
        *("optimizer.trunk_lr=1e-3", "optimizer.text_lr=1e-3"),
    )
    assert done.metrics["before"].keys() == {"halves", "hashtags", "pairs", "score"}
    assert done.metrics["after"]["score"] > done.metrics["before"]["score"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["data.train=MISSING", "pairs=MISSING"], ["data.train is missing"]),
        (["data.train=/none.txt"], ["data.train=/none.txt", "no such file"]),
        (["loop.batch_size=500"], ["loop.batch_size=500", "only", "make it smaller"]),
        (["trainable.text=frozen"], ["trainable.text=frozen", "heads, blocks, lora or all"]),
        (["trainable.image=heads"], ["trainable.image=heads", "must be frozen"]),
        (["objective.loss=sigmoid"], ["objective.loss=sigmoid"]),
        (["loop.compile=true", "data.weights.a=2"], ["data.weights, loop.compile: for captioned"]),
        (
            ["data.stream=true", "trainable.from_scratch=true"],
            ["data.stream, trainable.from_scratch: for captioned"],
        ),
        (["text.dropout=1"], ["text.dropout=1"]),
        (["task=video"], ["pairs needs task=text"]),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, changes, parts):
    assert_mistake(train_here(folder, tmp_path / "out", *changes), *parts)


def test_run_with_other_texts_is_not_continued(folder, tmp_path):
    assert train_here(folder, tmp_path / "out").returncode == 0
    fewer = tmp_path / "fewer.txt"
    fewer.write_text("a red dog\n" * 40)
    done = train_here(folder, tmp_path / "out", f"data.train={fewer}")
    assert_mistake(done, "holds a run with other options", "data.train")
