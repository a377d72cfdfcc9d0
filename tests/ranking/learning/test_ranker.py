import json
import sys
import zlib

import numpy as np
import pytest

from reelseek.ranking import FEATURE_NAMES, LearnedRanker, ndcg, train_ranker
from reelseek.ranking.learning.trees import Trees

NAMES = FEATURE_NAMES[:4]


def judged(num_queries=60, per_query=12, seed=0):
    """Candidates whose relevance follows the second feature, which is missing now and then, and
    where it is, the fourth."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(num_queries * per_query, 4)).astype(np.float32)
    features[random.uniform(size=len(features)) < 0.3, 1] = np.nan
    truth = np.where(np.isnan(features[:, 1]), features[:, 3], features[:, 1])
    relevance = np.digitize(truth, [-0.5, 0.3, 1.0, 1.6])
    groups = np.repeat(np.arange(num_queries), per_query)
    return features, relevance, groups


@pytest.fixture(scope="module")
def ranker():
    pytest.importorskip("lightgbm")
    features, relevance, groups = judged()
    return train_ranker(features, relevance, groups=groups, feature_names=NAMES)


@pytest.mark.parametrize(
    ("relevance", "options", "expected"),
    [
        ([3, 2, 0], {}, 1.0),
        # Gains 7 and 3: (3 + 7 / log2(3)) / (7 + 3 / log2(3)).
        ([2, 3], {}, 0.834),
        ([0, 0, 1], {}, 0.5),
        ([0, 1], {"k": 1}, 0.0),
        ([1], {"judged": [0, 1, 1, 1]}, 1 / (1 + 0.63093 + 0.5)),
        ([], {"judged": [2]}, 0.0),
    ],
)
def test_ndcg_worked_out_by_hand(relevance, options, expected):
    assert ndcg(relevance, **options) == pytest.approx(expected, abs=1e-4)


def test_ndcg_of_nothing_relevant_is_not_a_number():
    assert np.isnan(ndcg([0, 0]))
    with pytest.raises(ValueError, match="k=0: must be at least 1"):
        ndcg([1], k=0)


def mean_ndcg(scores, relevance, groups):
    return np.mean(
        [
            ndcg(relevance[groups == g][np.argsort(-scores[groups == g])], k=5)
            for g in np.unique(groups)
        ]
    )


def test_ranker_orders_queries_it_has_not_seen(ranker):
    features, relevance, groups = judged(seed=1)
    assert mean_ndcg(ranker.score(features), relevance, groups) > 0.93
    assert mean_ndcg(np.nan_to_num(features[:, 1]), relevance, groups) < 0.88
    assert 1 <= ranker.num_trees < 500


def test_same_data_and_seed_make_the_same_ranker(ranker):
    features, relevance, groups = judged()
    mixed = np.random.default_rng(5).permutation(len(groups))
    again = train_ranker(features, relevance, groups=groups, feature_names=NAMES)
    np.testing.assert_array_equal(again.score(features), ranker.score(features))
    shuffled = train_ranker(
        features[mixed], relevance[mixed], groups=groups[mixed], feature_names=NAMES
    )
    assert mean_ndcg(shuffled.score(features), relevance, groups) > 0.93


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_scores_are_those_that_lightgbm_predicts(missing):
    lightgbm = pytest.importorskip("lightgbm")
    features, relevance, groups = judged(seed=2)
    random = np.random.default_rng(3)
    features[:, 1] = np.nan_to_num(features[:, 1])
    features[random.uniform(size=features.shape) < missing] = np.nan
    counts = np.unique(groups, return_counts=True)[1]
    dataset = lightgbm.Dataset(features, label=relevance, group=counts)
    parameters = {"objective": "lambdarank", "num_leaves": 15, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, dataset, num_boost_round=40)
    trees = Trees.from_lightgbm(booster.dump_model())
    others = random.normal(size=(500, 4)).astype(np.float32)
    others[random.uniform(size=others.shape) < 0.2] = np.nan
    # On the borders too, where "at most" and "less than" part.
    borders = trees.threshold[np.abs(trees.threshold) > 1e-30]  # LightGBM takes 1e-35 for 0
    others[:200] = random.choice(borders, size=(200, 4)).astype(np.float32)
    for rows in (features, others):
        np.testing.assert_array_equal(trees.predict(rows), booster.predict(rows, num_threads=1))


def test_trained_ranker_scores_as_the_best_state_of_its_booster(monkeypatch):
    lightgbm = pytest.importorskip("lightgbm")
    boosters = []
    train = lightgbm.train

    def remember(*arguments, **options):
        boosters.append(train(*arguments, **options))
        return boosters[-1]

    monkeypatch.setattr(lightgbm, "train", remember)
    features, relevance, groups = judged()
    ranker = train_ranker(features, relevance, groups=groups, feature_names=NAMES)
    [booster] = boosters
    best = booster.best_iteration
    assert ranker.num_trees == best > 0
    expected = booster.predict(features, num_iteration=best, num_threads=1)
    np.testing.assert_array_equal(ranker.score(features), expected)
    fewer = Trees.from_lightgbm(booster.dump_model(num_iteration=best - 1))
    assert not np.array_equal(fewer.predict(features), expected)


@pytest.mark.parametrize(
    ("parameters", "categories"),
    [({"zero_as_missing": True}, []), ({"min_data_per_group": 1}, [3])],
)
def test_trees_of_another_kind_are_not_converted(parameters, categories):
    lightgbm = pytest.importorskip("lightgbm")
    features, relevance, _ = judged()
    features = np.abs(np.nan_to_num(features)).round()
    options = {"verbose": -1, "num_threads": 1, **parameters}
    dataset = lightgbm.Dataset(features, label=relevance, categorical_feature=categories)
    booster = lightgbm.train(options, dataset, 5)
    with pytest.raises(ValueError, match="must be '<=' with missing NaN or None"):
        Trees.from_lightgbm(booster.dump_model())


def test_saved_ranker_comes_back(ranker, tmp_path):
    ranker.save(tmp_path / "new")
    again = LearnedRanker.load(tmp_path / "new")
    features, *_ = judged(num_queries=3)
    np.testing.assert_array_equal(again.score(features), ranker.score(features))
    assert again.feature_names == NAMES
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"ranker.safetensors", "ranker.json"}


def test_search_needs_no_lightgbm(ranker, tmp_path, monkeypatch):
    ranker.save(tmp_path)
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    features, *_ = judged(num_queries=3)
    loaded = LearnedRanker.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(features), ranker.score(features))


def test_no_candidates_have_no_scores(ranker):
    assert ranker.score(np.empty((0, 4))).shape == (0,)
    with pytest.raises(ValueError, match=r"features is \(2, 3\): must be \(n, 4\)"):
        ranker.score(np.zeros((2, 3)))


@pytest.fixture
def saved(ranker, tmp_path):
    """Writes other trees in the ranker's place, with the checksum that belongs to them."""
    ranker.save(tmp_path)
    path, config = tmp_path / "ranker.safetensors", tmp_path / "ranker.json"

    def write(change):
        content = change(path.read_bytes())
        path.write_bytes(content)
        entry = json.loads(config.read_text())
        config.write_text(json.dumps({**entry, "crc32": zlib.crc32(content)}))
        return tmp_path

    return write


