import pytest
import torch

from reelseek.text import TextEncoder, Tokenizer
from tests.conftest import tokenize_colours


@pytest.fixture
def build_encoder(colour_model):
    """A text encoder of the colour model, with the scripts given."""

    def build(scripts=()):
        tokenizer = Tokenizer(tokenize_colours, context_length=8)
        return TextEncoder(colour_model.clip, tokenizer, scripts=scripts)

    return build


@pytest.fixture
def warnings_of(caplog):
    """The warnings that a query gives rise to."""

    def warnings(encoder, query):
        caplog.clear()
        encoder.encode_query(query)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    return warnings


def test_embeddings_are_what_the_model_says_normalised(build_encoder):
    embeddings = build_encoder().encode(["red", "blue blue", "red green"])
    half = 0.5**0.5
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 1], [half, half, 0]])
    torch.testing.assert_close(embeddings, expected)


@pytest.mark.parametrize("num_sentences", [1, 63, 64, 65, 200])
def test_any_number_of_sentences_keeps_its_order(build_encoder, num_sentences):
    names = ["red", "green", "blue"]
    embeddings = build_encoder().encode([names[i % 3] for i in range(num_sentences)])
    assert embeddings.argmax(dim=1).tolist() == [i % 3 for i in range(num_sentences)]


def test_query_is_one_embedding(build_encoder):
    assert build_encoder().encode_query("green").tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("query", ["", " ", "\n\t \u3000"])
def test_empty_query_is_refused(build_encoder, query):
    with pytest.raises(ValueError, match="query is empty"):
        build_encoder().encode_query(query)


def test_query_that_is_cut_is_warned_of(build_encoder, warnings_of):
    encoder = build_encoder()
    assert warnings_of(encoder, "red " * 8) == []
    (warning,) = warnings_of(encoder, "red " * 9)
    assert "longer than the 8 tokens" in warning


def test_query_in_a_foreign_script_is_warned_of_with_the_remedy(build_encoder, warnings_of):
    (warning,) = warnings_of(build_encoder(scripts=["Latin"]), "red кот 猫")
    assert "Cyrillic, Han letters" in warning
    assert "trained on Latin only" in warning
    assert "model=siglip2_b16" in warning


@pytest.mark.parametrize(
    ("scripts", "query"),
    [
        (["Latin"], "a red ball, 2 m wide; \U0001f534"),
        (["Latin", "Han"], "red 猫"),
        ([], "красный red 猫"),  # what the model was trained on is not known
    ],
)
def test_query_that_the_model_can_read_is_not_warned_of(build_encoder, warnings_of, scripts, query):
    assert warnings_of(build_encoder(scripts=scripts), query) == []


@pytest.mark.model
def test_mini_embeds_sentences_normalised_and_alike_in_any_company(mini):
    tokenizer = Tokenizer(mini.tokenize, context_length=mini.context_length)
    encoder = TextEncoder(mini.clip, tokenizer, scripts=mini.spec.scripts)
    sentences = ["a dog catches a frisbee", "a puppy with a flying disc", "a pan of soup " * 12]
    embeddings = encoder.encode(sentences)
    assert embeddings.shape == (3, 512)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(3))
    for sentence, embedding in zip(sentences, embeddings, strict=True):
        torch.testing.assert_close(encoder.encode_query(sentence), embedding, rtol=0, atol=1e-5)
    assert embeddings[0] @ embeddings[1] > embeddings[0] @ embeddings[2] + 0.2
