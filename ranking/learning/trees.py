"""LightGBM's trees as arrays, and features -> scores by a walk in NumPy.

All trees share one table of nodes. Each node comes after its parent, so every walk ends: that is
the whole check that a file from elsewhere needs.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Trees:
    """Binary regression trees whose outputs are added up.

    A node sends a row left where `row[feature] <= threshold`, and a missing value (NaN) left where
    `nan_left`. A leaf is its own left and right child.

    Attributes:
        roots: `(T,)` int32, the first node of each tree.
        feature: `(N,)` int32, the column that each node compares; 0 for a leaf.
        threshold: `(N,)` float64; 0 for a leaf.
        nan_left: `(N,)` bool.
        left: `(N,)` int32, the child for rows at or below the threshold.
        right: `(N,)` int32, the child for the others.
        value: `(N,)` float64, the output of a leaf; 0 elsewhere.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    nan_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def from_lightgbm(cls, model: dict[str, Any]) -> "Trees":
        """Converts what `Booster.dump_model` returns.

        Raises:
            ValueError: a tree splits by categories, or takes zeros for missing values.
        """
        rows: list[list[Any]] = []
        roots = [_append_node(tree["tree_structure"], rows) for tree in model["tree_info"]]
        columns = zip(*rows, strict=True)
        return cls(
            np.array(roots, np.int32),
            *(np.array(c, dtype) for c, dtype in zip(columns, _NODE_TYPES, strict=True)),
        )

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], *, num_features: int) -> "Trees":
        """Checks that the arrays are trees over so many features and can be walked.

        Raises:
            KeyError: an array is missing.
            ValueError: names the array that is wrong.
        """
        trees = cls(**{field.name: tensors[field.name] for field in fields(cls)})
        num_nodes = trees.feature.size
        for name, dtype in zip(_NODE_NAMES, _NODE_TYPES, strict=True):
            array = getattr(trees, name)
            if array.dtype != dtype or array.shape != (num_nodes,):
                raise ValueError(f"its {name} is {array.dtype} {array.shape}")
        roots, own = trees.roots, np.arange(num_nodes)
        if roots.dtype != np.int32 or roots.ndim != 1 or not len(roots):
            raise ValueError(f"its roots is {roots.dtype} {roots.shape}")
        if not ((roots >= 0) & (roots < num_nodes)).all():
            raise ValueError("its roots name nodes that are not there")
        if not ((trees.feature >= 0) & (trees.feature < num_features)).all():
            raise ValueError(f"its feature names a column beyond its {num_features} features")
        if not (np.isfinite(trees.value).all() and not np.isnan(trees.threshold).any()):
            raise ValueError("its value or threshold is not finite")
        is_leaf = (trees.left == own) & (trees.right == own)
        for name, child in (("left", trees.left), ("right", trees.right)):
            if not (is_leaf | ((child > own) & (child < num_nodes))).all():
                raise ValueError(f"its {name} names a node that does not come after its parent")
        return trees

    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by name, as `from_tensors` takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def predict(self, features: np.ndarray) -> np.ndarray:
        """`(n, F)` -> `(n,)` float64, to the last bit as LightGBM predicts, which takes magnitudes
        up to 1e-35 for 0."""
        # As float64, which thresholds are; a feature a row, so that picking many copies whole rows.
        columns = np.ascontiguousarray(np.asarray(features, np.float64).T)
        is_below = columns[self.feature] <= self.threshold[:, None]
        is_missing = np.isnan(columns)[self.feature] & self.nan_left[:, None]

        # `(N, n)`, where each row goes from each node: the walk itself only looks it up.
        following = np.where(is_below | is_missing, self.left[:, None], self.right[:, None])
        node = np.broadcast_to(self.roots[:, None], (len(self.roots), len(features)))
        while True:
            before, node = node, np.take_along_axis(following, node, axis=0)
            if np.array_equal(before, node):  # every row is in a leaf of every tree
                break
        # LightGBM adds tree after tree; `sum` might add in pairs, which rounds differently.
        return self.value[node].cumsum(axis=0)[-1]


_NODE_NAMES = ("feature", "threshold", "nan_left", "left", "right", "value")
_NODE_TYPES = (np.int32, np.float64, np.bool_, np.int32, np.int32, np.float64)


def _append_node(node: dict[str, Any], rows: list[list[Any]]) -> int:
    """Appends a node of `dump_model` and all below it; returns its place in the table."""
    own = len(rows)
    if "leaf_value" in node:
        rows.append([0, 0.0, False, own, own, node["leaf_value"]])
        return own
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise ValueError(
            f"a tree decides by {node['decision_type']!r} with missing {node['missing_type']}: "
            "must be '<=' with missing NaN or None"
        )
    # Where training saw no missing value, LightGBM takes NaN for 0.
    treats_as_zero = node["missing_type"] == "None"
    nan_left = node["threshold"] >= 0 if treats_as_zero else node["default_left"]
    rows.append([node["split_feature"], node["threshold"], nan_left, own, own, 0.0])
    rows[own][3] = _append_node(node["left_child"], rows)
    rows[own][4] = _append_node(node["right_child"], rows)
    return own
