"""A user's taste -> a feed: candidates, ranked, then by the rules.

- What the user has seen is left out, with its copies.
- No two near-duplicates; neighbors are unlike (MMR), and an author has two of ten places at most.
- Each so-many-th place explores: with a stated probability it shows a video drawn evenly from the
  other candidates. The probability with which each place shows what it shows, given the places
  before it, is the `propensity` that impressions are logged with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import Content
from reelseek.recommendation.diversity import DiversityRule, diversified
from reelseek.recommendation.feed.candidates import Candidates, CandidateTable, Source, Taste
from reelseek.recommendation.feed.ranker import FeedWeights, rank

__all__ = ["Feed", "FeedSettings", "FeedVideo", "Seen"]

Personal = Callable[[np.ndarray], tuple[np.ndarray, Sequence[Sequence[str]]]]
REASONS = {
    "co_watch": "watched by people who watched the same",
    "factors": "watched by people of like taste",
    "sequence": "often follows what you watched",
    "content": "looks like what you watched",
    "popularity": "popular lately",
    "freshness": "new",
    "personal": "like what you often watch",
    "explored": "something else",
}
_NUM_CHOSEN_FROM = 120  # the best, whose embeddings are compared


@dataclass(frozen=True)
class FeedSettings:
    """
    Attributes:
        weights: of the ranker.
        diversity: of the list.
        explore_probability: of a place that explores, to show a video drawn at random.
        explore_every: each so-many-th place explores.
        num_explored: videos that are drawn from.
        seen_again_factor: of the score of a video that may come again.
    """

    weights: FeedWeights = field(default_factory=FeedWeights)
    diversity: DiversityRule = field(default_factory=lambda: DiversityRule(relevance_share=0.7))
    explore_probability: float = 0.1
    explore_every: int = 5
    num_explored: int = 50
    seen_again_factor: float = 0.5


@dataclass(frozen=True, eq=False)
class Seen:
    """What a user has seen.

    Attributes:
        rows: of videos that may not be shown.
        again: of videos that were seen so long ago that they may come again.
        shown: how often videos were shown, by row.
    """

    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    again: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    shown: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FeedVideo:
    """
    Attributes:
        row: of the catalogue.
        propensity: the probability with which this place shows it, given those before.
        is_explored: whether it was drawn at random.
        reasons: for people.
        parts: what the score is made of, by source.
    """

    row: int
    score: float
    propensity: float
    is_explored: bool
    reasons: tuple[str, ...]
    parts: dict[str, float]


class Feed:
    """Threads may share it.

    Attributes:
        catalogue: whose rows it answers with.
    """

    def __init__(
        self,
        catalogue: ItemCatalogue,
        content: Content,
        settings: FeedSettings | None = None,
        sources: Mapping[str, Source] | None = None,
    ) -> None:
        self.catalogue = self._catalogue = catalogue
        self._content = content
        self._settings = settings or FeedSettings()
        self._candidates = Candidates(catalogue, content, dict(sources or {}))

    def answer(
        self,
        taste: Taste,
        seen: Seen,
        k: int,
        *,
        now_seconds: float,
        rng: np.random.Generator,
        uses_models: bool = True,
        personal: Personal | None = None,
    ) -> list[FeedVideo]:
        """Returns at most k videos that the user has not seen, the best first.

        Args:
            rng: draws what is explored.
            uses_models: whether sources that were learned from others are asked.
            personal: gives, for rows, how much the user is for each, -1 to 1, and reasons.
        """
        gathered = self._candidates.gather(taste, now_seconds=now_seconds, uses_models=uses_models)
        table = self._unseen(gathered, seen)
        if len(table.rows) < k:  # the sources name what the user knows: the rest of the catalogue
            table = self._unseen(self._filled(table, seen, k), seen)
        shown = np.array([seen.shown.get(row, 0) for row in table.rows.tolist()])
        liking, reasons = (None, None) if personal is None else personal(table.rows)
        scores, parts = rank(table, self._settings.weights, shown=shown, personal=liking)
        is_again = np.isin(table.rows, seen.again)
        scores = np.where(is_again, self._settings.seen_again_factor * scores - 1, scores)
        kept = np.argsort(-scores, kind="stable")[: max(_NUM_CHOSEN_FROM, 2 * k)]
        return self._chosen(
            table.rows[kept],
            scores[kept],
            {name: values[kept] for name, values in parts.items()},
            k=k,
            rng=rng,
            personal_reasons=[reasons[item] if reasons else () for item in kept.tolist()],
        )

    def _unseen(self, table: CandidateTable, seen: Seen) -> CandidateTable:
        """Leaves out what was seen, and its copies."""
        contents = self._catalogue.contents
        is_seen = np.isin(table.rows, seen.rows) | np.isin(
            contents[table.rows], contents[seen.rows]
        )
        kept = ~is_seen
        scores = {name: values[kept] for name, values in table.scores.items()}
        return CandidateTable(table.rows[kept], scores)

    def _filled(self, table: CandidateTable, seen: Seen, k: int) -> CandidateTable:
        """Adds videos that no source names, and those that were seen long ago."""
        num = len(self._catalogue)
        some = np.arange(min(num, k + len(seen.rows) + len(table.rows) + _NUM_CHOSEN_FROM))
        rows = np.unique(np.concatenate([table.rows, some, seen.again]))
        at = np.searchsorted(rows, table.rows)
        scores = {}
        for name, values in table.scores.items():
            scores[name] = np.zeros(len(rows))
            scores[name][at] = values
        return CandidateTable(rows, scores)

    def _chosen(
        self,
        rows: np.ndarray,
        scores: np.ndarray,
        parts: dict[str, np.ndarray],
        *,
        k: int,
        rng: np.random.Generator,
        personal_reasons: Sequence[Sequence[str]],
    ) -> list[FeedVideo]:
        if not len(rows):
            return []
        spread = float(scores.max() - scores.min())
        choosing = diversified(
            (scores - scores.min()) / spread if spread > 0 else np.ones(len(scores)),
            self._content.embeddings(rows),
            contents=self._catalogue.contents[rows],
            authors=self._catalogue.authors[rows],
            rule=self._settings.diversity,
            baseline=self._content.baseline,
        )
        found: list[FeedVideo] = []
        while len(found) < k and (best := choosing.best()) is not None:
            explores = (len(found) + 1) % self._settings.explore_every == 0
            item, propensity = (
                self._drawn(choosing.open_items, best, rng) if explores else (best, 1.0)
            )
            choosing.take(item)
            own = {name: round(float(values[item]), 4) for name, values in parts.items()}
            is_explored = item != best
            found.append(
                FeedVideo(
                    row=int(rows[item]),
                    score=round(float(scores[item]), 4),
                    propensity=propensity,
                    is_explored=is_explored,
                    reasons=(REASONS["explored"],)
                    if is_explored
                    else _reasons(own, personal_reasons[item]),
                    parts=own,
                )
            )
        return found

    def _drawn(
        self, open_items: Callable[[], np.ndarray], best: int, rng: np.random.Generator
    ) -> tuple[int, float]:
        """Draws the item of a place that explores; returns it with its probability.

        Of the open items the best `num_explored` by score are drawn from evenly, the best one of
        the list among them.
        """
        epsilon = self._settings.explore_probability
        pool = open_items()[: self._settings.num_explored]
        if best not in pool:
            pool = np.append(pool, best)
        even = epsilon / len(pool)
        item = int(rng.choice(pool)) if rng.random() < epsilon else best
        return item, even + (1 - epsilon if item == best else 0.0)


def _reasons(parts: dict[str, float], personal: Sequence[str]) -> tuple[str, ...]:
    best = sorted(parts.items(), key=lambda pair: -pair[1])
    total = sum(value for value in parts.values() if value > 0)
    said = {**REASONS, "personal": personal[0]} if personal else REASONS
    telling = [said[name] for name, value in best if value > 0 and value >= 0.25 * total]
    return tuple(telling[:2]) or (REASONS["explored"],)
