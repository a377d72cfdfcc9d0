import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.recommendation.completion.phrases import NUM_KEPT, Phrases, build_phrases

TEXT = st.text("ab 电é\U0001f408", min_size=1, max_size=7)


def make_phrases(table: dict[str, tuple[float, int]]) -> Phrases:
    texts = sorted(table)
    scores = np.array([table[text][0] for text in texts], float)
    users = np.array([table[text][1] for text in texts], int)
    return Phrases(*build_phrases(texts, scores, num_users=users))


def brute_force(table, prefix, k, min_users=0):
    found = [
        (-score, text)
        for text, (score, users) in table.items()
        if text.startswith(prefix) and len(text) > len(prefix) and users >= min_users
    ]
    return [text for _, text in sorted(found)[:k]]


@settings(max_examples=60)
@given(
    st.dictionaries(TEXT, st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=200),
    TEXT,
    st.integers(0, NUM_KEPT - 1),
)
def test_as_a_brute_force_table(table, prefix, k):
    phrases = make_phrases(table)
    assert [each.text for each in phrases.best(prefix, k)] == brute_force(table, prefix, k)
    assert phrases.has_prefix(prefix) == any(text.startswith(prefix) for text in table)
    assert (prefix in phrases) == (prefix in table)


def test_short_prefixes_of_many_texts_come_from_the_table():
    draws = np.random.default_rng(0)
    table = {
        "".join(draws.choice(list("abc"), draws.integers(1, 9))): (float(draws.integers(99)), 9)
        for _ in range(5_000)
    }
    phrases = make_phrases(table)
    for prefix in ("a", "b", "ab", "abc", "cab", "ccc", "aaaa", "abcabc", "z"):
        assert [each.text for each in phrases.best(prefix, 10)] == brute_force(table, prefix, 10)


def test_too_few_users():
    table = {"dog food": (9.0, 2), "dog toys": (1.0, 5), "dog": (1.0, 300)}
    phrases = make_phrases(table)
    assert [each.text for each in phrases.best("dog", 5, min_users=3)] == ["dog toys"]
    assert phrases.exactly("dog food", min_users=3) is None
    assert phrases.exactly("dog", min_users=255) is not None
    number = phrases.number_of("dog food")
    assert number is not None
    assert phrases.text_of(number) == "dog food"
    assert phrases.text_of(number, min_users=3) == ""
    assert phrases.number_of("cat") is None


def test_empty_and_ill_fitting():
    empty = make_phrases({})
    assert (len(empty), empty.best("a", 5), empty.has_prefix("a")) == (0, [], False)
    tries, arrays = build_phrases(["a"], np.ones(1), num_users=np.ones(1, int))
    with pytest.raises(ValueError, match="not of one model"):
        Phrases(tries, {**arrays, "phrases.scores": np.ones(2, np.float32)})
