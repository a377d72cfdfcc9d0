"""What every recommender does: it learns from sequences, then scores all items for histories."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from reelseek.recommendation.data.sequences import Sequences

__all__ = [
    "FitSettings",
    "Progress",
    "Recommender",
    "TunableRecommender",
    "print_progress",
    "silent",
]

# Called with the fraction that is done, 0 to 1, and what is being done.
Progress: TypeAlias = Callable[[float, str], None]


class Recommender(Protocol):
    """Learns once, then answers for any user by the user's history alone: users who were not
    trained on, and events since the training, need no second training."""

    def fit(self, training: Sequences) -> None:
        """Learns from the items that users chose.

        Where items stand in no order (`training.is_ordered` is false), it learns from sets. What it
        needs to choose settings by, it cuts off from `training` itself.

        Raises:
            ValueError: there is nothing to learn from, in one line.
        """
        ...

    def scores(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Scores every item of the catalogue for each history.

        Args:
            histories: B arrays of item indices (numbers of `training.items`), the oldest first; may
                be empty, and may name items that were not trained on.

        Returns:
            `(B, num_items)` float32, more is better; no NaN, and -inf only for items that are never
            to be shown. Items of the history are scored like others: who asks masks them.
            `num_items` is that of the catalogue at the time of `fit`.
        """
        ...


@runtime_checkable
class TunableRecommender(Recommender, Protocol):
    """Chooses its settings by pairs that were held out, before it is fitted for good."""

    def tune(self, training: Sequences, validation: Sequences) -> None:
        """Chooses settings by how well what is learned from `training` finds `validation`.

        The `fit` that follows may be on the same training, or on both together.
        """
        ...

    def chosen_settings(self) -> dict[str, Any]:
        """Returns what was chosen, to be printed beside figures."""
        ...


def silent(fraction: float, text: str) -> None:
    """Shows no progress."""


def print_progress(label: str, *, every_seconds: float = 5.0) -> Progress:
    """Returns a function that prints progress with the time left on stderr, now and then."""
    started = time.monotonic()
    printed = -math.inf

    def show(fraction: float, text: str) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < every_seconds and fraction < 1:
            return
        printed = now
        # Too early, the rest cannot be told.
        left = f", {(now - started) * (1 / fraction - 1):.0f} s left" if fraction > 0.01 else ""
        print(f"{label}: {fraction:.0%} {text}{left}", file=sys.stderr, flush=True)

    return show


@dataclass(frozen=True)
class FitSettings:
    """What a recommender may use besides the sequences.

    Attributes:
        seed: of all that is drawn at random; the same seed gives the same scores.
        titles: of each item by its index, "" where unknown; None where there are no titles.
        max_seconds: that training should take at most on two cores; None for no bound.
        progress: is told how far the training is.
    """

    seed: int = 0
    titles: tuple[str, ...] | None = None
    max_seconds: float | None = None
    progress: Progress = field(default=silent, compare=False)
