import numpy as np
import pytest

from reelseek.recommendation.completion import word_training
from reelseek.recommendation.completion.word_counts import WordedQuery, count_words, worded
from reelseek.recommendation.completion.word_model import NUM_FEATURES, WordModel
from reelseek.recommendation.completion.word_training import (
    mean_reciprocal_rank,
    ranked_features,
    train_word_model,
)

NOUNS = ["qudog", "qucat", "qubird", "qufish", "quhorse", "qulion"]
VERBS = ["zeruns", "zeswims", "zeflies", "zesleeps", "zeeats", "zesings"]


def pattern(num: int, seed: int = 0) -> list[tuple[tuple[str, ...], float]]:
    """Each noun has its verb, in words that no language has."""
    draws = np.random.default_rng(seed)
    numbers = draws.integers(0, 6, num)
    return [((f"xx{n % 3}", NOUNS[n], VERBS[n]), 1.0) for n in numbers.tolist()]


@pytest.fixture(scope="module")
def counted() -> WordModel:
    return WordModel(count_words(worded(pattern(200))))


def completed(model, before, letters, k=10, **options):
    return [each.word for each in model.complete(before, letters, k, **options)]


def test_the_words_before_decide(counted):
    for noun, verb in zip(NOUNS, VERBS, strict=True):
        assert completed(counted, ["xx0", noun], "z")[0] == verb
        assert completed(counted, [noun], "ze", 1) == [verb]


def test_without_words_before_the_common_ones_lead():
    queries = [(("qudog",), 3.0), (("qucat",), 5.0), (("xx", "qubird"), 1.0)]
    model = WordModel(count_words(worded(queries)))
    assert completed(model, [], "qu") == ["qucat", "qudog", "qubird"]
    assert completed(model, ["unheard"], "qu")[0] == "qubird"


def test_nothing_to_complete(counted):
    assert completed(counted, [], "nothing") == []
    assert "qudog" not in completed(counted, [], "qudog")
    # A next word only where something is known of what follows.
    assert completed(counted, [], "") == []
    assert completed(counted, ["unheard"], "") == []
    assert completed(counted, ["xx0", "qudog"], "")[0] == "zeruns"


def test_a_word_that_the_query_has_comes_late():
    queries = [(("qudog", "qudog"), 1.0), (("qudog", "qucat"), 1.0)]
    model = WordModel(count_words(worded(queries)))
    assert completed(model, ["qudog"], "qu") == ["qucat", "qudog"]


def test_sources_are_counts_by_hand():
    queries = [
        ((("qa", "qb", "zqxc"), 1.0)),
        ((("qa", "qb", "zqxd"), 1.0)),
        ((("qx", "qb", "zqxd"), 2.0)),
    ]
    tables = count_words(worded(queries))
    model = WordModel(tables)
    ids = np.array([tables.vocabulary.id_of(word) for word in ("zqxc", "zqxd")])
    context = model.context(["qa", "qb"], *model.vocabulary.range_of("zqx"))
    place, everywhere, background, pair, triple, skip, earlier, pairs, vectors = model.sources(
        context, ids
    ).T
    assert place == pytest.approx([1 / 8, 3 / 8])
    assert everywhere == pytest.approx([1 / 12, 3 / 12])
    assert background.tolist() == pairs.tolist() == vectors.tolist() == [0, 0]
    assert pair == pytest.approx([(1 - 0.6) / 4, (3 - 0.6) / 4])
    assert triple == pytest.approx([0.4 / 2, 0.4 / 2])
    assert skip == pytest.approx([0.7 / 2, 0.7 / 2])
    after_qa, after_qb = np.array([1, 1]) - 0.3, np.array([1, 3]) - 0.3
    assert earlier == pytest.approx((after_qa / 4 + after_qb / 4) / 2)


def test_words_of_few_users_are_not_counted():
    def query(text: str, *users: int) -> WordedQuery:
        return WordedQuery(tuple(text.split()), float(len(users)), frozenset(users))

    queries = [query("qudog zeruns", 1, 2), query("qudog zesecret", 3), query("quname", 3)]
    queries += [query("zesecret xx", 4)]
    model = WordModel(count_words(queries, min_users=2))
    assert completed(model, [], "qu") == ["qudog"]
    # Two used the word, and only one of them after the other.
    assert "zesecret" in completed(model, [], "ze")
    assert completed(model, ["qudog"], "") == ["zeruns"]
    # Beyond the bound of the build, what followed what is not used.
    assert completed(model, ["qudog"], "ze", min_users=3) == []
    assert completed(model, ["qudog"], "", min_users=2) == []


def train(num: int = 500) -> WordModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_training, "_MIN_HELD_OUT", 50)
        return train_word_model(worded(pattern(num)))


@pytest.fixture(scope="module")
def trained() -> WordModel:
    return train()


def test_training_keeps_what_counts_say_and_repeats_itself(trained):
    assert trained.trees is not None and trained.vectors is not None
    asked = worded(pattern(60, seed=1))
    assert mean_reciprocal_rank(trained, asked) > 0.6
    again = train()
    for name, array in trained.tensors().items():
        np.testing.assert_array_equal(array, again.tensors()[name], err_msg=name)


def test_tensors_come_back(trained):
    again = WordModel.from_tensors(trained.tensors(), trie=trained.vocabulary.trie)
    for before, letters in (([], "q"), (["xx0", "qudog"], "z"), (["unheard"], "ze")):
        assert again.complete(before, letters, 10) == trained.complete(before, letters, 10)
    for name in ("places", "first", "pairs.ids", "vectors.outputs", "trees.values"):
        tensors = trained.tensors()
        with pytest.raises(ValueError, match=r"damaged|not of one model"):
            WordModel.from_tensors(
                {**tensors, name: tensors[name][1:]}, trie=trained.vocabulary.trie
            )


def test_features_fit_the_trees(trained):
    ids, features = ranked_features(trained, ["xx0", "qudog"], "z")
    assert features.shape == (len(ids), NUM_FEATURES)
    assert np.isfinite(features).all()


def test_few_queries_need_no_training():
    model = train_word_model(worded(pattern(3)))
    assert model.trees is None
    assert completed(train_word_model([]), [], "a") == []
