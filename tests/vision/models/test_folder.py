import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
import transformers
from safetensors.torch import save_file
from torch.nn import functional as F

from reelseek.vision import (
    ModelSpec,
    ModelUnavailableError,
    load_model,
    make_pooling,
    model_fingerprint,
    save_model,
)
from tests.vision.conftest import TINY_CFG

CONFIG_NAME, WEIGHTS_NAME = "open_clip_config.json", "open_clip_model.safetensors"
EXTRAS_NAME, POOLING_NAME = "reelseek.json", "pooling.safetensors"
POOLINGS = {
    "mean": {"kind": "mean"},
    "transformer": {"kind": "transformer", "num_layers": 1, "num_heads": 4, "max_frames": 6},
    "attention": {"kind": "attention", "hidden_dim": 8},
}
SENTENCES = ["a dog", "two red kites over the sea", "caf\u00e9, \u732b!"]


read_vocabulary = functools.cache(open_clip.SimpleTokenizer)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """CLIP's vocabulary, which takes longer than all else here, is read once."""
    monkeypatch.setattr(open_clip.factory, "SimpleTokenizer", read_vocabulary)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def refingerprinted(model):
    fingerprint = model_fingerprint(model.clip, model.preprocessing, model.tokenize, model.pooling)
    return replace(model, fingerprint=fingerprint)


def with_pooling(model, kind):
    """The model with a pooling that was trained."""
    generator = torch.Generator().manual_seed(3)
    pooling = make_pooling(POOLINGS[kind], embedding_dim=model.embedding_dim).eval()
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return refingerprinted(replace(model, pooling=pooling))


def with_other_weights(model):
    """As after training."""
    with torch.no_grad():
        for parameter in model.clip.parameters():
            parameter.add_(0.05)
    return refingerprinted(model)


@torch.inference_mode()
def outputs(model):
    """Embeddings of pictures, sentences and a video: what a user has of a model."""
    generator = torch.Generator().manual_seed(4)
    height, width = model.preprocessing.size
    pixels = torch.randint(0, 256, (3, 3, height, width), generator=generator, dtype=torch.uint8)
    frames = model.clip.encode_image(model.preprocessing.normalize(pixels), normalize=True)
    tokens = model.tokenize(SENTENCES, context_length=model.context_length)
    video = F.normalize(torch.randn(2, 9, model.embedding_dim, generator=generator), dim=-1)
    return (
        frames,
        model.clip.encode_text(tokens, normalize=True),
        model.pooling(video, torch.tensor([9, 4])),
        tokens,
    )


def assert_same_model(model, expected):
    assert model.fingerprint == expected.fingerprint
    assert model.preprocessing == expected.preprocessing
    assert model.context_length == expected.context_length
    assert model.embedding_dim == expected.embedding_dim
    assert model.spec.scripts == expected.spec.scripts
    assert model.pooling.options() == expected.pooling.options()
    assert not model.clip.training
    assert not model.pooling.training
    for output, expected_output in zip(outputs(model), outputs(expected), strict=True):
        torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-6)


def load(folder):
    return load_model(ModelSpec(str(folder)))


def tiny_config(**changes):
    return json.loads(json.dumps(TINY_CFG)) | changes


@pytest.fixture
def load_tiny_folder(write_tiny_clip):
    """Loads a model whose preprocessing and scripts are its own from a folder."""

    def load_it(**changes):
        folder = write_tiny_clip(
            mean=[0.1, 0.2, 0.3], std=[0.5, 0.4, 0.3], interpolation="bilinear"
        )
        config = json.loads((folder / CONFIG_NAME).read_text())
        config["model_cfg"].update(changes)
        (folder / CONFIG_NAME).write_text(json.dumps(config))
        return load_model(ModelSpec(str(folder), scripts=("Latin", "Greek")))

    return load_it


