"""A video -> related ones: by what the same people watch as far as that is known, else by content.

Of a video that n people watched, the people count `n / (n + confidence_watchers)` and the content
the rest: content alone for a video that nobody has watched, mostly people for one that many have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import Content
from reelseek.recommendation.diversity import DiversityRule, diversified

__all__ = ["RelatedFinder", "RelatedSettings", "RelatedVideo", "Together"]

PEOPLE, LOOKS, WORDS, TAGS = (
    *("watched by the same people", "looks alike", "similar words"),
    "same tags",
)
_MIN_REASON = 0.25  # of a score, from which on a part of it is a reason


@dataclass(frozen=True)
class RelatedSettings:
    """
    Attributes:
        num_candidates: from each source.
        confidence_watchers: of a video, at which people and content count the same.
        looks, words, tags: how much each counts in the content.
    """

    num_candidates: int = 100
    confidence_watchers: float = 10.0
    looks: float = 0.5
    words: float = 0.35
    tags: float = 0.15
    diversity: DiversityRule = field(default_factory=DiversityRule)


@dataclass(frozen=True, eq=False)
class Together:
    """What people watched beside a video.

    Attributes:
        num_watchers: of the video.
        rows: `(n,)` of the catalogue.
        similarities: `(n,)`.
    """

    num_watchers: float
    rows: np.ndarray
    similarities: np.ndarray

    @classmethod
    def unknown(cls) -> "Together":
        return cls(0.0, np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True)
class RelatedVideo:
    """
    Attributes:
        row: of the catalogue.
        score: 0 to 1.
        reasons: for people, the weightiest first; at least one.
        parts: what the score is made of, by reason.
        duplicates: rows of near-duplicates that are folded into it.
    """

    row: int
    score: float
    reasons: tuple[str, ...]
    parts: dict[str, float]
    duplicates: tuple[int, ...] = ()


class RelatedFinder:
    """Threads may share it."""

    def __init__(
        self, catalogue: ItemCatalogue, content: Content, settings: RelatedSettings | None = None
    ) -> None:
        self._catalogue, self._content = catalogue, content
        self._settings = settings or RelatedSettings()

    def find(
        self,
        row: int,
        k: int,
        *,
        together: Together,
        looks: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> list[RelatedVideo]:
        """Returns the k most related videos that are no near-duplicates of it or of each other.

        Args:
            together: what people watched beside it.
            looks: rows and cosines of the videos that look like a stretch of it; default: those
                that look like the whole.
        """
        num = max(self._settings.num_candidates, 2 * k)
        near, cosines = self._content.nearest(row, num) if looks is None else looks
        worded, _ = self._catalogue.texts.nearest(row, num)
        best = np.argsort(-together.similarities, kind="stable")[:num]
        candidates = np.unique(np.concatenate([near, worded, together.rows[best]]))
        # Of equal ones the smallest id is first, however the index is divided.
        ids = self._catalogue.ids
        others = sorted(set(candidates.tolist()) - {row}, key=ids.__getitem__)
        candidates = np.array(others, np.int64)
        if not len(candidates):
            return []
        embeddings = self._content.embeddings(candidates)
        (own,) = self._content.embeddings(np.array([row]))
        alike = embeddings @ own
        if looks is not None:  # of the others, it is not known how like the stretch they are
            cosine_by_row = dict(zip(near.tolist(), cosines.tolist(), strict=True))
            usual = self._content.baseline
            alike = np.array([cosine_by_row.get(each, usual) for each in candidates.tolist()])
        parts = self._parts(row, candidates, alike, together=together)
        scores = np.sum(list(parts.values()), axis=0)
        # The best are enough to choose from, and likeness is compared between all of them.
        kept = np.argsort(-scores, kind="stable")[: max(60, 3 * k)]
        return self._chosen(
            candidates[kept],
            scores[kept],
            {name: values[kept] for name, values in parts.items()},
            embeddings=embeddings[kept],
            own=own,
            row=row,
            k=k,
        )

    def _parts(
        self, row: int, candidates: np.ndarray, cosines: np.ndarray, *, together: Together
    ) -> dict[str, np.ndarray]:
        """What each reason adds to each candidate's score."""
        settings, baseline = self._settings, self._content.baseline
        known = together.num_watchers / (together.num_watchers + settings.confidence_watchers)
        people = np.zeros(len(candidates))
        if len(together.rows):
            order = np.argsort(together.rows)
            at = np.searchsorted(together.rows[order], candidates)
            at = np.minimum(at, len(order) - 1)
            is_there = together.rows[order][at] == candidates
            most = max(float(together.similarities.max()), 1e-12)
            people[is_there] = together.similarities[order][at][is_there] / most
        else:
            known = 0.0
        looks = np.clip((cosines - baseline) / max(1e-6, 1 - baseline), 0, 1)
        shares = {LOOKS: (settings.looks, looks)}
        if self._catalogue.texts.has_words(row):
            shares[WORDS] = settings.words, self._catalogue.texts.cosines(row, candidates)
        if self._catalogue.tags[row]:
            shares[TAGS] = settings.tags, self._tags_alike(row, candidates)
        total = sum(share for share, _ in shares.values())
        content = {
            name: (1 - known) * share / total * values for name, (share, values) in shares.items()
        }
        return {PEOPLE: known * people, **content}

    def _tags_alike(self, row: int, candidates: np.ndarray) -> np.ndarray:
        """The share of common tags in all tags of both."""
        own = self._catalogue.tags[row]
        others = [self._catalogue.tags[each] for each in candidates.tolist()]
        return np.array([len(own & each) / len(own | each) if each else 0.0 for each in others])

    def _chosen(
        self,
        candidates: np.ndarray,
        scores: np.ndarray,
        parts: dict[str, np.ndarray],
        *,
        embeddings: np.ndarray,
        own: np.ndarray,
        row: int,
        k: int,
    ) -> list[RelatedVideo]:
        catalogue = self._catalogue
        choosing = diversified(
            scores,
            embeddings,
            contents=catalogue.contents[candidates],
            authors=catalogue.authors[candidates],
            rule=self._settings.diversity,
            baseline=self._content.baseline,
        )
        choosing.leave_out_like(own, int(catalogue.contents[row]))
        found: list[int] = []
        while len(found) < k and (item := choosing.best()) is not None:
            choosing.take(item)
            found.append(item)
        return [
            RelatedVideo(
                row=int(candidates[item]),
                score=float(scores[item]),
                reasons=_reasons({name: float(values[item]) for name, values in parts.items()}),
                parts={name: round(float(values[item]), 4) for name, values in parts.items()},
                duplicates=tuple(candidates[choosing.folded[item]].tolist()),
            )
            for item in found
        ]


def _reasons(parts: dict[str, float]) -> tuple[str, ...]:
    total = sum(parts.values())
    best: Sequence[tuple[str, float]] = sorted(parts.items(), key=lambda pair: -pair[1])
    telling = [name for name, value in best if value > 0 and value >= _MIN_REASON * total]
    return tuple(telling) or (LOOKS,)
