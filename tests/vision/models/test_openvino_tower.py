"""The image tower as OpenVINO compiles it, its cache, and what holds where it is missing."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch.nn import functional as F

import reelseek.vision.models.openvino_models
from reelseek.vision import FrameEncoder, Preprocessing
from reelseek.vision.models.openvino_models import import_openvino
from reelseek.vision.models.openvino_tower import OpenVinoTower
from tests.vision.conftest import TINY_CFG
from tests.vision.models.test_encoding import noisy_pictures

PROJECT = Path(__file__).resolve().parents[2]
SIZE = (32, 32)


@pytest.fixture(scope="module")
def openvino():
    try:
        return import_openvino()
    except ImportError:
        pytest.skip("OpenVINO is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def conversions(monkeypatch):
    """Grows by each tower that is converted instead of read."""
    converted = []
    convert = reelseek.vision.models.openvino_models.convert

    def watched(*arguments):
        converted.append(arguments)
        return convert(*arguments)

    monkeypatch.setattr(reelseek.vision.models.openvino_models, "convert", watched)
    return converted


@pytest.fixture
def tiny_model(colour_model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(**TINY_CFG).eval()
    preprocessing = Preprocessing(size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
    return replace(colour_model, clip=clip, embedding_dim=16, preprocessing=preprocessing)


class TinyTower(torch.nn.Module):
    """Pixels -> four numbers for each frame."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = torch.nn.Conv2d(3, 4, kernel_size=8, stride=8)

    def forward(self, pixels):
        return F.normalize(self.layer(pixels.float() / 255).mean(dim=(2, 3)), dim=-1)


def compiled(*, num_streams=2, cache_key="key"):
    return OpenVinoTower(
        TinyTower().eval(),
        torch.zeros((2, 3, *SIZE), dtype=torch.uint8),
        dtype=torch.float32,
        num_streams=num_streams,
        cache_key=cache_key,
    )


def expected(pixels):
    with torch.inference_mode():
        return TinyTower().eval()(pixels)


def assert_right(tower):
    pixels = noisy_pictures(3, SIZE)
    torch.testing.assert_close(tower(pixels), expected(pixels), rtol=0, atol=0.01)


# What it computes


@pytest.mark.parametrize("num_frames", [1, 2, 7, 33])
def test_any_number_of_frames(openvino, num_frames):
    pixels = noisy_pictures(num_frames, SIZE)
    embeddings = compiled()(pixels)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings, expected(pixels), rtol=0, atol=0.01)


def test_frames_that_do_not_lie_side_by_side_in_memory(openvino):
    pixels = noisy_pictures(6, SIZE).flip(3)[::2].transpose(2, 3)
    torch.testing.assert_close(compiled()(pixels), expected(pixels), rtol=0, atol=0.01)


def test_result_is_not_overwritten_by_the_next(openvino):
    tower, pixels = compiled(), noisy_pictures(4, SIZE)
    first = tower(pixels[:2])
    kept = first.clone()
    tower(pixels[2:])
    assert torch.equal(first, kept)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_several_threads_at_once(openvino, num_streams):
    tower = compiled(num_streams=num_streams)
    batches = [noisy_pictures(1 + seed % 5, SIZE, seed=seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(tower, batches))
    for batch, result in zip(batches, results, strict=True):
        torch.testing.assert_close(result, expected(batch), rtol=0, atol=0.01)


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_embeddings_of_a_clip_agree_with_fp32(openvino, tiny_model, precision):
    pixels = noisy_pictures(19, SIZE)
    reference = FrameEncoder(tiny_model, device="cpu", precision="fp32").encode(pixels)
    encoder = FrameEncoder(tiny_model, device="cpu", precision=precision, compiled=True)
    assert encoder.engine == "openvino"
    embeddings = encoder.encode(pixels)
    assert (embeddings.shape, embeddings.dtype) == ((19, 16), torch.float32)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(19), rtol=0, atol=0.01)
    assert float(F.cosine_similarity(embeddings, reference).min()) >= 0.99


@pytest.mark.model
def test_embeddings_of_mini_agree_with_fp32(openvino, mini):
    pixels = noisy_pictures(11, mini.preprocessing.size)
    reference = FrameEncoder(mini, device="cpu", precision="fp32").encode(pixels)
    encoder = FrameEncoder(mini, device="cpu", compiled=True)
    assert encoder.engine == "openvino"
    embeddings = encoder.encode(pixels)
    assert float(F.cosine_similarity(embeddings, reference).min()) >= 0.99
    # The pictures differ by far more than that.
    assert float((reference @ reference.T).min()) < 0.95


