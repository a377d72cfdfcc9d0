"""Lets an approximate tower encode only while it agrees with the exact one on a user's frames."""

import logging
import threading
from collections.abc import Callable

import torch
from torch.nn import functional as F

logger = logging.getLogger(__name__)

Tower = Callable[[torch.Tensor], torch.Tensor]

MIN_COSINE = 0.985
_MIN_FRACTION = 0.95  # of frames: a black one has an embedding of rounding errors alone
_CHECKED_FRAMES = 64


class SelfCheckedTower:
    """Encodes the first frames with both towers, and all others with the one that they choose.

    Returns the exact tower's embeddings of the first frames. Threads may share it.

    Args:
        approximate: Used if the embeddings of 95 % of the first frames have a cosine of at least
            0.985 with the exact ones.
        exact: Used otherwise, which is logged once.
        name: Of the approximate tower, for the log.

    Attributes:
        is_rejected: Whether the exact tower was chosen.
    """

    def __init__(self, approximate: Tower, exact: Tower, *, name: str) -> None:
        self._approximate: Tower | None = approximate
        self._exact: Tower | None = exact
        self._name = name
        self.is_rejected = False
        self._cosines = torch.empty(0)
        self._lock = threading.Lock()
        self._chosen: Tower | None = None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        with self._lock:
            chosen, approximate, exact = self._chosen, self._approximate, self._exact
        if chosen is not None:
            return chosen(pixels)
        assert approximate is not None and exact is not None
        embeddings = exact(pixels)
        cosines = F.cosine_similarity(embeddings, approximate(pixels), dim=-1)
        with self._lock:
            self._cosines = torch.cat([self._cosines, cosines])
            if self._chosen is None and len(self._cosines) >= _CHECKED_FRAMES:
                self._choose(approximate, exact)
        return embeddings

    def _choose(self, approximate: Tower, exact: Tower) -> None:
        fraction = float((self._cosines >= MIN_COSINE).float().mean())
        self.is_rejected = not fraction >= _MIN_FRACTION
        self._chosen = exact if self.is_rejected else approximate
        if self.is_rejected:
            logger.warning(
                "precision=%s is not used: only %.0f %% of the first %d frames keep a cosine of %s",
                self._name, 100 * fraction, len(self._cosines), MIN_COSINE,
            )  # fmt: skip
        self._approximate = self._exact = None  # frees the other tower
