"""Implicit alternating least squares, by the library `implicit`.

Hu, Koren and Volinsky, ICDM 2008, "Collaborative Filtering for Implicit Feedback Datasets",
section 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["AlsSettings", "fit_als"]


@dataclass(frozen=True)
class AlsSettings:
    """
    Attributes:
        num_factors: of each user and item.
        regularization: of the squares of the factors.
        alpha: how much more a choice counts than none.
        iterations: of the training.
    """

    num_factors: int = 32
    regularization: float = 0.01
    alpha: float = 10.0
    iterations: int = 15


def fit_als(
    choices: "csr_matrix",
    settings: AlsSettings,
    *,
    seed: int,
    progress: Callable[[float], None],
) -> Any:
    """Returns the library's model, fitted.

    Args:
        choices: `(num_users, num_items)` float32, 1 where a user chose an item.
        progress: is told the fraction that is done.

    Raises:
        ImportError: the library is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("factors need implicit: pip install 'reelseek[recommend]'") from error
    # Threads of BLAS would fight with those of the library for the cores.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=settings.num_factors,
            regularization=settings.regularization,
            alpha=settings.alpha,
            iterations=settings.iterations,
            random_state=seed,
        )
        model.fit(
            choices,
            show_progress=False,
            callback=lambda number, *_: progress((number + 1) / settings.iterations),
        )
    return model
