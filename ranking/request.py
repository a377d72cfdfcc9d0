"""What is asked of an index, in its own terms: embeddings, words and a filter."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from reelseek.text.query.analyzer import AnalyzedQuery

VISUAL, LEXICAL = "visual", "lexical"
SOURCES = (VISUAL, LEXICAL)
# What 0.1 called them.
_RENAMED = {"picture": VISUAL, "words": LEXICAL}


def check_sources(sources: Collection[str]) -> None:
    """Raises a ValueError unless these are one or more of `SOURCES`."""
    for source in sources:
        if source in _RENAMED:
            raise ValueError(f"sources={source}: is now called {_RENAMED[source]}")
    if not sources or not set(sources) <= set(SOURCES):
        raise ValueError(
            f"sources={','.join(map(str, sources))}: must be one or more of {', '.join(SOURCES)}"
        )


@dataclass(frozen=True)
class QueryFilter:
    """One limit on the answers, and who asked for it.

    Attributes:
        where: see `indexing.filters`.
        phrase: the same in words, such as `before 2025`; empty where the user wrote the filter.
        source: the words of the query that it was read from; likewise.
    """

    where: str
    phrase: str = ""
    source: str = ""

    def __str__(self) -> str:
        if not self.source:
            return f"that fits where={self.where!r}"
        return f"{self.phrase} (from {self.source!r})"


@dataclass(frozen=True)
class Request:
    """What is asked, as an index understands it.

    Attributes:
        query_embedding: `(D,)` embedding of what should be shown.
        words: that texts should have, as `text.segmentation` gives them; none to leave texts out.
        tokens: `(L, D)` embeddings of a sentence's tokens, for a reranker; L may be 0.
        names: of persons, places and the like that are asked for.
        excluded: `(M, D)` embeddings of what should not be shown; M may be 0.
        excluded_words: that texts should not have.
        steps: `(E, D)` embeddings of what should happen, in its order; E is 0 or at least 2.
        where: what the videos must be like, see `indexing.filters`.
        filters: what `where` is made of; all of them hold.
        sources: that give candidates, of `SOURCES`.
        left_out: contents of videos that may not be found.
        meaning: what the sentence was taken to mean; None where it was not analysed.
    """

    query_embedding: np.ndarray
    words: Sequence[str] = ()
    tokens: np.ndarray | Sequence = ()
    names: Sequence[str] = ()
    excluded: np.ndarray | Sequence = ()
    excluded_words: Sequence[str] = ()
    steps: np.ndarray | Sequence = ()
    where: str | None = None
    filters: Sequence[QueryFilter] = ()
    sources: Sequence[str] = SOURCES
    left_out: Collection[str] = ()
    meaning: "AnalyzedQuery | None" = None

    def __post_init__(self) -> None:
        check_sources(self.sources)
