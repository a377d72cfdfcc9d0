import json
import shutil
import subprocess
import sys

import pytest
import torch

from reelseek.vision import ModelSpec, ModelUnavailableError
from reelseek.vision.models import text_first
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.text_first import load_text_first
from tests.command_lines import PROJECT

SENTENCES = [
    *(
        "",
        "a dog",
        "A dog's 2 red kites, cafe\u0301 \u732b \u041a\u043e\u0442",
        "&amp;amp; b\n\n c",
    ),
    *("word " * 200, "\U0001f408 isn\u00e2\u20ac\u2122t", "[MASK] ##ing"),
]

pytestmark = pytest.mark.model


def text_only(model, **options):
    return load_text_first(model.spec, fingerprint=model.fingerprint, **options)


@pytest.mark.parametrize("name", ["mini", "mini_fast"])
def test_text_tower_is_the_models_own(request, name):
    mini = request.getfixturevalue(name)
    model = text_only(mini)
    assert isinstance(model.clip, text_first._TextFirst)
    assert (model.fingerprint, model.preprocessing) == (mini.fingerprint, mini.preprocessing)
    assert (model.embedding_dim, model.context_length) == (512, mini.context_length)
    for length in (77, 16):
        tokens = model.tokenize(SENTENCES, context_length=length)
        assert torch.equal(tokens, mini.tokenize(SENTENCES, context_length=length))
        with torch.inference_mode():
            found, expected = (each.clip.encode_text(tokens) for each in (model, mini))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_image_tower_comes_when_it_is_used(mini_fast, monkeypatch):
    mini = mini_fast
    loaded = []
    monkeypatch.setattr(text_first, "load_model", lambda spec: loaded.append(spec) or mini)
    model = text_only(mini)
    model.clip.to("cpu").encode_text(model.tokenize(["a"]))
    assert model.clip.text.config.pad_token_id == 0 and not loaded
    assert model.clip.visual is mini.clip.visual
    assert model.clip.text.pooler is mini.clip.text.pooler
    assert loaded == [mini.spec]


def test_other_models_are_loaded_whole(mini_fast, monkeypatch, tmp_path):
    mini = mini_fast
    monkeypatch.setattr(text_first, "load_model", lambda spec, *, known_names: (spec, known_names))
    other = ModelSpec("ViT-B-32", pretrained="openai")
    assert load_text_first(other, fingerprint="f", known_names=["a"]) == (other, ["a"])
    spec = ModelSpec("mini_fast")
    assert load_text_first(spec, fingerprint="of another") == (spec, ())

    shutil.copytree(mini_folder("mini_fast"), tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_act": "relu"}))
    spec = ModelSpec(str(tmp_path / "other"))
    assert load_text_first(spec, fingerprint=mini.fingerprint) == (spec, ())


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelUnavailableError, match="absent"):
        load_text_first(ModelSpec(str(tmp_path / "absent")), fingerprint="f")


def test_nothing_that_takes_seconds_is_imported():
    program = (
        "import sys; from reelseek.vision.models import text_first as t; "
        "model = t._load_text(t.ModelSpec('mini_fast'), t.mini_folder('mini_fast')); "
        "model.clip.encode_text(model.tokenize(['a dog'])); "
        "print({'open_clip', 'torchvision', 'transformers', 'sklearn', 'timm'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
