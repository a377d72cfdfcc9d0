import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from reelseek.text import Tokenizer


def simple_tokenizer():
    return Tokenizer(SimpleTokenizer(context_length=77), context_length=77)


@pytest.fixture
def mini_tokenizer(mini_fast):
    return Tokenizer(mini_fast.tokenize, context_length=mini_fast.context_length)


def words(count):
    """A sentence of as many tokens, borders not counted, in either tokenizer."""
    return " ".join(["dog", "cat", "red"][i % 3] for i in range(count))


def assert_is_cut_past_the_limit(tokenizer):
    room = tokenizer.context_length - 2  # two tokens are the sentence's borders
    assert not tokenizer.is_cut(words(room))
    assert tokenizer.is_cut(words(room + 1))
    # And that is where the tokens are lost: one word more changes nothing that the model sees.
    fits, cut, cut_later = tokenizer([words(room), words(room + 1), words(room + 2)])
    assert torch.equal(cut, cut_later)
    assert torch.equal(fits, cut)
    assert not torch.equal(fits, tokenizer([words(room - 1)])[0])


def test_simple_tokenizer_cuts_past_its_limit():
    assert_is_cut_past_the_limit(simple_tokenizer())


@pytest.mark.model
def test_tokenizer_of_mini_cuts_past_its_limit(mini_tokenizer):
    assert_is_cut_past_the_limit(mini_tokenizer)


@pytest.mark.parametrize("sentence", ["", " ", "dog", "a dog! " * 5, "!"])
def test_short_sentence_is_not_cut(sentence):
    assert not simple_tokenizer().is_cut(sentence)


def test_much_longer_sentence_is_cut():
    assert simple_tokenizer().is_cut("a dog and a cat " * 500)


def test_context_length_is_the_models_not_the_tokenizers():
    tokenizer = Tokenizer(SimpleTokenizer(context_length=77), context_length=16)
    assert tokenizer(["a dog", words(40)]).shape == (2, 16)
    assert not tokenizer.is_cut(words(14))
    assert tokenizer.is_cut(words(15))


def test_any_sequence_of_sentences_is_taken():
    tokenizer = simple_tokenizer()
    tokens = tokenizer(("a dog", "a cat"))
    assert tokens.dtype == torch.int64
    assert tokens.shape == (2, 77)
    assert torch.equal(tokens[1], tokenizer(["a cat"])[0])
