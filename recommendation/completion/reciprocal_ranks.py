"""Lists of completions -> MRR@10."""

from collections import defaultdict
from collections.abc import Sequence

K = 10


class ReciprocalRanks:
    """Adds up `weight / rank`, 0 where the answer is not among the first `K`."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._weights: dict[str, float] = defaultdict(float)
        self.num_asked = 0

    def add(self, answer: str, found: Sequence[str], weight: float, *, group: str) -> None:
        """Args: group: under which `means` gives it, such as the number of letters."""
        shown = found[:K]
        if answer in shown:
            self._sums[group] += weight / (shown.index(answer) + 1)
        self._weights[group] += weight
        self.num_asked += 1

    def mean(self) -> float:
        total = sum(self._weights.values())
        return sum(self._sums.values()) / total if total else 0.0

    def means(self) -> dict[str, float]:
        return {
            group: self._sums[group] / weight
            for group, weight in sorted(self._weights.items())
            if weight
        }
