"""A ranked list -> one without near-duplicates, whose neighbors are unlike (MMR)."""

from collections.abc import Callable

import numpy as np

__all__ = ["DiversityRule", "diversified"]


class DiversityRule:
    """How unlike the items of a list are to be.

    Attributes:
        relevance_share: of an item's score in what it is chosen by, 0 to 1; the rest is how like it
            is to the most similar item chosen before (Carbonell and Goldstein, SIGIR 1998, "The
            Use of MMR", section 2). 1 switches it off.
        duplicate_cosine: of the embeddings of two videos, from which on they are one.
        max_of_author: items of one author in any `author_window` that follow each other.
    """

    def __init__(
        self,
        relevance_share: float = 0.8,
        duplicate_cosine: float = 0.985,
        max_of_author: int = 2,
        author_window: int = 10,
    ) -> None:
        self.relevance_share = relevance_share
        self.duplicate_cosine = duplicate_cosine
        self.max_of_author = max_of_author
        self.author_window = author_window


class diversified:  # an iterator, used like a function
    """Chooses items one after the other.

    Args:
        scores: `(n,)`, 0 to 1, more is better.
        embeddings: `(n, D)`, L2-normalised.
        contents: `(n,)`, the same for copies.
        authors: `(n,)`; -1 for none.
        baseline: the cosine of videos that have nothing in common, which counts as unlike.
    """

    def __init__(
        self,
        scores: np.ndarray,
        embeddings: np.ndarray,
        *,
        contents: np.ndarray,
        authors: np.ndarray,
        rule: DiversityRule,
        baseline: float = 0.0,
    ) -> None:
        self._scores = scores.astype(np.float64)
        self._embeddings, self._contents, self._authors = embeddings, contents, authors
        self._rule, self._baseline = rule, baseline
        self._nearest = np.zeros(len(scores))  # likeness to what was chosen
        self._is_open = np.ones(len(scores), bool)
        self._chosen_authors: list[int] = []
        self.folded: dict[int, list[int]] = {}  # duplicates of what was chosen

    def leave_out_like(self, embedding: np.ndarray, content: int) -> list[int]:
        """Leaves out the copies and near-duplicates of a video that is not among the items."""
        return self._fold(self._embeddings @ embedding, content)

    def best(self, where: Callable[[np.ndarray], np.ndarray] | None = None) -> int | None:
        """Returns the item that is next; None where none is left."""
        allowed = np.flatnonzero(self._is_open & self._has_room())
        if not len(allowed):  # rather the same author again than nothing
            allowed = np.flatnonzero(self._is_open)
        if where is not None:
            allowed = where(allowed)
        if not len(allowed):
            return None
        share = self._rule.relevance_share
        gain = share * self._scores[allowed] - (1 - share) * self._nearest[allowed]
        return int(allowed[np.argmax(gain)])

    def open_items(self) -> np.ndarray:
        """Returns the items that are neither chosen nor folded."""
        return np.flatnonzero(self._is_open)

    def take(self, item: int) -> None:
        """Chooses an item, and folds its near-duplicates into it."""
        self._is_open[item] = False
        cosines = self._embeddings @ self._embeddings[item]
        self.folded[item] = self._fold(cosines, int(self._contents[item]))
        likeness = (cosines - self._baseline) / max(1e-6, 1 - self._baseline)
        author = int(self._authors[item])
        if author >= 0:
            likeness = np.where(self._authors == author, np.maximum(likeness, 0.5), likeness)
        self._nearest = np.maximum(self._nearest, np.clip(likeness, 0, 1))
        self._chosen_authors.append(author)

    def _fold(self, cosines: np.ndarray, content: int) -> list[int]:
        is_same = (cosines >= self._rule.duplicate_cosine) | (self._contents == content)
        found = np.flatnonzero(is_same & self._is_open)
        self._is_open[found] = False
        return found.tolist()

    def _has_room(self) -> np.ndarray:
        rule = self._rule
        recent = self._chosen_authors[-(rule.author_window - 1) :] if rule.author_window > 1 else []
        full = [a for a in set(recent) if a >= 0 and recent.count(a) >= rule.max_of_author]
        return ~np.isin(self._authors, full) if full else np.ones(len(self._authors), bool)