@pytest.fixture
def load_tiny_architecture(write_tiny_clip, monkeypatch):
    """Loads a model by the name of an architecture and a file of weights, as open_clip's are."""

    def load_it(**changes):
        configs = open_clip.factory._MODEL_CONFIGS
        monkeypatch.setitem(configs, "tiny-architecture", tiny_config(**changes))
        weights = write_tiny_clip() / WEIGHTS_NAME
        return load_model(ModelSpec("tiny-architecture", pretrained=str(weights)))

    return load_it


@pytest.fixture(params=["folder", "architecture"])
def load_tiny(request):
    return request.getfixturevalue(f"load_tiny_{request.param}")


@pytest.mark.parametrize("kind", POOLINGS)
@pytest.mark.parametrize("changes", [{}, {"quick_gelu": True}], ids=["gelu", "quick_gelu"])
def test_saved_model_is_loaded_as_it_was(load_tiny, changes, kind, tmp_path, attempts):
    model = with_pooling(with_other_weights(load_tiny(**changes)), kind)
    save_model(model, tmp_path / "runs" / "saved")
    assert_same_model(load(tmp_path / "runs" / "saved"), model)
    assert attempts == []


def test_quick_gelu_is_kept_where_only_the_weights_asked_for_it(load_tiny_architecture, tmp_path):
    model = load_tiny_architecture()
    quick = open_clip.CLIP(**TINY_CFG, quick_gelu=True).eval()
    quick.load_state_dict(model.clip.state_dict())
    quick.visual.preprocess_cfg = model.clip.visual.preprocess_cfg
    quick_model = replace(model, clip=quick)
    assert not torch.allclose(outputs(quick_model)[0], outputs(model)[0], atol=1e-5)
    save_model(quick_model, tmp_path / "saved")
    assert_same_model(load(tmp_path / "saved"), quick_model)


def test_open_clip_loads_what_was_saved(load_tiny, tmp_path):
    model = with_pooling(with_other_weights(load_tiny()), "attention")
    save_model(model, tmp_path / "saved")
    clip = open_clip.create_model(f"local-dir:{tmp_path / 'saved'}", require_pretrained=True)
    loaded, expected = clip.state_dict(), model.clip.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert tuple(clip.visual.preprocess_cfg["mean"]) == model.preprocessing.mean


