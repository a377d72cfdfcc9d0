"""The weight of a word: rarer words count more, and none counts less than nothing."""

import math

import pytest

from reelseek.indexing.lexical.scoring import TermStatistics, inverse_document_frequency


def test_rarer_words_count_more():
    weights = [inverse_document_frequency(frequency, 100) for frequency in (0, 1, 50, 100)]
    assert weights == sorted(weights, reverse=True)
    assert weights[2] == pytest.approx(math.log(2))


@pytest.mark.parametrize("frequency", [100, 101, 500])
def test_texts_deleted_since_make_no_weight_negative(frequency):
    assert inverse_document_frequency(frequency, 100) == inverse_document_frequency(100, 100) > 0
    assert TermStatistics(100, 1000, {"dog": frequency}).rarity("dog") > 0
