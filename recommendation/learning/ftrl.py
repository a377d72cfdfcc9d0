"""FTRL-proximal: one learning rate for each weight (McMahan et al., KDD 2013, algorithm 1)."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Rates", "gradient_step", "weights_of"]


@dataclass(frozen=True)
class Rates:
    """Settings of the method; each a number, or an array that broadcasts with the weights.

    Attributes:
        alpha: the learning rate's numerator.
        beta: how slowly it falls at first.
        l1, l2: strength of both regularisations.
    """

    alpha: float | np.ndarray
    beta: float | np.ndarray = 1.0
    l1: float | np.ndarray = 0.0
    l2: float | np.ndarray = 0.0


def weights_of(z: np.ndarray, n: np.ndarray, rates: Rates) -> np.ndarray:
    """Returns the weights of the state `z`, `n`; 0 where |z| is at most `l1`."""
    shrunk = np.sign(z) * np.maximum(np.abs(z) - rates.l1, 0.0)
    return -shrunk / ((rates.beta + np.sqrt(n)) / rates.alpha + rates.l2)


def gradient_step(
    z: np.ndarray,
    n: np.ndarray,
    *,
    gradient: np.ndarray,
    squared: np.ndarray,
    weights: np.ndarray,
    rates: Rates,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the state after a step.

    Args:
        gradient: the sum of the gradients of the step's examples.
        squared: the sum of their squares; with one example, the square of `gradient`.
        weights: as `weights_of` gives them for the state before.
    """
    grown = n + squared
    sigma = (np.sqrt(grown) - np.sqrt(n)) / rates.alpha
    return z + gradient - sigma * weights, grown