def refusal(folder):
    with pytest.raises(ValueError, match="holds no ranker that can be read") as caught:
        LearnedRanker.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\xff" * 8 + content[8:],
        lambda content: content.replace(b"F64", b"F16", 1),
    ],
)
def test_hostile_file_with_a_right_checksum_is_refused(saved, change):
    refusal(saved(change))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("left", 9_999_999, "its left names a node that does not come after its parent"),
        ("left", 0, "its left names a node"),
        ("right", -90, "its right names a node"),
        ("feature", 4, "beyond its 4 features"),
        ("feature", -1, "beyond its 4 features"),
        ("threshold", np.nan, "its value or threshold is not finite"),
        ("value", np.inf, "its value or threshold is not finite"),
        ("roots", 9_999_999, "its roots name nodes that are not there"),
        ("roots", -1, "its roots name nodes that are not there"),
    ],
)
def test_tree_that_leads_astray_is_refused(saved, name, value, reason):
    from safetensors.numpy import load, save

    def change(content):
        tensors = load(content)
        tensors[name] = tensors[name].copy()
        tensors[name][0] = value
        return save(tensors)

    assert reason in refusal(saved(change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "left"}, "it lacks left"),
        (lambda t: t | {"left": t["left"].astype(np.int64)}, "its left is int64"),
        (lambda t: t | {"value": t["value"][1:]}, "its value is float64"),
        (lambda t: t | {"roots": t["roots"][:0]}, "its roots is int32 (0,)"),
        (lambda t: t | {"roots": t["roots"][None]}, "its roots is int32"),
        (lambda t: t | {"feature": np.zeros((3, 3), np.int32)}, "its feature is int32 (3, 3)"),
        (lambda t: t | {"feature": np.array(7, np.int32)}, "its feature is int32 ()"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(saved, change, reason):
    from safetensors.numpy import load, save

    assert reason in refusal(saved(lambda content: save(change(load(content)))))


def test_ranker_of_an_older_version_is_refused(tmp_path):
    (tmp_path / "ranker.txt").write_text("tree\n")
    old = {"format": 1, "feature_names": list(NAMES), "crc32": zlib.crc32(b"tree\n")}
    (tmp_path / "ranker.json").write_text(json.dumps(old))
    message = refusal(tmp_path)
    assert message.endswith("(an older version of reelseek saved it); train it again")


def test_any_damaged_byte_is_noticed(ranker, tmp_path):
    ranker.save(tmp_path)
    path = tmp_path / "ranker.safetensors"
    good = path.read_bytes()
    for position in np.random.default_rng(0).integers(len(good), size=20).tolist():
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            LearnedRanker.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 3}', "[" * 100_000, '{"format": 2, "feature_names": ["x"]}'],
)
def test_description_that_is_none_is_refused(ranker, tmp_path, text):
    ranker.save(tmp_path)
    (tmp_path / "ranker.json").write_text(text)
    with pytest.raises(ValueError, match="holds no ranker that can be read"):
        LearnedRanker.load(tmp_path)


