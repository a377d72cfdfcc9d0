"""Regression trees that score a few rows in a tenth of a millisecond, in NumPy.

QuickScorer (Lucchese et al. 2015, section 3): each inner node that a row fails removes the leaves
on its left; the leaf that a row ends in is the first that is left. So all nodes of all trees are
compared at once, and no tree is walked.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

MAX_LEAVES = 24  # of a tree: float32 tells powers of two apart, and leaves are bits of an integer


@dataclass(frozen=True, eq=False)
class BitTrees:
    """Trees whose outputs are added up; a row goes left where `row[feature] <= threshold`.

    Attributes:
        starts: `(T,)` int64, the first node of each tree.
        feature: `(N,)` int32, the column that each inner node compares.
        threshold: `(N,)` float32.
        left_leaves: `(N,)` uint32, the leaves that remain for a row that goes right: a bit each,
            the leftmost is the lowest.
        values: `(T, MAX_LEAVES)` float32, the outputs of the leaves.
    """

    starts: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left_leaves: np.ndarray
    values: np.ndarray

    @classmethod
    def from_lightgbm(cls, model: dict[str, Any]) -> "BitTrees":
        """Converts what `Booster.dump_model` returns; columns may hold no missing values."""
        starts: list[int] = []
        nodes: list[tuple[int, float, int]] = []
        values: list[list[float]] = []
        for tree in model["tree_info"]:
            leaves: list[float] = []
            own: list[tuple[int, float, int]] = []
            _collect(tree["tree_structure"], leaves, own)
            if len(leaves) > MAX_LEAVES:
                raise ValueError(f"a tree has {len(leaves)} leaves; at most {MAX_LEAVES} fit")
            if not own:  # a tree of one leaf: a node that no row fails
                own = [(0, np.inf, (1 << MAX_LEAVES) - 1)]
            starts.append(len(nodes))
            nodes += own
            values.append(leaves + [0.0] * (MAX_LEAVES - len(leaves)))
        feature, threshold, masks = zip(*nodes, strict=True)
        return cls(
            np.array(starts, np.int64),
            np.array(feature, np.int32),
            np.array(threshold, np.float32),
            np.array(masks, np.uint32),
            np.array(values, np.float32),
        )

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], *, num_features: int) -> "BitTrees":
        """Checks what `tensors` made.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays are no trees over so many features.
        """
        trees = cls(**{each.name: tensors[f"trees.{each.name}"] for each in fields(cls)})
        num_nodes = len(trees.feature)
        if (
            not len(trees.starts)
            or trees.starts[0] != 0
            or (np.diff(trees.starts) <= 0).any()
            or trees.starts[-1] >= num_nodes
            or len(trees.threshold) != num_nodes
            or len(trees.left_leaves) != num_nodes
            or trees.values.shape != (len(trees.starts), MAX_LEAVES)
            or not 0 <= trees.feature.min() <= trees.feature.max() < num_features
        ):
            raise ValueError("its trees are damaged")
        return trees

    def tensors(self) -> dict[str, np.ndarray]:
        return {f"trees.{each.name}": getattr(self, each.name) for each in fields(self)}

    def predict(self, features: np.ndarray) -> np.ndarray:
        """`(n, F)` float32 -> `(n,)` float32."""
        columns = np.ascontiguousarray(features.T)
        goes_right = columns.take(self.feature, axis=0) > self.threshold[:, None]
        remaining = np.where(goes_right, self.left_leaves[:, None], np.uint32(0xFFFFFFFF))
        leaves = np.bitwise_and.reduceat(remaining, self.starts, axis=0)
        lowest = leaves & (~leaves + np.uint32(1))
        # A power of two is exact in float32, whose exponent (biased by 127) is then the leaf.
        place = (lowest.astype(np.float32).view(np.int32) >> 23) - 127
        of_tree = np.arange(0, self.values.size, MAX_LEAVES)[:, None]
        return self.values.take(np.clip(place, 0, MAX_LEAVES - 1) + of_tree).sum(axis=0)


def _collect(
    node: dict[str, Any], leaves: list[float], nodes: list[tuple[int, float, int]]
) -> None:
    """Adds a tree's leaves from left to right, and its inner nodes."""
    if "leaf_value" in node:
        leaves.append(float(node["leaf_value"]))
        return
    first = len(leaves)
    _collect(node["left_child"], leaves, nodes)
    on_left = ((1 << len(leaves)) - 1) ^ ((1 << first) - 1)
    _collect(node["right_child"], leaves, nodes)
    threshold = _at_most(float(node["threshold"]))
    nodes.append((node["split_feature"], threshold, 0xFFFFFFFF ^ on_left))


def _at_most(threshold: float) -> float:
    """The largest float32 up to a float64, so that float32 values compare as before."""
    nearest = np.float32(threshold)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest) if float(nearest) <= threshold else float(below)
