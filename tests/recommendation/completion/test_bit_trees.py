import lightgbm
import numpy as np
import pytest

from reelseek.recommendation.completion.bit_trees import BitTrees


@pytest.fixture(scope="module")
def booster():
    draws = np.random.default_rng(0)
    features = draws.normal(size=(600, 6)).astype(np.float32)
    features[:, 5] = draws.integers(0, 3, 600)
    target = np.where(features[:, 0] > 0, features[:, 1], features[:, 5]) + features[:, 2] ** 2
    options = {"num_leaves": 16, "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return lightgbm.train(options, lightgbm.Dataset(features, target), num_boost_round=40), features


def test_as_lightgbm_predicts(booster):
    model, features = booster
    trees = BitTrees.from_lightgbm(model.dump_model())
    trees = BitTrees.from_tensors(trees.tensors(), num_features=6)
    np.testing.assert_allclose(
        trees.predict(features), model.predict(features), rtol=1e-4, atol=1e-5
    )
    assert trees.predict(features[:1]).shape == (1,)


def test_values_on_a_threshold_go_left(booster):
    model, features = booster
    trees = BitTrees.from_lightgbm(model.dump_model())
    on = np.tile(features[:1], (len(trees.threshold), 1))
    on[np.arange(len(on)), trees.feature] = trees.threshold
    np.testing.assert_allclose(trees.predict(on), model.predict(on), rtol=1e-4, atol=1e-5)


def test_a_tree_of_one_leaf():
    model = {"tree_info": [{"tree_structure": {"leaf_value": 0.5}}]}
    assert BitTrees.from_lightgbm(model).predict(np.ones((3, 1), np.float32)).tolist() == [0.5] * 3


def test_damaged_trees_are_refused(booster):
    tensors = BitTrees.from_lightgbm(booster[0].dump_model()).tensors()
    for name, wrong in (
        ("trees.feature", tensors["trees.feature"] + 6),
        ("trees.starts", tensors["trees.starts"][::-1].copy()),
        ("trees.values", tensors["trees.values"][1:]),
        ("trees.threshold", tensors["trees.threshold"][1:]),
    ):
        with pytest.raises(ValueError, match="damaged"):
            BitTrees.from_tensors({**tensors, name: wrong}, num_features=6)
    del tensors["trees.starts"]
    with pytest.raises(KeyError):
        BitTrees.from_tensors(tensors, num_features=6)
