"""Runs from a configuration to a model folder, on videos of one colour each, in this process."""

import io
import itertools
import json
import logging
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import tests.conftest
import train as train_program
import training.run
from configs import command_line
from training.checkpoints import Checkpoints
from training.progress import StepProgress
from vision import ModelSpec, load_model, save_model

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
    "white": (235, 235, 235),
    "black": (10, 10, 10),
    "pink": (240, 120, 200),
    "brown": (110, 70, 30),
}
NUM_STEPS = 20 * 2  # of 16 pairs, 8 a batch


@dataclass(frozen=True)
class Done:
    """What a run has left: as of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def metrics(self):
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


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
            "loop.epochs=20",
            "loop.eval_every=10",
            "optimizer.lr=1e-2",
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


def run_here(*arguments: object) -> Done:
    """`python train.py ARGUMENTS`, in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    code = 0
    try:
        with (
            mock.patch.object(sys, "argv", ["train.py", *map(str, arguments)]),
            mock.patch.dict(os.environ),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            command_line.run(train_program.main, config_name="train", usage=train_program.USAGE)
    except SystemExit as end:
        code = end.code
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Done(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("colours"))


def test_try(collection, tmp_path):
    import time

    t = time.time()
    done = run_here(*collection.arguments(tmp_path / "out"))
    print(done.stderr[-3000:])
    print(done.metrics)
    print(time.time() - t)
    t = time.time()
    done = run_here(*collection.arguments(tmp_path / "out2", "pooling.kind=transformer"))
    print(done.stderr[-3000:])
    print(time.time() - t)
    t = time.time()
    done = run_here(*collection.arguments(tmp_path / "out2", "pooling.kind=transformer"))
    print(time.time() - t)
    t = time.time()
    done = run_here(*collection.arguments(tmp_path / "out3", "trainable.image=all"))
    print(done.stderr[-3000:])
    print(time.time() - t)
    t = time.time()
    assert 0