def write_transformers_folder(folder):
    """A model whose text tower and tokenizer are transformers', and named by an absolute path, as
    `mini` names its own."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "two", "red", "kites"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=len(words), **size, intermediate_size=32)
    config.save_pretrained(folder)
    text_cfg = {
        "hf_model_name": str(folder),
        "hf_tokenizer_name": str(folder),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": 16,
    }
    model_cfg = TINY_CFG | {"text_cfg": text_cfg}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CustomTextCLIP(**model_cfg)
    save_file(clip.state_dict(), folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))


def test_open_clip_loads_what_was_saved_after_where_it_came_from_is_gone(tmp_path, monkeypatch):
    write_transformers_folder(tmp_path / "cache")
    model = with_other_weights(load(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_model(model, Path("saved"))  # a relative path
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    name = f"local-dir:{tmp_path / 'saved'}"
    clip = open_clip.create_model(name, require_pretrained=True).eval()
    tokens = open_clip.get_tokenizer(name)(SENTENCES)
    assert torch.equal(tokens, model.tokenize(SENTENCES))
    with torch.inference_mode():
        assert torch.equal(clip.encode_text(tokens), model.clip.encode_text(tokens))


def test_mean_keeps_the_fingerprint_that_a_model_had(load_tiny_folder, tmp_path):
    model = load_tiny_folder()
    assert not (Path(model.spec.name) / EXTRAS_NAME).exists()
    save_model(model, tmp_path / "saved")
    assert (tmp_path / "saved" / EXTRAS_NAME).is_file()
    assert load(tmp_path / "saved").fingerprint == model.fingerprint


@pytest.mark.parametrize("kind", ["transformer", "attention"])
def test_fingerprint_changes_with_the_pooling_and_its_weights(load_tiny_folder, kind):
    model = load_tiny_folder()
    trained = with_pooling(model, kind)
    again = with_pooling(model, kind)
    assert trained.fingerprint == again.fingerprint != model.fingerprint
    with torch.no_grad():
        last = next(reversed(list(again.pooling.parameters()))).view(-1)[-1:]
        last.copy_(torch.nextafter(last, torch.tensor([torch.inf])))
    assert refingerprinted(again).fingerprint != trained.fingerprint


def test_fingerprint_changes_with_options_that_are_not_in_the_weights(load_tiny_folder):
    model = with_pooling(load_tiny_folder(), "transformer")
    options = model.pooling.options() | {"num_heads": 2}
    other = make_pooling(options, embedding_dim=model.embedding_dim)
    other.load_state_dict(model.pooling.state_dict())
    assert refingerprinted(replace(model, pooling=other)).fingerprint != model.fingerprint


def test_saved_model_is_saved_again_and_neither_needs_the_first(load_tiny, tmp_path):
    model = with_pooling(load_tiny(), "transformer")
    save_model(model, tmp_path / "first")
    shutil.rmtree(tmp_path / "tiny")  # where the weights came from
    second = load(tmp_path / "first")
    save_model(second, tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert_same_model(load(tmp_path / "second"), model)


def test_saved_folder_loads_from_where_it_was_moved_to(load_tiny, tmp_path):
    model = with_pooling(load_tiny(), "attention")
    save_model(model, tmp_path / "saved")
    shutil.rmtree(tmp_path / "tiny")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere" / "moved")
    assert_same_model(load(tmp_path / "elsewhere" / "moved"), model)


def test_model_is_saved_over_the_folder_that_it_came_from(load_tiny_folder):
    model = with_pooling(with_other_weights(load_tiny_folder()), "attention")
    save_model(model, Path(model.spec.name))
    assert_same_model(load(model.spec.name), model)


def test_saving_over_a_model_leaves_nothing_of_it(load_tiny_folder, tmp_path):
    model = load_tiny_folder()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    for kind in ("attention", "mean", "transformer"):
        save_model(with_pooling(model, kind), tmp_path / "saved")
        assert_same_model(load(tmp_path / "saved"), with_pooling(model, kind))
    assert (tmp_path / "saved" / "notes.txt").read_text() == "mine"
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {CONFIG_NAME, WEIGHTS_NAME, EXTRAS_NAME, POOLING_NAME, "notes.txt"}


def test_scripts_that_a_spec_names_count_before_those_of_the_folder(load_tiny_folder, tmp_path):
    save_model(load_tiny_folder(), tmp_path / "saved")
    assert load(tmp_path / "saved").spec.scripts == ("Latin", "Greek")
    named = load_model(ModelSpec(str(tmp_path / "saved"), scripts=("Arabic",)))
    assert named.spec.scripts == ("Arabic",)


class Killed(BaseException):
    """Not an Exception: nothing may catch it."""


def fail_at(monkeypatch, owner, name, *, call):
    """Lets so many calls through, then kills the process, as far as the code can tell."""
    real, calls = getattr(owner, name), []

    def wrapped(*arguments, **options):
        calls.append(arguments)
        if len(calls) > call:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize(
    ("owner", "name", "call", "left"),
    [
        (safetensors.torch, "save_file", 0, "old"),
        (safetensors.torch, "save_file", 1, "old"),
        (Path, "unlink", 0, "old"),
        *((Path, "replace", call, "none") for call in range(4)),
        (Path, "replace", 4, "new"),
    ],
)
def test_killed_save_leaves_the_old_model_or_none(
    load_tiny_folder, tmp_path, monkeypatch, owner, name, call, left
):
    folder = tmp_path / "saved"
    old = with_pooling(load_tiny_folder(), "attention")
    fingerprints = {"old": old.fingerprint}
    save_model(old, folder)
    new = with_pooling(with_other_weights(old), "transformer")
    fingerprints["new"] = new.fingerprint
    with monkeypatch.context() as patched:
        fail_at(patched, owner, name, call=call)
        if left == "new":  # as many calls as are needed
            save_model(new, folder)
        else:
            with pytest.raises(Killed):
                save_model(new, folder)
    if left == "none":
        with pytest.raises(ModelUnavailableError, match=f"holds no {CONFIG_NAME}"):
            load(folder)
    else:
        assert load(folder).fingerprint == fingerprints[left]
    save_model(new, folder)
    assert_same_model(load(folder), new)


def damaged_extras(text):
    return lambda folder: (folder / EXTRAS_NAME).write_text(text)


def changed_extras(**changes):
    def damage(folder):
        extras = json.loads((folder / EXTRAS_NAME).read_text())
        extras["pooling"].update(changes)
        (folder / EXTRAS_NAME).write_text(json.dumps(extras))

    return damage


DAMAGES = {
    "no JSON": damaged_extras("{"),
    "empty": damaged_extras(""),
    "a list": damaged_extras("[]"),
    "no pooling": damaged_extras("{}"),
    "no scripts": damaged_extras('{"pooling": {"kind": "mean"}}'),
    "pooling a word": damaged_extras('{"pooling": "mean", "scripts": []}'),
    "bytes": lambda folder: (folder / EXTRAS_NAME).write_bytes(b"\xff\xfe\x00"),
    "unknown kind": changed_extras(kind="median"),
    "unknown option": changed_extras(size=3),
    "other size": changed_extras(hidden_dim=9),
    "no weights": lambda folder: (folder / POOLING_NAME).unlink(),
    "damaged weights": lambda folder: (folder / POOLING_NAME).write_bytes(b"\x10" * 100),
    "cut weights": lambda folder: (folder / POOLING_NAME).write_bytes(
        (folder / POOLING_NAME).read_bytes()[:-4]
    ),
    "other weights": lambda folder: save_file({"a": torch.zeros(1)}, folder / POOLING_NAME),
}


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory):
    """A model with a pooling that has weights, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("sound")
    clip = open_clip.CLIP(**TINY_CFG)
    save_file(clip.state_dict(), folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps({"model_cfg": TINY_CFG}))
    model = with_pooling(load(folder), "attention")
    save_model(model, folder)
    return folder


