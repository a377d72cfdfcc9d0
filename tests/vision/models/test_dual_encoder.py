import json
import shutil

import huggingface_hub.constants
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from reelseek.vision import ModelSpec, ModelUnavailableError, load_model
from reelseek.vision.models.mini import mini_folder

PRESETS = ("clip_vit_b32", "clip_vit_l14", "mini", "pe_core_b16", "siglip2_b16")
WEIGHTS_NAME, CONFIG_NAME = "open_clip_model.safetensors", "open_clip_config.json"


def fingerprint(folder):
    return load_model(ModelSpec(str(folder))).fingerprint


def change_config(folder, change):
    path = folder / CONFIG_NAME
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.fixture
def empty_offline_hub(attempts, monkeypatch, tmp_path):
    """What a machine without a network and without earlier downloads is to huggingface_hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return attempts


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("clip_vitb32", "clip_vit_b32"),
        ("CLIP-ViT-B32", "clip_vit_b32"),
        ("minni", "mini"),
        ("vit-b-32", "ViT-B-32"),
        ("ViT-B32", "ViT-B-32"),
        ("siglip2", "siglip2_b16"),
    ],
)
def test_unknown_name_is_answered_with_near_ones(name, near):
    with pytest.raises(
        ModelUnavailableError, match=f"model={name} is unknown.*near names: .*{near}"
    ):
        load_model(ModelSpec(name), known_names=PRESETS)


def test_name_near_nothing_is_answered_with_the_presets():
    with pytest.raises(ModelUnavailableError, match=f"near names: {', '.join(PRESETS)}"):
        load_model(ModelSpec("/no/such/folder/qqqq"), known_names=PRESETS)


def test_architecture_without_weights_is_answered_with_its_tags():
    with pytest.raises(ModelUnavailableError, match=r"no weights are chosen.*laion2b_s34b_b79k"):
        load_model(ModelSpec("ViT-B-32"))
    with pytest.raises(ModelUnavailableError, match=r"no weights 'laion'.*laion2b_s34b_b79k"):
        load_model(ModelSpec("ViT-B-32", pretrained="laion"))


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("ViT-B-32", pretrained="laion2b_s34b_b79k"),
        ModelSpec("PE-Core-B-16", pretrained="meta"),
        ModelSpec("hf-hub:timm/ViT-B-16-SigLIP2"),
    ],
    ids=lambda spec: spec.name,
)
def test_unreachable_hub_is_answered_with_the_remedy(spec, empty_offline_hub):
    with pytest.raises(ModelUnavailableError, match=r"out of reach") as caught:
        load_model(spec)
    message = str(caught.value)
    assert f"model={spec.name}" in message
    assert "model=mini" in message
    assert "model=FOLDER" in message
    assert "\n" not in message
    assert empty_offline_hub == []


def test_tokenizer_of_an_unreachable_hub_is_answered_alike(monkeypatch):
    # What transformers raises for files that it cannot fetch, after the weights were there.
    def unreachable(name):
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")

    monkeypatch.setattr(open_clip, "create_model", lambda *args, **options: torch.nn.Identity())
    monkeypatch.setattr(open_clip, "get_tokenizer", unreachable)
    with pytest.raises(ModelUnavailableError, match=r"out of reach.*model=mini"):
        load_model(ModelSpec("ViT-B-16-SigLIP2", pretrained="webli"))


def test_folder_loads_by_its_path(write_tiny_clip, attempts):
    folder = write_tiny_clip(mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5], interpolation="bilinear")
    model = load_model(ModelSpec(str(folder)))
    assert model.embedding_dim == 16
    assert model.context_length == 16
    assert model.preprocessing.size == (32, 32)
    assert model.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.preprocessing.interpolation == "bilinear"
    assert not model.clip.training
    assert model.tokenize(["a dog"], context_length=16).shape == (1, 16)
    stored = load_file(folder / WEIGHTS_NAME)
    loaded = model.clip.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[name], stored[name]) for name in stored)
    assert attempts == []


def test_folder_that_is_not_a_model_says_so(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"holds no open_clip_config\.json"):
        load_model(ModelSpec(str(tmp_path)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / WEIGHTS_NAME).unlink(),
        lambda folder: (folder / WEIGHTS_NAME).write_bytes(b"\x10" * 100),
        lambda folder: save_file({"a": torch.zeros(1)}, folder / WEIGHTS_NAME),
        lambda folder: (folder / CONFIG_NAME).write_text("{"),
        lambda folder: (folder / CONFIG_NAME).write_text("{}"),
        lambda folder: (folder / CONFIG_NAME).write_text('{"model_cfg": {"embed_dim": 16}}'),
    ],
    ids=["no weights", "damaged weights", "other weights", "no JSON", "no model_cfg", "no towers"],
)
@pytest.mark.parametrize("has_text_config", [False, True])
def test_damaged_folder_is_named_in_one_line(write_tiny_clip, damage, has_text_config):
    folder = write_tiny_clip()
    if has_text_config:  # as in a folder with a text tower of transformers
        (folder / "config.json").write_text("{}")
    damage(folder)
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(ModelSpec(str(folder)))
    assert str(caught.value).startswith(f"model={folder} cannot be loaded from its folder: ")
    assert "\n" not in str(caught.value)


def test_damaged_file_of_weights_is_named_and_the_hub_is_not(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"\x10" * 100)
    with pytest.raises(ModelUnavailableError) as caught:
        load_model(ModelSpec("ViT-B-32", pretrained=str(weights)))
    assert str(weights) in str(caught.value)
    assert "hub" not in str(caught.value)


def test_fingerprint_is_the_same_on_reload_and_in_a_copy(write_tiny_clip, tmp_path):
    folder = write_tiny_clip()
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(folder) == fingerprint(folder) == fingerprint(copy)


@pytest.mark.parametrize("name", ["logit_scale", "visual.conv1.weight", "token_embedding.weight"])
def test_fingerprint_changes_with_one_weight(write_tiny_clip, name):
    folder = write_tiny_clip()
    before = fingerprint(folder)
    weights = load_file(folder / WEIGHTS_NAME)
    last = weights[name].view(-1)[-1:]
    last.copy_(torch.nextafter(last, torch.tensor([torch.inf])))
    save_file(weights, folder / WEIGHTS_NAME)
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    "change",
    [{"mean": [0.5, 0.5, 0.5]}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}],
    ids=str,
)
def test_fingerprint_changes_with_the_preprocessing(write_tiny_clip, change):
    assert fingerprint(write_tiny_clip("changed", **change)) != fingerprint(write_tiny_clip())


def test_fingerprint_changes_with_the_tokenizer(write_tiny_clip):
    folder = write_tiny_clip()
    before = fingerprint(folder)
    change_config(folder, lambda config: config["model_cfg"]["text_cfg"].update(context_length=16))
    assert fingerprint(folder) == before
    change_config(
        folder,
        lambda config: config["model_cfg"]["text_cfg"].update(
            tokenizer_kwargs={"clean": "canonicalize"}
        ),
    )
    assert fingerprint(folder) != before


@pytest.fixture
def moved_mini_folder(mini_fast, tmp_path):
    """`mini_fast` in another folder, and none where its configuration says."""

    def forget(config):
        text_cfg = config["model_cfg"]["text_cfg"]
        text_cfg["hf_model_name"] = text_cfg["hf_tokenizer_name"] = str(tmp_path / "gone")

    folder = tmp_path / mini_folder("mini_fast").name
    shutil.copytree(mini_folder("mini_fast"), folder)
    change_config(folder, forget)
    return folder


@pytest.mark.model
def test_mini_loads_from_a_folder_it_was_moved_to(mini_fast, moved_mini_folder, attempts):
    moved = load_model(ModelSpec(str(moved_mini_folder)))
    assert moved.fingerprint == mini_fast.fingerprint
    assert attempts == []


@pytest.mark.model
def test_mini_loads_by_name_from_a_cache_that_was_moved(
    mini_fast, moved_mini_folder, attempts, monkeypatch
):
    monkeypatch.setenv("REELSEEK_CACHE", str(moved_mini_folder.parent))
    assert load_model(ModelSpec("mini_fast")).fingerprint == mini_fast.fingerprint
    assert attempts == []


def test_new_weights_are_a_function_of_their_seed(tmp_path):
    vision = {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    state = torch.random.get_rng_state()
    spec = ModelSpec(str(tmp_path))
    first, again, other = (load_model(spec, new_weights_seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(ModelUnavailableError):  # there are no weights to load
        load_model(spec)
