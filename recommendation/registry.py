"""Names of recommenders -> what makes them; a new method is one line here."""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias

from reelseek.recommendation.recommender import FitSettings, Recommender

Factory: TypeAlias = Callable[[FitSettings], Recommender]

BASELINE_NAMES = ("popularity", "item_knn", "item_knn_recency", "ials")


def _baseline(module: str, name: str) -> Factory:
    """Imports a module when its recommender is made, as some need seconds."""

    def make(settings: FitSettings) -> Recommender:
        found = import_module(f"reelseek.recommendation.{module}")
        return getattr(found, name)(settings)

    return make


FACTORIES: dict[str, Factory] = {
    "popularity": _baseline("baselines.popularity", "Popularity"),
    "item_knn": _baseline("baselines.item_knn", "ItemKnn"),
    "item_knn_recency": _baseline("baselines.item_knn", "ItemKnnRecency"),
    "ials": _baseline("baselines.ials", "Ials"),
}


def require_libraries() -> None:
    """Raises an ImportError that names the remedy where the extra is not installed."""
    try:
        import_module("scipy.sparse")
        import_module("implicit")
    except ImportError as error:
        raise ImportError(
            "recommendation needs SciPy and implicit: pip install 'reelseek[recommend]'"
        ) from error


# What runs where no method is named.
BEST_FOR_SEQUENCES = "item_knn_recency"
BEST_FOR_SETS = "ials"
