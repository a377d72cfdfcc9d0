"""The text tower of an earlier run, which a search by words opens without PyTorch."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reelseek.ranking.query_encoding import QueryEncoder
from reelseek.vision import ModelSpec, load_model
from reelseek.vision.models import kept_text
from reelseek.vision.models.kept_text import KeptText, keep_text, open_kept_text, stamp_model
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.openvino_text import compile_text_tower
from reelseek.vision.models.text_first import load_text_first
from tests.command_lines import PROJECT
from tests.vision.models.test_openvino_tower import openvino  # noqa: F401

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("openvino")]

SENTENCES = ["a dog catches a frisbee", "", "two cats " * 60, "\u732b \U0001f408"]


def replace(path, content):
    """Other content for a file that may be a link to what other tests have."""
    path.unlink()
    path.write_text(content)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, openvino):  # noqa: F811
    """A model's folder, and a cache that an encoder with this model has used."""
    at = tmp_path_factory.mktemp("kept")
    shutil.copytree(mini_folder("mini_fast"), at / "model", copy_function=os.symlink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REELSEEK_CACHE", str(at / "cache"))
        model = load_text_first(ModelSpec(str(at / "model")), fingerprint=None)
        return at, model, QueryEncoder(model, device="cpu")


@pytest.fixture
def run(first_run, tmp_path, monkeypatch):
    """The same of this test's own."""
    at, model, encoder = first_run
    shutil.copytree(at / "cache", tmp_path / "cache", copy_function=os.symlink)
    shutil.copytree(at / "model", tmp_path / "model", copy_function=os.symlink)
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    # The copy lies elsewhere, which makes it another folder.
    path = tmp_path / "cache" / "openvino" / f"{model.fingerprint}.json"
    record = json.loads(path.read_text())
    record["source"]["folder"] = str(tmp_path / "model")
    replace(path, json.dumps(record, indent=2) + "\n")
    return tmp_path, model, encoder


def opened(run):
    at, model, _ = run
    return open_kept_text(
        ModelSpec(str(at / "model")), fingerprint=model.fingerprint, load=lambda: model
    )


def test_embeddings_are_those_of_the_first_run(run):
    kept = opened(run)
    assert isinstance(kept, KeptText)
    again = QueryEncoder(kept, device="cpu")
    assert (again.fingerprint, again.embedding_dim) == (run[1].fingerprint, 512)
    np.testing.assert_array_equal(again.sentences(SENTENCES), run[2].sentences(SENTENCES))
    np.testing.assert_array_equal(again.encode("a dog"), run[2].encode("a dog"))
    assert again.sentences([]).shape == (0, 512)
    with pytest.raises(ValueError, match="query is empty"):
        again.encode(" ")


def test_frames_and_tokens_take_the_whole_model(run):
    kept = opened(run)
    again, loaded = QueryEncoder(kept, device="cpu"), run[2]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 260, 260), np.uint8)
    np.testing.assert_array_equal(again.encode_frames(pixels), loaded.encode_frames(pixels))
    for found, expected in zip(again.tokens(["a dog"]), loaded.tokens(["a dog"]), strict=True):
        np.testing.assert_array_equal(found, expected)


def write_again(path):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_threads_load_the_whole_model_once(run):
    loaded = []

    def load():
        loaded.append(1)
        time.sleep(0.1)
        return run[1]

    again = QueryEncoder(dataclasses.replace(opened(run), load=load), device="cpu")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: again.frame_settings, range(4)))
    assert len(loaded) == 1


CHANGES = {
    "weights written again": lambda at: write_again(at / "model" / "open_clip_model.safetensors"),
    "tokenizer gone": lambda at: (at / "model" / "tokenizer.json").unlink(),
    "file added": lambda at: (at / "model" / "reelseek.json").write_text("{}"),
    "model gone": lambda at: shutil.rmtree(at / "model"),
    "tower gone": lambda at: [shutil.rmtree(x) for x in (at / "cache/openvino").glob("*[!n]/")],
    "tower damaged": lambda at: [
        replace(path, "<net>") for path in (at / "cache").rglob("tower.xml")
    ],
    "record gone": lambda at: [path.unlink() for path in (at / "cache").rglob("*.json")],
    "record damaged": lambda at: [replace(path, "[]") for path in (at / "cache").rglob("*.json")],
    "record of another format": lambda at: [
        replace(path, path.read_text().replace('"format": 1', '"format": 2'))
        for path in (at / "cache").rglob("*.json")
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_loaded_whole(run, change):
    assert opened(run) is not None
    CHANGES[change](run[0])
    assert opened(run) is None


def test_whole_model_keeps_it_too(run):
    """As an index does that is new."""
    at, model, _ = run
    (record,) = (at / "cache").rglob("*.json")
    written = record.read_text()
    record.unlink()
    whole = load_model(model.spec)
    keep_text(whole, compile_text_tower(whole), stamp_model(ModelSpec(str(at / "model"))))
    assert record.read_text() == written


def test_cache_that_cannot_be_written_is_passed_over(run, monkeypatch):
    for path in (run[0] / "cache").rglob("*.json"):
        path.unlink()
        path.mkdir()
    QueryEncoder(run[1], device="cpu")
    assert not list((run[0] / "cache").rglob("*.tmp"))


def test_a_gpu_takes_the_whole_model(monkeypatch):
    there = set()
    monkeypatch.setattr(kept_text.sys, "platform", "linux")
    monkeypatch.setattr(kept_text.os.path, "exists", there.__contains__)
    assert kept_text.has_no_gpu()
    there.add("/dev/nvidiactl")
    assert not kept_text.has_no_gpu()
    monkeypatch.setattr(kept_text.sys, "platform", "win32")
    assert not kept_text.has_no_gpu()


def test_pytorch_is_not_imported(run):
    program = (
        "import sys; from reelseek.ranking.query_encoding import QueryEncoder; "
        "from reelseek.vision.models.kept_text import open_kept_text; "
        "from reelseek.vision.models.spec import ModelSpec; "
        "kept = open_kept_text(ModelSpec(sys.argv[1]), fingerprint=sys.argv[2], load=None); "
        "print(QueryEncoder(kept, device='cpu').encode('a dog').shape); "
        "print({'torch', 'open_clip', 'transformers', 'sklearn'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program, str(run[0] / "model"), run[1].fingerprint]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "(512,)\nset()\n"
