import numpy as np
import torch

from reelseek.recommendation.completion.word_counts import count_words, worded
from reelseek.recommendation.completion.word_vector_training import (
    _LogBilinear,
    train_word_vectors,
)
from reelseek.recommendation.completion.word_vectors import WordVectors


def test_numpy_computes_what_pytorch_does():
    torch.manual_seed(0)
    model = _LogBilinear(5, torch.randn(5, 7), bias=torch.randn(5)).eval()
    vectors = model.exported(np.array([2, 3, 5, 8, 9], np.int32))
    vectors = WordVectors.from_tensors(vectors.tensors(), size=10)
    unknown, none = 5, 6
    for ids, before in (
        ([3], [1, none, none, none, none]),
        ([9, 2], [0, 4, none, none, none]),
        ([8, 9, 4, 2], [0, unknown, 4, 3, none]),
    ):
        with torch.no_grad():
            expected = model.context(torch.tensor([before]))[0]
            scores = model.output(slice(1, 4)) @ expected + model.bias[1:4]
        np.testing.assert_allclose(vectors.context(ids), expected, rtol=1e-4, atol=1e-5)
        found, shares = vectors.probabilities(ids, 3, 9)
        assert found.tolist() == [3, 5, 8]
        np.testing.assert_allclose(shares, scores.softmax(0), rtol=1e-4, atol=1e-5)
    assert [len(each) for each in vectors.probabilities([2], 6, 8)] == [0, 0]


def test_what_resembles_a_word_is_followed_alike():
    """A word that was never seen before others borrows from one with the same embedding."""
    draws = np.random.default_rng(0)
    queries = [
        ((f"q{kind}{draws.integers(8)}", f"z{kind}{draws.integers(3)}"), 1.0)
        for kind in draws.choice(["a", "b"], 600).tolist()
    ]
    new = [(("qa9",), 1.0), (("qb9",), 1.0)]
    tables = count_words(worded(queries + new))

    def embed(words):
        return np.array(
            [[word[1] == "a", word[1] == "b", word[0] == "q"] for word in words], np.float32
        )

    vectors = train_word_vectors(tables, worded(queries), embed=embed)
    assert vectors is not None
    of = tables.vocabulary.id_of
    for kind in "ab":
        ids, shares = vectors.probabilities([of(f"q{kind}9")], *tables.vocabulary.range_of("z"))
        chance = sum(
            share
            for number, share in zip(ids.tolist(), shares.tolist(), strict=True)
            if tables.vocabulary[number].startswith(f"z{kind}")
        )
        assert chance > 0.8


def test_nothing_to_learn():
    tables = count_words(worded([(("alone",), 1.0)]))
    assert train_word_vectors(tables, worded([(("alone",), 1.0)])) is None


def test_scripts_with_many_first_letters():
    queries = [(("谍", chr(0x4E00 + number) + "战"), 1.0) for number in range(40)]
    tables = count_words(worded(queries))
    vectors = train_word_vectors(tables, worded(queries))
    assert vectors is not None and np.isfinite(vectors.outputs).all()
