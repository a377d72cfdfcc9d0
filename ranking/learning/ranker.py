"""Features of candidates, and how relevant each is -> a ranker that learned from them.

The ranker is LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART: An Overview",
section 7), LightGBM's.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.store.atomic import write_atomically
from reelseek.ranking.learning.features import FEATURE_NAMES
from reelseek.ranking.learning.trees import Trees

_TREES_NAME = "ranker.safetensors"
_CONFIG_NAME = "ranker.json"
_FORMAT = 2  # 1 was LightGBM's own text
# Small trees and strong regularisation, for judged queries are few.
_PARAMETERS = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [10],
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_PATIENCE_ROUNDS = 30
_MIN_HELD_OUT = 5  # queries; fewer would stop the training at random
_ROUNDS_WITHOUT_STOPPING = 100


def ndcg(relevance: Sequence[float] | np.ndarray, *, k: int = 10, judged: Any = None) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), with gains of
    2^relevance - 1 (Burges et al. 2005).

    Args:
        relevance: `(n,)`, at least 0, of the hits in the order of their ranks.
        k: how many of them are looked at, at least 1.
        judged: the relevance of everything that could have been found; default: of `relevance`.

    Returns:
        0 to 1; NaN where nothing is relevant: leave such queries out of a mean.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    ideal = np.sort(np.asarray(relevance if judged is None else judged, dtype=np.float64))[::-1]
    best = _dcg(ideal[:k])
    return _dcg(np.asarray(relevance, dtype=np.float64)[:k]) / best if best > 0 else float("nan")


def _dcg(relevance: np.ndarray) -> float:
    return float(((2**relevance - 1) / np.log2(np.arange(len(relevance)) + 2)).sum())


class LearnedRanker:
    """A trained ranker; `train_ranker` and `load` make one. Searching needs no LightGBM.

    Args:
        trees: over the features.
        feature_names: the columns that the trees were trained on.
    """

    def __init__(self, trees: Trees, feature_names: Sequence[str]) -> None:
        self._trees = trees
        self.feature_names = tuple(feature_names)

    @property
    def num_trees(self) -> int:
        return len(self._trees.roots)

    def score(self, features: np.ndarray) -> np.ndarray:
        """`(n, F)` -> `(n,)` float64; higher is better, within a query.

        Raises:
            ValueError: another number of features.
        """
        if not len(features):
            return np.empty(0)
        if features.ndim != 2 or features.shape[1] != len(self.feature_names):
            raise ValueError(
                f"features is {features.shape}: must be (n, {len(self.feature_names)}), the "
                "features that the ranker was trained on"
            )
        return self._trees.predict(features)

    def save(self, folder: Path) -> None:
        """Writes `ranker.safetensors` and `ranker.json` into a folder, made if missing.

        The description, with the trees' checksum, comes last.
        """
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        content = save(self._trees.tensors())
        write_atomically(folder / _TREES_NAME, content)
        config = {
            "format": _FORMAT,
            "feature_names": list(self.feature_names),
            "crc32": zlib.crc32(content),
        }
        write_atomically(folder / _CONFIG_NAME, (json.dumps(config, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "LearnedRanker":
        """Reads what `save` wrote; runs nothing in it.

        Raises:
            ValueError: missing or damaged, saved by an older version, or trained on features that
                are not known here.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            names, checksum = _read_description(folder / _CONFIG_NAME)
            content = (folder / _TREES_NAME).read_bytes()
            if zlib.crc32(content) != checksum:
                raise ValueError("the checksum of its trees is wrong")
            return cls(Trees.from_tensors(load(content), num_features=len(names)), names)
        except (OSError, KeyError, RecursionError, ValueError, SafetensorError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            if isinstance(error, KeyError):
                reason = f"it lacks {error.args[0]}"
            raise ValueError(
                f"ranker={folder}: holds no ranker that can be read ({reason}); train it again"
            ) from error


def _read_description(path: Path) -> tuple[list[str], int]:
    """The names of the features, and the checksum of the trees."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("format") not in range(1, _FORMAT + 1):
        raise ValueError(f"its description is not of format {_FORMAT}")
    if config["format"] < _FORMAT:
        raise ValueError("an older version of reelseek saved it")
    names = config["feature_names"]
    if not isinstance(names, list) or not set(map(str, names)) <= set(FEATURE_NAMES):
        raise ValueError("it was trained on features that are not known here")
    return names, config["crc32"]


def train_ranker(
    features: np.ndarray,
    relevance: np.ndarray,
    *,
    groups: np.ndarray,
    feature_names: Sequence[str] = FEATURE_NAMES,
    held_out_fraction: float = 0.2,
    max_rounds: int = 500,
    seed: int = 0,
) -> LearnedRanker:
    """Trains until the NDCG@10 of held-out queries no longer gains, and returns the best state.

    The same data and seed give the same ranker.

    Args:
        features: `(n, F)`, NaN for a missing value; one row for each candidate that was judged.
        relevance: `(n,)` int, 0 to 30; 4 for a perfect match.
        groups: `(n,)` int, which query each row belongs to.
        feature_names: of the columns.
        held_out_fraction: of the queries, 0 to less than 1; where it makes fewer than five, all are
            trained on, for 100 rounds at most.
        max_rounds: trees at most.
        seed: of the held-out queries, and of the training.

    Raises:
        ValueError: shapes that do not fit, values out of range, or no query with candidates of
            different relevance.
        ImportError: LightGBM is not installed.
    """
    features = np.asarray(features, dtype=np.float32)
    relevance, groups = np.asarray(relevance), np.asarray(groups)
    _check_judged(features, relevance, groups, feature_names)
    if not 0 <= held_out_fraction < 1:
        raise ValueError(f"held_out_fraction={held_out_fraction}: must be 0 to less than 1")
    order = np.argsort(groups, kind="stable")
    features, relevance, groups = features[order], relevance[order], groups[order]
    is_held_out = _held_out(groups, held_out_fraction, seed=seed)
    if not is_held_out.any():
        max_rounds = min(max_rounds, _ROUNDS_WITHOUT_STOPPING)

    lightgbm = require_lightgbm()
    train, held_out = (
        lightgbm.Dataset(
            features[rows],
            label=relevance[rows],
            group=np.unique(groups[rows], return_counts=True)[1],
            feature_name=list(feature_names),
        )
        for rows in (~is_held_out, is_held_out)
    )
    early_stopping = {}
    if is_held_out.any():
        callback = lightgbm.early_stopping(_PATIENCE_ROUNDS, verbose=False)
        early_stopping = {"valid_sets": [held_out], "callbacks": [callback]}
    booster = lightgbm.train(
        {**_PARAMETERS, "seed": seed, "num_threads": 1},
        train,
        num_boost_round=max_rounds,
        **early_stopping,
    )
    best = booster.best_iteration if early_stopping else -1
    return LearnedRanker(Trees.from_lightgbm(booster.dump_model(num_iteration=best)), feature_names)


def _held_out(groups: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """`(n,)` bool: the rows of queries that tell when to stop; none where these would be few."""
    different = np.unique(groups)
    num_held_out = int(fraction * len(different))
    if num_held_out < _MIN_HELD_OUT:
        return np.zeros(len(groups), bool)
    return np.isin(groups, np.random.default_rng(seed).permutation(different)[:num_held_out])


def _check_judged(
    features: np.ndarray, relevance: np.ndarray, groups: np.ndarray, names: Sequence[str]
) -> None:
    if features.ndim != 2 or features.shape[1] != len(names):
        raise ValueError(f"features is {features.shape}: must be (n, {len(names)}), as named")
    for name, values in (("relevance", relevance), ("groups", groups)):
        if values.shape != (len(features),) or values.dtype.kind not in "iu":
            raise ValueError(
                f"{name} is {values.shape} of {values.dtype}: must be ({len(features)},) whole "
                "numbers"
            )
    if len(relevance) and (relevance.min() < 0 or relevance.max() > 30):
        raise ValueError("relevance is out of range: must be 0 to 30")
    if np.isinf(features).any():
        raise ValueError("features hold infinite values: give NaN for a missing value")
    pairs = np.unique(np.stack([groups, relevance]), axis=1)
    if len(np.unique(pairs[0])) == pairs.shape[1]:
        raise ValueError(
            "no query has candidates of different relevance: there is no order to learn; judge "
            "more candidates of each query, wrong ones too"
        )


def require_lightgbm() -> Any:
    """LightGBM's module.

    Raises:
        ImportError: it is not installed; the remedy is named.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError(
            "the learned ranker needs LightGBM: pip install 'reelseek[ranker]'"
        ) from error
    return lightgbm