def test_folder_to_be_damaged_is_sound(sound_folder):
    assert load(sound_folder).pooling.options() == POOLINGS["attention"]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_addition_to_a_folder_is_named_in_one_line(sound_folder, tmp_path, damage):
    folder = shutil.copytree(sound_folder, tmp_path / "damaged")
    damage(folder)
    with pytest.raises(ModelUnavailableError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"model={folder} cannot be loaded from its folder: ")
    assert "\n" not in str(caught.value)


@pytest.mark.model
def test_mini_is_saved_loaded_and_moved(mini_fast, tmp_path, attempts):
    model = with_pooling(mini_fast, "attention")
    save_model(model, tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    loaded = load(tmp_path / "moved")
    assert_same_model(loaded, model)
    assert loaded.spec.scripts == mini_fast.spec.scripts != ()
    save_model(with_pooling(loaded, "mean"), tmp_path / "again")
    shutil.rmtree(tmp_path / "moved")
    assert_same_model(load(tmp_path / "again"), mini_fast)
    assert attempts == []


@pytest.mark.model
def test_small_model_is_saved_over_mini(mini_fast, load_tiny_folder, tmp_path):
    save_model(with_pooling(mini_fast, "attention"), tmp_path / "saved")
    model = load_tiny_folder()
    save_model(model, tmp_path / "saved")
    assert_same_model(load(tmp_path / "saved"), model)
