"""The text of a LightGBM model -> that it is one whose trees can be walked.

LightGBM trusts the text that it reads: a tree that names a child that is not there makes it read
other memory. So every tree is looked at first.
"""

import math
import re
from itertools import pairwise

_HEADER = (
    "version num_class num_tree_per_iteration label_index max_feature_idx objective "
    "feature_names feature_infos tree_sizes"
).split()
# Of each node that splits, and of each leaf.
_OF_NODES = (
    "split_feature split_gain threshold decision_type left_child right_child "
    "internal_value internal_weight internal_count"
).split()
_OF_LEAVES = "leaf_value leaf_weight leaf_count".split()
_WHOLE = "split_feature decision_type left_child right_child internal_count leaf_count".split()
_SINGLE = {"num_leaves", "num_cat", "is_linear", "shrinkage"}
_CATEGORICAL = 1  # a bit of decision_type
_END = "end of trees"
# LightGBM ends the process where it cannot read one.
_NUMBER = re.compile(r"-?([0-9]{1,30}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,4})?|inf|nan)")
_RANGE = re.compile(rf"none|\[{_NUMBER.pattern}:{_NUMBER.pattern}\]")
_MAX_LEAVES = 1 << 16


def trees_alone(text: str) -> str:
    """A model's text up to the end of its trees: what follows says how it was trained."""
    return text[: text.index(_END)] + _END + "\n"


def check_model_text(text: str, *, num_features: int) -> None:
    """Whether LightGBM can read and walk it: a ranker of numerical features, as `trees_alone`
    leaves it.

    Raises:
        ValueError: what is wrong with it, without the file's name.
    """
    if not text.endswith(f"\n{_END}\n"):
        raise ValueError("its trees have no end")
    positions = _tree_places(text)
    header = _values(text[: positions[0]].removeprefix("tree\n"))
    if text[:5] != "tree\n" or list(header) != _HEADER:
        raise ValueError("its header is not that of a ranker")
    if header["num_class"] != "1" or header["num_tree_per_iteration"] != "1":
        raise ValueError("it has several scores")
    for name in ("feature_names", "feature_infos"):
        if len(header[name].split()) != num_features:
            raise ValueError(f"it has not {num_features} {name}")
    if not all(_RANGE.fullmatch(each) for each in header["feature_infos"].split()):
        raise ValueError("its feature_infos are no ranges")
    if header["objective"] != "lambdarank" or header["label_index"] != "0":
        raise ValueError("it is not trained to rank")
    if header["max_feature_idx"] != str(num_features - 1):
        raise ValueError(f"its features are not {num_features}")
    sizes = [str(end - start) for start, end in pairwise(positions)]
    if header["tree_sizes"].split() != sizes:
        raise ValueError("its trees are not as long as it says")
    for number, (start, end) in enumerate(pairwise(positions)):
        tree = _values(text[start:end])
        if tree.pop("Tree", None) != str(number):
            raise ValueError(f"tree {number} is missing")
        _check_tree(tree, number=number, num_features=num_features)


def _tree_places(text: str) -> list[int]:
    """Where each tree starts, and where the last one ends."""
    positions = []
    position = text.find("\nTree=")
    while position >= 0:
        positions.append(position + 1)
        position = text.find("\nTree=", position + 1)
    if not positions:
        raise ValueError("it has no trees")
    return [*positions, len(text) - len(_END) - 1]


def _values(block: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in filter(None, block.split("\n")):
        name, _, value = line.partition("=")
        if name in values:
            raise ValueError(f"it says {name[:30]} twice")
        values[name] = value
    return values


def _check_tree(tree: dict[str, str], *, number: int, num_features: int) -> None:
    num_leaves = _whole(tree.get("num_leaves", ""), f"tree {number}: num_leaves")
    if not 1 <= num_leaves <= _MAX_LEAVES:
        raise ValueError(f"tree {number} has {num_leaves} leaves")
    if set(tree) != {*_OF_NODES, *_OF_LEAVES, *_SINGLE}:
        raise ValueError(f"tree {number} is not described as it should be")
    if tree["num_cat"] != "0" or tree["is_linear"] != "0":
        raise ValueError(f"tree {number} is of a kind that is not used here")
    columns = {name: tree[name].split() for name in (*_OF_NODES, *_OF_LEAVES)}
    for name, column in columns.items():
        # A tree that is one leaf has nothing to say of its weight and count.
        is_single = num_leaves == 1 and name in ("leaf_weight", "leaf_count") and not column
        if len(column) != (num_leaves if name in _OF_LEAVES else num_leaves - 1) and not is_single:
            raise ValueError(f"tree {number}: {name} has {len(column)} values")
    for name, column in columns.items():
        if not all(_NUMBER.fullmatch(value) for value in column):
            raise ValueError(f"tree {number}: {name} is no number")
    if not all(math.isfinite(float(value)) for value in columns["leaf_value"]):
        raise ValueError(f"tree {number}: leaf_value is not finite")
    if not _NUMBER.fullmatch(tree["shrinkage"]):
        raise ValueError(f"tree {number}: shrinkage is no number")
    whole = {
        name: [_whole(value, f"tree {number}: {name}") for value in columns[name]]
        for name in _WHOLE
    }
    if not all(0 <= feature < num_features for feature in whole["split_feature"]):
        raise ValueError(f"tree {number} splits by a feature that there is not")
    if not all(0 <= kind < 16 and not kind & _CATEGORICAL for kind in whole["decision_type"]):
        raise ValueError(f"tree {number} decides in a way that is not used here")
    children = [*whole["left_child"], *whole["right_child"]]
    # Each node but the root, and each leaf (~leaf), is the child of one node, and nodes come after
    # their parents: so there are no circles.
    everything = [*range(-num_leaves, 0), *range(1, num_leaves - 1)]
    if num_leaves > 1 and sorted(children) != everything:
        raise ValueError(f"tree {number} does not hang together")
    nodes = range(num_leaves - 1)
    for side in ("left_child", "right_child"):
        for node, child in zip(nodes, whole[side], strict=True):
            if 0 <= child <= node:
                raise ValueError(f"tree {number} does not hang together")


def _whole(value: str, name: str) -> int:
    try:
        if len(value) > 10 or not re.fullmatch("-?[0-9]+", value):
            raise ValueError
        return int(value)
    except ValueError:
        raise ValueError(f"{name} is no whole number") from None
