"""The likeness of texts: against full matrices."""

import numpy as np

from reelseek.recommendation.related.texts import TextVectors, words_of

TEXTS = [
    ["dog", "beach", "dog"],
    ["dog", "beach"],
    ["cat", "beach"],
    ["cat", "sofa"],
    [],
]


def full_cosines() -> np.ndarray:
    words = sorted({word for text in TEXTS for word in text})
    counts = np.array([[text.count(word) for word in words] for text in TEXTS], float)
    having = (counts > 0).sum(axis=0)
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    weights *= np.log1p(len(TEXTS) / (1 + having))
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = weights / np.maximum(lengths, 1e-12)
    return unit @ unit.T


def test_cosines_are_those_of_full_vectors():
    vectors = TextVectors.of(TEXTS)
    expected = full_cosines()
    for row in range(len(TEXTS)):
        found = vectors.cosines(row, np.arange(len(TEXTS)))
        np.testing.assert_allclose(found, expected[row], atol=1e-6)
        nearest, scores = vectors.nearest(row, 2)
        others = np.where(np.arange(len(TEXTS)) == row, 0, expected[row])
        np.testing.assert_allclose(scores, np.sort(others[others > 0])[::-1][:2], atol=1e-6)
        assert row not in nearest


def test_no_texts():
    for texts in ([], [[]], [[], []]):
        vectors = TextVectors.of(texts)
        assert vectors.num_videos == len(texts)
        for row in range(len(texts)):
            assert len(vectors.nearest(row, 3)[0]) == 0
            assert not vectors.has_words(row)


def test_words_of_many_videos_tell_nothing():
    texts = [["everywhere", f"w{i // 2}"] for i in range(300)]
    vectors = TextVectors.of(texts)
    nearest, _ = vectors.nearest(0, 10)
    assert nearest.tolist() == [1]


def test_words_of_metadata_of_any_kind():
    assert words_of({}) == []
    assert words_of({"title": None, "tags": 3, "captions": [4, "A dog"]}) == ["a", "dog"]
    assert words_of({"tags": "Sea"}) == ["sea"] * 3
    assert set(words_of({"title": "五爱市场"})) != set()
