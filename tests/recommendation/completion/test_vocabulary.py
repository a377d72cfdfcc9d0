import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reelseek.recommendation.completion.sparse_rows import SparseRows, counts_of, in_range
from reelseek.recommendation.completion.vocabulary import (
    NUM_BEST,
    Vocabulary,
    best_of_ranges,
    range_key,
)

WORD = st.text("abé电\U0001f408", min_size=1, max_size=5)


@given(st.sets(WORD, min_size=1), st.text("abé电\U0001f408", max_size=3))
def test_words_with_a_prefix_are_a_range(found, letters):
    ordered = sorted(found)
    vocabulary = Vocabulary.of(list(found))
    assert [vocabulary[number] for number in range(len(vocabulary))] == ordered
    assert [vocabulary.id_of(word) for word in ordered] == list(range(len(ordered)))
    assert vocabulary.id_of("zzz") == -1
    first, last = vocabulary.range_of(letters)
    assert ordered[first:last] == [word for word in ordered if word.startswith(letters)]


def test_the_best_of_large_ranges():
    draws = np.random.default_rng(0)
    ordered = sorted({"".join(draws.choice(list("abc"), 6)) for _ in range(2_000)} | {"a", "ab"})
    scores = draws.random(len(ordered))
    vocabulary = Vocabulary.of(ordered)
    best = best_of_ranges(ordered, scores)
    rows = dict(zip(best["keys"].tolist(), best["best"].tolist(), strict=True))
    for letters in ("", "a", "ab", "abc", "b", "cab", "aaaa"):
        first, last = vocabulary.range_of(letters)
        key = range_key(first, last, len(ordered))
        if last - first <= NUM_BEST:
            assert key not in rows
            continue
        expected = sorted(range(first, last), key=lambda each: -scores[each])[:NUM_BEST]
        assert rows[key] == expected


def test_rows_of_counts():
    rows = SparseRows.of({7: {3: 2.0, 1: 1.0}, 2: {5: 4.0}})
    rows = SparseRows.from_tensors(rows.tensors("pairs"), "pairs", 6)
    ids, counts, total = rows.row(7)
    assert (ids.tolist(), counts.tolist(), total) == ([1, 3], [1.0, 2.0], 3.0)
    assert [each.tolist() for each in in_range(rows.row(7), 2, 9)] == [[3], [2.0]]
    assert counts_of(rows.row(7), np.array([0, 1, 3, 4])).tolist() == [0, 1, 2, 0]
    assert counts_of(rows.row(1), np.array([0, 1])).tolist() == [0, 0]
    assert SparseRows.of({}).row(1)[2] == 0