def test_missing_ranker_is_named(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        LearnedRanker.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance": np.ones(720, dtype=int)}, "no query has candidates of different relevance"),
        ({"relevance": np.ones(3, dtype=int)}, r"relevance is \(3,\) of int64: must be \(720,\)"),
        ({"relevance": np.linspace(0, 3, 720)}, "whole numbers"),
        ({"relevance": np.arange(720) - 5}, "relevance is out of range: must be 0 to 30"),
        ({"features": np.ones((720, 3))}, r"features is \(720, 3\): must be \(n, 4\)"),
        ({"features": np.full((720, 4), np.inf)}, "features hold infinite values"),
        ({"held_out_fraction": 1.0}, "held_out_fraction=1.0: must be 0 to less than 1"),
    ],
)
def test_judgements_that_teach_nothing_are_refused(change, message):
    features, relevance, groups = judged()
    data = {"features": features, "relevance": relevance, "groups": groups, **change}
    with pytest.raises(ValueError, match=message):
        train_ranker(data.pop("features"), data.pop("relevance"), feature_names=NAMES, **data)


def test_few_queries_are_all_trained_on():
    pytest.importorskip("lightgbm")
    features, relevance, groups = judged(num_queries=8)
    ranker = train_ranker(features, relevance, groups=groups, feature_names=NAMES)
    assert ranker.num_trees == 100


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    features, relevance, groups = judged()
    with pytest.raises(ImportError, match=r"pip install 'reelseek\[ranker\]'"):
        train_ranker(features, relevance, groups=groups, feature_names=NAMES)