# Its cache


def test_what_is_kept_is_written_once_and_read_by_the_next(openvino, cache, conversions):
    assert_right(compiled())
    (folder,) = cache.iterdir()
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {"tower.xml", "tower.bin"} <= written.keys()
    assert_right(compiled())
    assert len(conversions) == 1
    assert [path.name for path in cache.iterdir()] == [folder.name]
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_another_model_is_kept_apart(openvino, cache, conversions):
    compiled(cache_key="one")
    compiled(cache_key="other")
    assert len(conversions) == len(list(cache.iterdir())) == 2


def test_model_without_a_name_is_not_kept(openvino, cache):
    assert_right(compiled(cache_key=""))
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage", ["no files", "no weights", "cut weights", "empty weights", "cut graph", "garbage"]
)
def test_damaged_files_are_made_anew(openvino, cache, conversions, damage):
    compiled()
    (folder,) = cache.iterdir()
    graph, weights = folder / "tower.xml", folder / "tower.bin"
    if damage in ("no files", "no weights"):
        weights.unlink()
    if damage == "no files":
        graph.unlink()
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "empty weights":
        weights.write_bytes(b"")
    elif damage == "cut graph":
        graph.write_bytes(graph.read_bytes()[:300])
    elif damage == "garbage":
        graph.write_bytes(b"garbage" * 100)
    assert_right(compiled())
    assert len(conversions) == 2
    assert_right(compiled())
    assert len(conversions) == 2  # what was made anew is whole


def test_cache_that_cannot_be_written_is_a_warning(openvino, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert_right(compiled())
    (record,) = caplog.records
    assert "cannot keep the converted model" in record.getMessage()


def test_full_disk_is_a_warning_and_leaves_nothing(openvino, cache, monkeypatch, caplog):
    def save_half(model, path, **options):
        Path(path).write_text("<net")
        raise RuntimeError("No space left on device")  # what OpenVINO raises

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(openvino, "save_model", save_half)
        assert_right(compiled())
    assert "cannot keep the converted model" in caplog.text
    assert list(cache.iterdir()) == []
    assert_right(compiled())


# What holds without it


def test_telemetry_is_never_imported(openvino, tmp_path):
    lines = """
import sys, torch
from tests.vision.models.test_openvino_tower import assert_right, compiled
assert_right(compiled())
assert "openvino" in sys.modules
print([n for n, m in sys.modules.items() if n.startswith("openvino_telemetry") and m])
"""
    process = subprocess.run(
        [sys.executable, "-c", lines], cwd=PROJECT, capture_output=True, text=True
    )
    assert process.stdout.splitlines() == ["[]"], process.stderr


def test_importing_the_package_does_notimport_openvino():
    lines = "import sys, reelseek.vision.models.openvino_tower; print('openvino' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", lines], cwd=PROJECT, capture_output=True, text=True
    )
    assert process.stdout.split() == ["False"], process.stderr


def test_where_it_is_not_installed_pytorch_computes(tiny_model, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "openvino", None)
    encoder = FrameEncoder(tiny_model, device="cpu", precision="bf16", compiled=True)
    assert encoder.engine == "torch"
    reference = FrameEncoder(tiny_model, device="cpu", precision="fp32")
    pixels = noisy_pictures(9, SIZE)
    similarity = F.cosine_similarity(encoder.encode(pixels), reference.encode(pixels))
    assert float(similarity.min()) >= 0.99
    assert caplog.records == []


def test_what_it_cannot_compile_pytorch_computes_and_says_so(
    openvino, tiny_model, monkeypatch, caplog
):
    def refuse(*_):
        raise RuntimeError("unsupported operation")

    monkeypatch.setattr(reelseek.vision.models.openvino_models, "convert", refuse)
    encoder = FrameEncoder(tiny_model, device="cpu", precision="bf16", compiled=True)
    assert encoder.engine == "torch"
    assert "PyTorch runs it: unsupported operation" in caplog.text


def test_fp32_stays_with_pytorch(tiny_model, conversions):
    encoder = FrameEncoder(tiny_model, device="cpu", precision="fp32", compiled=True)
    assert encoder.engine == "torch"
    assert conversions == []


def test_pytorch_computes_where_nobody_asks_for_more(tiny_model, conversions):
    assert FrameEncoder(tiny_model, device="cpu", precision="bf16").engine == "torch"
    assert conversions == []
