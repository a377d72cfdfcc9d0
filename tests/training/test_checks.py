"""What is refused before a model is loaded or a frame decoded."""

import os
import subprocess
import sys

import pytest

from reelseek.indexing import VideoItem
from reelseek.training.lists import missing_files
from tests.command_lines import PROJECT
from tests.training.test_run import COLOURS, Collection, assert_mistake, run_here, write_list


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def short_run(collection, tmp_path_factory):
    """The output of a run that is done."""
    output = tmp_path_factory.mktemp("run") / "output"
    done = run_here(*collection.arguments(output, "loop.epochs=1", "data.val=MISSING"))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(autouse=True)
def nothing_is_loaded(short_run, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a model is loaded, and the mistake was there to see")

    monkeypatch.setattr("vision.models.loading.load_model", fail)
    monkeypatch.setattr("vision.decoding.process.start_decode_server", fail)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (["loop.batch_size=17"], ["loop.batch_size=17", "data.train has only 16 pairs", "smaller"]),
        (["data.weights.train=0.4"], ["loop.batch_size=8", "only 6 pairs"]),
        (["loop.accumulate_steps=3"], ["loop.accumulate_steps=3", "2 batches"]),
        (["loop.flip=true"], ["loop.flip=true", "trainable.image=blocks"]),
        (
            ["trainable.image=frozen", "trainable.text=frozen", "pooling.kind=mean"],
            ["trainable.image=frozen", "nothing to train"],
        ),
        (["pooling.kind=transformer", "pooling.num_heads=3"], ["pooling.num_heads=3", "16 dim"]),
        (["model=mini", "pooling.kind=transformer", "pooling.num_heads=7"], ["num_heads=7", "512"]),
        (["model=minni"], ["model=minni", "near names: mini"]),
        (["model=ViT-B-322"], ["model=ViT-B-322", "near names: ViT-B-32"]),
        (["trainable.image=head"], ["trainable.image", "heads"]),
        (["objective.loss=infonec"], ["objective.loss", "infonce"]),
        (["data.train=none.jsonl"], ["none.jsonl", "no such file"]),
        (["data.val=none.jsonl"], ["none.jsonl", "no such file"]),
        (["data.train=list.csv", "data.videos=none"], ["list.csv", "no such file"]),
    ],
    ids=lambda values: values[0],
)
def test_mistake_of_a_run(collection, tmp_path, changes, parts):
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, *parts)
    assert not (tmp_path / "output").exists()


def test_processes_that_cannot_share_a_batch(collection, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    done = run_here(*collection.arguments(tmp_path / "output"))
    assert_mistake(done, "loop.batch_size=8", "a multiple of the 3 processes")


def test_lora_without_peft(collection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    done = run_here(*collection.arguments(tmp_path / "output", "trainable.text=lora"))
    assert_mistake(done, "trainable.text=lora", "pip install")


def test_pairs_of_videos_that_are_missing_do_not_count(collection, tmp_path):
    names = [str(collection.folder / f"{name}.mp4") for name in COLOURS]
    some = write_list(
        tmp_path / "some.jsonl",
        {name: [f"film {name}"] for name in names[:7]} | {"gone.mp4": [f"{i}" for i in range(9)]},
    )
    changes = [f"data.train={some}", "data.val=MISSING", "data.max_failed_fraction=0.5"]
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, "loop.batch_size=8", "only 7 pairs")


@pytest.mark.parametrize("name", ["train", "val"])
def test_list_whose_videos_are_all_missing(collection, tmp_path, name):
    some = write_list(tmp_path / "some.jsonl", {"none.mp4": ["a"], "none-2.mp4": ["b"]})
    changes = [f"data.{name}={some}", "data.max_failed_fraction=1", "loop.batch_size=2"]
    done = run_here(*collection.arguments(tmp_path / "output", *changes))
    assert_mistake(done, f"data.{name}={some}", "none of its 2 videos", "none.mp4: no such file")


def test_evaluated_list_whose_videos_are_all_missing(collection, tmp_path):
    some = write_list(tmp_path / "some.jsonl", {"none.mp4": ["a"]})
    done = run_here(*collection.evaluation(f"data.val={some}"))
    assert_mistake(done, f"data.val={some}", "none of its 1 videos", "none.mp4: no such file")


def test_what_is_no_file_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.mp4").touch()
    names = ["pipe.mp4", "folder.mp4", "file.mp4", "none.mp4"]
    missing = missing_files([VideoItem(name, tmp_path / name) for name in names])
    assert dict(missing) == {
        f"{tmp_path}/pipe.mp4": "is a pipe, a socket or a device",
        f"{tmp_path}/folder.mp4": "is a directory",
        f"{tmp_path}/none.mp4": "no such file or directory",
    }


@pytest.mark.parametrize("name", ["output", "data.cache"])
@pytest.mark.parametrize("what", ["file", "file/below", "/proc/here"])
def test_folder_that_cannot_be_written(collection, tmp_path, name, what):
    (tmp_path / "file").touch()
    arguments = collection.arguments(tmp_path / "output", f"{name}={tmp_path / what}")
    assert_mistake(run_here(*arguments), f"{name}={tmp_path / what}", "cannot be made or written")


def test_output_that_holds_another_run(collection, short_run):
    arguments = collection.arguments(short_run, "loop.epochs=1", "data.val=MISSING")
    done = run_here(*arguments, "optimizer.lr=1e-2", "data.workers=3", "decoding.workers=2")
    assert_mistake(done, f"output={short_run}", "optimizer.lr (0.02 there, 0.01 here);")
    done = run_here(*collection.evaluation(f"data.val={collection.val}", f"output={short_run}"))
    assert_mistake(done, f"output={short_run}", "holds a trained model")


def test_mistakes_are_found_without_pytorch(collection, tmp_path):
    """Whose import takes seconds."""
    program = """
import sys, train
from reelseek.configs import command_line
from reelseek.configs.train_schema import TrainConfig
try:
    command_line.run(train.main, TrainConfig, usage=train.USAGE)
finally:
    print("torch" in sys.modules)
"""
    arguments = collection.arguments(tmp_path / "output", "loop.batch_size=17")
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "False\n"), done.stderr
    assert "loop.batch_size=17" in done.stderr
