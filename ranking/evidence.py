"""What put a hit where it is: a source, its rank and score -> one line a person can read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """One reason for a hit.

    Attributes:
        source: what found it, `visual` or `lexical`, or judged it: `token_matching`,
            `temporal_order`, `without` (negated phrases) or `learned` (a ranker).
        rank: its rank there, from 1; None where the source does not rank.
        score: what the source said of it, in its own unit; None where it has none.
        detail: in a few words: the caption's words that matched, the second that was read.
        fraction: of the query's words that the text has, 0 to 1, weighted by rarity; None if
            unknown.
        contribution: its share of the final score, in that score's unit; None where it is unknown.
    """

    source: str
    rank: int | None = None
    score: float | None = None
    detail: str = ""
    fraction: float | None = None
    contribution: float | None = None

    def __str__(self) -> str:
        """Such as `lexical #2 7.31, 80 % of the query (caption: a dog and a frisbee) +0.016`."""
        parts = [self.source]
        if self.rank is not None:
            parts.append(f"#{self.rank}")
        if self.score is not None:
            parts.append(_number(self.score))
        if self.fraction is not None:
            parts[-1] += ","
            parts.append(f"{100 * self.fraction:.0f} % of the query")
        if self.detail:
            parts.append(f"({' '.join(self.detail.split())})")
        if self.contribution is not None:
            parts.append(f"{self.contribution:+.3f}")
        return " ".join(parts)


def explain(evidence: Sequence[Evidence]) -> str:
    """All of it in one line, what contributed most first; `no evidence` where there is none."""
    order = sorted(
        evidence,
        key=lambda each: -abs(each.contribution) if each.contribution is not None else math.inf,
    )
    return "; ".join(map(str, order)) or "no evidence"


def found_by(evidence: Sequence[Evidence]) -> str:
    """The sources that found a hit, such as `visual, lexical`; `visual` where nothing is said."""
    ranked = [each.source for each in evidence if each.rank is not None]
    return ", ".join(dict.fromkeys(ranked)) or "visual"


def _number(score: float) -> str:
    return f"{score:.3f}" if abs(score) < 1 else f"{score:.2f}"
