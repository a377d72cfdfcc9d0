from dataclasses import replace

import numpy as np
import pytest
import torch

from reelseek.indexing.building import sentences
from reelseek.indexing.building.sentences import everyday_embeddings
from reelseek.text import TextEncoder, Tokenizer
from reelseek.vision import ModelSpec
from tests.conftest import make_colour_model

SOME = ["red", "green and blue", "blue", "red and green", "nothing"]
CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path))
    monkeypatch.setattr(sentences, "everyday_queries", lambda: SOME)
    return tmp_path


@pytest.fixture
def num_encodings(monkeypatch):
    """How many sentences each encoding has had."""
    counts = []

    class Counted(TextEncoder):
        def encode(self, given):
            counts.append(len(given))
            return super().encode(given)

    monkeypatch.setattr(sentences, "TextEncoder", Counted)
    return counts


def model_named(name, fingerprint="f" * 32):
    return replace(make_colour_model(), spec=ModelSpec(name), fingerprint=fingerprint)


def expected():
    model = make_colour_model()
    return TextEncoder(model.clip, Tokenizer(model.tokenize, context_length=8)).encode(SOME).numpy()


def test_those_of_a_default_model_are_encoded_once(cache, num_encodings):
    for _ in range(3):
        found = everyday_embeddings(model_named("mini"), CPU)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected())
    assert num_encodings == [len(SOME)]


def test_other_weights_and_other_sentences_are_encoded_anew(cache, num_encodings, monkeypatch):
    everyday_embeddings(model_named("mini"), CPU)
    everyday_embeddings(model_named("mini", "0" * 32), CPU)
    monkeypatch.setattr(sentences, "everyday_queries", lambda: SOME[:3])
    found = everyday_embeddings(model_named("mini"), CPU)
    np.testing.assert_array_equal(found, expected()[:3])
    assert num_encodings == [5, 5, 3]


def test_those_of_another_model_are_not_kept(cache, num_encodings):
    for _ in range(2):
        np.testing.assert_array_equal(everyday_embeddings(model_named("my-model"), CPU), expected())
    assert num_encodings == [5, 5]
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("how", ["cut", "changed", "empty", "other dimension"])
def test_damage_is_made_good(cache, num_encodings, how):
    everyday_embeddings(model_named("mini"), CPU)
    (path,) = (cache / "everyday").iterdir()
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    if how == "other dimension":
        sentences._keep(path, np.zeros((len(SOME), 2), np.float32))
    else:
        path.write_bytes({"cut": whole[:-3], "changed": bytes(changed), "empty": b""}[how])
    np.testing.assert_array_equal(everyday_embeddings(model_named("mini"), CPU), expected())
    assert path.read_bytes() == whole
    assert num_encodings == [5, 5]


def test_a_cache_that_cannot_be_written_is_passed_over(cache, num_encodings):
    (cache / "everyday").write_text("a file")
    for _ in range(2):
        np.testing.assert_array_equal(everyday_embeddings(model_named("mini"), CPU), expected())
    assert num_encodings == [5, 5]
