import json
import re
import zlib

import numpy as np
import pytest

from reelseek.ranking import FEATURE_NAMES, LearnedRanker, ndcg, train_ranker
from reelseek.ranking.learning.model_text import check_model_text

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


def test_contributions_add_up_to_the_score(ranker):
    features, *_ = judged(num_queries=2)
    parts = ranker.contributions(features)
    assert parts.shape == (len(features), 5)
    np.testing.assert_allclose(parts.sum(axis=1), ranker.score(features), atol=1e-9)
    assert np.abs(parts[:, 1]).mean() > 3 * np.abs(parts[:, 0]).mean()


def test_saved_ranker_comes_back(ranker, tmp_path):
    ranker.save(tmp_path / "new")
    again = LearnedRanker.load(tmp_path / "new")
    features, *_ = judged(num_queries=3)
    np.testing.assert_array_equal(again.score(features), ranker.score(features))
    np.testing.assert_array_equal(again.contributions(features), ranker.contributions(features))
    assert again.feature_names == NAMES
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"ranker.txt", "ranker.json"}


def test_no_candidates_have_no_scores(ranker):
    assert ranker.score(np.empty((0, 4))).shape == (0,)
    assert ranker.contributions(np.empty((0, 4))).shape == (0, 5)
    with pytest.raises(ValueError, match=r"features is \(2, 3\): must be \(n, 4\)"):
        ranker.score(np.zeros((2, 3)))


@pytest.fixture
def saved(ranker, tmp_path):
    """Writes another text of trees in the ranker's place, with the checksum that belongs to it."""
    ranker.save(tmp_path)
    path, config = tmp_path / "ranker.txt", tmp_path / "ranker.json"

    def write(change):
        content = change(path.read_text()).encode()
        path.write_bytes(content)
        entry = json.loads(config.read_text())
        config.write_text(json.dumps({**entry, "crc32": zlib.crc32(content)}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "", "its trees have no end"),
        (lambda text: text[: len(text) // 2], "its trees have no end"),
        (lambda text: "tree\nend of trees\n", "it has no trees"),
        (lambda text: text.replace("num_class=1", "num_class=3"), "several scores"),
        (lambda text: text.replace("max_feature_idx=3", "max_feature_idx=9"), "are not 4"),
        (lambda text: text.replace("Tree=0", "Tree=7", 1), "tree 0 is missing"),
        (lambda text: text.replace("tree_sizes=", "tree_sizes=9"), "not as long as it says"),
        (lambda text: text.replace("version=", "other="), "header"),
        (lambda text: text.replace("objective=lambdarank", "objective=binary"), "to rank"),
        (lambda text: text.replace("feature_infos=[", "feature_infos=(", 1), "no ranges"),
    ],
)
def test_hostile_text_with_a_right_checksum_is_refused(saved, change, reason):
    with pytest.raises(ValueError, match="holds no ranker that can be read") as caught:
        LearnedRanker.load(saved(change))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left_child", "9"),
        ("left_child", "0"),
        ("right_child", "-90"),
        ("split_feature", "4"),
        ("split_feature", "-1"),
        ("decision_type", "1"),
        ("threshold", "high"),
        ("split_gain", "y3"),
        ("internal_count", "1_0"),
        ("shrinkage", "x"),
        ("leaf_value", "1e999"),
        ("num_leaves", "70000"),
        ("num_leaves", "99999999999999999999"),
    ],
)
def test_tree_that_leads_astray_is_refused(saved, name, value):
    def change(text):
        before = len(text)
        text = re.sub(rf"^{name}=\S+", f"{name}={value}", text, count=1, flags=re.MULTILINE)
        first = int(re.search(r"tree_sizes=(\d+)", text)[1])
        return text.replace(f"tree_sizes={first}", f"tree_sizes={first + len(text) - before}", 1)

    folder = saved(change)
    with pytest.raises(ValueError, match="tree 0"):
        LearnedRanker.load(folder)


def test_any_damaged_byte_is_noticed(ranker, tmp_path):
    ranker.save(tmp_path)
    path = tmp_path / "ranker.txt"
    good = path.read_bytes()
    for position in np.random.default_rng(0).integers(len(good), size=20).tolist():
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            LearnedRanker.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 2}', "[" * 100_000, '{"format": 1, "feature_names": ["x"]}'],
)
def test_description_that_is_none_is_refused(ranker, tmp_path, text):
    ranker.save(tmp_path)
    (tmp_path / "ranker.json").write_text(text)
    with pytest.raises(ValueError, match="holds no ranker that can be read"):
        LearnedRanker.load(tmp_path)


def test_missing_ranker_is_named(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        LearnedRanker.load(tmp_path / "none")


def test_text_that_lightgbm_writes_is_accepted(ranker, tmp_path):
    ranker.save(tmp_path)
    text = (tmp_path / "ranker.txt").read_text()
    check_model_text(text, num_features=4)
    with pytest.raises(ValueError, match="it has not 5 feature_names"):
        check_model_text(text, num_features=5)


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
    monkeypatch.setitem(__import__("sys").modules, "lightgbm", None)
    features, relevance, groups = judged()
    with pytest.raises(ImportError, match=r"pip install 'reelseek\[ranker\]'"):
        train_ranker(features, relevance, groups=groups, feature_names=NAMES)
