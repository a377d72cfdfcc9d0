import pytest
import torch
import transformers

from reelseek.training.text.vocabulary import add_words, missing_words
from tests.training.text import tiny_text

TEXTS = ["红狗 dogs zebra", "红狗 Dogs zebra", "红 猫 dog once", "!! !! dogs"]


@pytest.fixture
def model(tmp_path):
    return tiny_text.load(tiny_text.write_model(tmp_path / "model"))


def test_missing_words_are_the_most_frequent_that_are_split_or_unknown(model):
    found = missing_words(model.tokenize.tokenizer, TEXTS, max_words=10)
    # "dog" is known, "dogs" are pieces, "once" and the cat occur once, signs are no words.
    assert found == ["dogs", "红", "zebra", "狗"]
    assert missing_words(model.tokenize.tokenizer, TEXTS, max_words=2) == ["dogs", "红"]


def test_new_rows_are_the_mean_of_the_pieces(model):
    tokenizer = model.tokenize.tokenizer
    old = model.clip.text.transformer.get_input_embeddings().weight.detach().clone()
    before = model.tokenize(["a dog"])
    pieces = tokenizer.convert_tokens_to_ids(["dog", "##s"])
    extended = add_words(model, ["dogs", "红", "狗"])
    rows = extended.clip.text.transformer.get_input_embeddings().weight
    assert len(rows) == len(old) + 3 == extended.clip.text.config.vocab_size
    assert torch.equal(rows[: len(old)], old)
    torch.testing.assert_close(rows[len(old)], old[pieces].mean(dim=0))
    red, dog = rows[len(old) + 1 :]
    assert not torch.allclose(red, dog)
    assert (red - old.mean(dim=0)).norm() < 3 * old.std(dim=0).norm()
    assert extended.spec.scripts == ("Latin", "Han")
    assert torch.equal(extended.tokenize(["a dog"]), before)
    first = len(old)
    assert extended.tokenize(["Dogs 红狗"])[0, :5].tolist() == [2, first, first + 1, first + 2, 3]
    # A word in blanks stands only alone: "catdogs" is not a cat and dogs.
    assert first not in extended.tokenize(["catdogs"])[0].tolist()


def test_words_are_the_same_in_every_run(tmp_path):
    rows = []
    for name in ("a", "b"):
        model = tiny_text.load(tiny_text.write_model(tmp_path / name))
        torch.manual_seed(len(rows))
        extended = add_words(model, ["红"])
        rows.append(extended.clip.text.transformer.get_input_embeddings().weight)
    assert torch.equal(*rows)


def test_towers_that_are_not_of_transformers_take_no_words():
    from tests.training.tiny_run import make_model

    with pytest.raises(ValueError, match=r"set text\.new_tokens=0"):
        add_words(make_model(), ["红"])


def test_byte_level_tokenizers_count_whole_words(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["a dog runs"] * 9, vocab_size=300, min_frequency=1)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer)
    assert missing_words(tokenizer, ["a zebra café", "zebra café"], max_words=5) == [
        "café",
        "zebra",
    ]
