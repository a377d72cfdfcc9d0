import copy
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, RobertaConfig

import reelseek.training.texts
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.network import Network, TowerPlan
from reelseek.training.texts import TextFeatures
from reelseek.training.towers import split_text_tower
from tests.training.test_network import FROZEN, HEADS, small_model
from tests.training.test_towers import BERT_SIZE, hf_clip
from tests.training.tiny_run import prepare_texts

CPU = torch.device("cpu")
# Of very different lengths, in no order, and one of them twice.
SENTENCES = [
    *("a dog runs over", "x", "kites", "", "a cat and a dog", "no", "a much too long sentence"),
    *("hm", "x", "red kites", "a", "dog on a lawn", "of", "two"),
]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches, the last of which is not full."""
    monkeypatch.setattr(reelseek.training.texts, "_BATCH_SENTENCES", 4)


def make(model, text):
    return Network(model, image=HEADS, text=text, pooling=model.pooling)


@pytest.fixture(params=[BertConfig, RobertaConfig])
def hf_model(tmp_path, request):
    """Its text tower is one of transformers, which masks padding (0, or 1), so that it is cut."""
    clip = hf_clip(tmp_path, request.param(**BERT_SIZE), proj="linear")
    model, padding = small_model(), clip.text.config.pad_token_id

    def tokenize(sentences, context_length=16):
        tokens = model.tokenize(sentences, context_length=context_length)
        return torch.where(tokens == 0, padding, tokens.masked_fill(tokens == padding, 98))

    return replace(model, clip=clip, tokenize=tokenize if padding else model.tokenize)


@pytest.mark.parametrize("name", ["vit", "coca", "timm mlp"])
@pytest.mark.parametrize("text", [FROZEN, HEADS], ids=lambda plan: plan.mode)
def test_features_are_in_the_order_of_the_sentences(name, text):
    model = small_model(name)
    check_features(model, make(model, text))


@pytest.mark.parametrize("text", [FROZEN, HEADS], ids=lambda plan: plan.mode)
def test_features_of_a_tower_that_masks_padding_are_in_the_order_of_the_sentences(hf_model, text):
    check_features(hf_model, make(hf_model, text))


def check_features(model, network):
    features = prepare_texts(SENTENCES, model, network, device=CPU)
    assert features.dtype == torch.float32
    assert not features.is_inference()  # else no head could be trained on them
    with torch.no_grad():
        alone = [
            network.text.trunk(model.tokenize([sentence], context_length=16))
            for sentence in SENTENCES
        ]
        alone = torch.cat([part[0] if isinstance(part, tuple) else part for part in alone])
        torch.testing.assert_close(features, alone, rtol=0, atol=1e-5)
        embeddings = network.embed_texts(features)
        tokens = model.tokenize(SENTENCES, context_length=16)
        torch.testing.assert_close(embeddings, network.embed_texts(tokens), rtol=0, atol=1e-5)
    distances = torch.cdist(features, features) + 10 * torch.eye(len(SENTENCES))
    distances[1, 8] = distances[8, 1] = 10  # the one that is there twice
    assert float(distances.min()) > 1e-3  # else the order could not be told


@pytest.mark.parametrize(
    "text",
    [TowerPlan("blocks"), TowerPlan("lora"), TowerPlan("all")],
    ids=lambda plan: plan.mode,
)
def test_tokens_stay_tokens_where_the_trunk_trains(text):
    model = small_model()
    tokens = prepare_texts(SENTENCES, model, make(model, text), device=CPU)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, model.tokenize(SENTENCES, context_length=16))


def test_tokens_are_cut_to_the_longest_sentence_where_padding_is_masked(hf_model):
    network = make(hf_model, TowerPlan("all"))
    tokens = prepare_texts(SENTENCES[1:3], hf_model, network, device=CPU)
    assert torch.equal(tokens, hf_model.tokenize(SENTENCES[1:3], context_length=6))


def test_one_sentence_is_enough():
    model = small_model()
    network = make(model, FROZEN)
    assert prepare_texts(["a dog"], model, network, device=CPU).shape == (1, 32)


# Kept for other runs.


@pytest.fixture
def features_of(tmp_path):
    """The features of a model, whose cache is opened anew; and the sentences it has computed."""

    def open_it(model, monkeypatch):
        trunk, _ = split_text_tower(model.clip)
        computed = []

        def watch(tokens):
            computed.extend(tokens.tolist())
            return type(trunk).forward(trunk, tokens)

        monkeypatch.setattr(trunk, "forward", watch)
        return TextFeatures(model, trunk, tmp_path / "cache", device=CPU), computed

    return open_it


@pytest.mark.parametrize("max_tokens", [0, 4])
def test_cached_features_are_those_that_are_computed(
    hf_model, features_of, monkeypatch, max_tokens
):
    features, _ = features_of(hf_model, monkeypatch)
    features.fill(SENTENCES, stop=StopRequest(), max_tokens=max_tokens)
    network = make(hf_model, FROZEN)
    expected = prepare_texts(SENTENCES, hf_model, network, device=CPU, max_tokens=max_tokens)
    found = features(SENTENCES, max_tokens=max_tokens)
    assert not found.is_inference()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    other_order = features(SENTENCES[::-1], max_tokens=max_tokens)
    torch.testing.assert_close(other_order, expected.flip(0), rtol=0, atol=1e-5)


def test_sentences_are_computed_once_for_all_runs(features_of, monkeypatch):
    features, computed = features_of(small_model(), monkeypatch)
    features.fill(SENTENCES[:6], stop=StopRequest())
    assert len(computed) == 6
    features, computed = features_of(small_model(), monkeypatch)
    features.fill(SENTENCES, stop=StopRequest())
    assert len(computed) == len(set(SENTENCES)) - 6
    assert features(SENTENCES).shape == (len(SENTENCES), 32)


def test_another_trunk_has_features_of_its_own(features_of, monkeypatch):
    first, _ = features_of(small_model(), monkeypatch)
    first.fill(SENTENCES, stop=StopRequest())
    changed = small_model()
    with torch.no_grad():
        changed.clip.token_embedding.weight.mul_(1.5)
    other, computed = features_of(changed, monkeypatch)
    other.fill(SENTENCES, stop=StopRequest())
    assert len(computed) == len(set(SENTENCES))
    assert not torch.allclose(first(SENTENCES), other(SENTENCES), atol=1e-3)


def test_stop_keeps_the_sentences_that_are_done(features_of, monkeypatch):
    features, computed = features_of(small_model(), monkeypatch)
    features.fill(SENTENCES, stop=StopRequest(15))
    assert len(computed) == 4  # a batch
    features, computed = features_of(small_model(), monkeypatch)
    features.fill(SENTENCES, stop=StopRequest())
    assert len(computed) == len(set(SENTENCES)) - 4


@pytest.mark.model
def test_sentences_of_mini_are_prepared_in_their_order(mini):
    model = replace(mini, clip=copy.deepcopy(mini.clip))
    network = make(model, FROZEN)
    features = prepare_texts(SENTENCES, model, network, device=CPU)
    with torch.no_grad():
        tokens = mini.tokenize(SENTENCES, context_length=mini.context_length)
        expected = mini.clip.encode_text(tokens)
        torch.testing.assert_close(network.text.head(features), expected, rtol=0, atol=1e-5)


def test_a_caption_is_cut_where_it_is_too_long(hf_model):
    network = make(hf_model, TowerPlan("all"))
    whole = prepare_texts(SENTENCES, hf_model, network, device=CPU)
    cut = prepare_texts(SENTENCES, hf_model, network, device=CPU, max_tokens=4)
    assert cut.shape[1] == 4 < whole.shape[1]
    short = (whole[:, 4:] == hf_model.clip.text.config.pad_token_id).all(dim=1)
    assert 0 < short.sum() < len(whole)
    assert torch.equal(cut[short], whole[short, :4])


def test_a_tower_that_reads_its_whole_context_gets_padding_for_what_is_cut():
    model = small_model("vit")
    network = make(model, TowerPlan("all"))
    whole = prepare_texts(SENTENCES, model, network, device=CPU)
    cut = prepare_texts(SENTENCES, model, network, device=CPU, max_tokens=4)
    assert cut.shape == whole.shape and not cut[:, 4:].any()
    assert torch.equal(cut[:, 3] == whole.max(), (whole != 0).sum(dim=1) >= 4)  # ends are kept
