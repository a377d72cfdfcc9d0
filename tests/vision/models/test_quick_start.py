import sys
from contextlib import contextmanager

import open_clip
import pytest
import torch
from torch import nn

from reelseek.vision import ModelSpec, load_model
from reelseek.vision.models import loading, quick_start
from reelseek.vision.models.quick_start import without_first_weights


def test_open_clip_is_imported_without_scikit_learn_which_is_there_afterwards(
    tmp_path, monkeypatch
):
    """With a small transformers, since the real one is imported already."""
    package = tmp_path / "transformers"
    (package / "generation").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "generation" / "__init__.py").touch()
    (package / "utils.py").write_text("def is_sklearn_available():\n    return True\n")
    (package / "generation" / "candidate_generator.py").write_text(
        "from transformers.utils import is_sklearn_available\nHAS = is_sklearn_available()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in list(sys.modules):
        if name.partition(".")[0] == "transformers":
            monkeypatch.delitem(sys.modules, name)
    assert quick_start.import_open_clip() is open_clip
    import transformers.generation.candidate_generator
    import transformers.utils

    loaded = transformers.generation.candidate_generator
    assert loaded.__file__.startswith(str(tmp_path))
    assert not loaded.HAS
    assert transformers.utils.is_sklearn_available()
    for name in list(sys.modules):
        if name.partition(".")[0] == "transformers":
            del sys.modules[name]


def test_real_transformers_asks_whether_scikit_learn_is_there():
    """What is said while it is imported is what it goes by."""
    import transformers.generation.candidate_generator as candidate_generator
    import transformers.utils

    assert callable(candidate_generator.is_sklearn_available)
    assert callable(transformers.utils.is_sklearn_available)


def test_nothing_is_drawn_inside_and_all_outside():
    before = torch.random.get_rng_state()
    with without_first_weights():
        layers = nn.ModuleList([nn.Linear(4, 5), nn.Embedding(3, 2), nn.LayerNorm(4)])
        weight = torch.full((2, 3), 7.0)
        nn.init.uniform_(tensor=weight)
        nn.init.kaiming_uniform_(weight, a=1.0)
        weight.normal_()
    assert torch.equal(before, torch.random.get_rng_state())
    assert weight.tolist() == [[7.0] * 3] * 2
    assert torch.equal(layers[2].weight, torch.ones(4))
    nn.init.normal_(weight)
    assert not torch.equal(before, torch.random.get_rng_state())


@pytest.mark.model
def test_a_model_of_a_folder_is_the_same_without_first_weights(monkeypatch, mini_fast):
    entered = []

    @contextmanager
    def noted():
        entered.append(True)
        with without_first_weights():
            yield

    monkeypatch.setattr(loading, "without_first_weights", noted)
    assert load_model(ModelSpec("mini_fast")).fingerprint == mini_fast.fingerprint
    assert entered == [True]
