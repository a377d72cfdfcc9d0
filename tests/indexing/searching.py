"""Searches of one source in an index, without a model: by an embedding, or by words."""

from dataclasses import dataclass

import numpy as np

from reelseek.indexing import IndexReader
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.lexical.documents import stems
from reelseek.ranking import SearchHit
from reelseek.ranking.request import VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.texts import Terms, rank_matches


def search(
    reader: IndexReader,
    query: np.ndarray,
    *,
    k: int,
    level: str = "video",
    where: str | None = None,
) -> list[SearchHit]:
    """The videos or moments nearest to an embedding."""
    request = Request(query, where=where, sources=(VISUAL,))
    return Retriever(reader).search(request, k=k, level=level)


@dataclass(frozen=True)
class TextHit:
    """A video, or a second of it, whose texts have a word that was searched for."""

    id: str
    key: str
    score: float
    source: str
    start_seconds: float | None
    end_seconds: float | None
    text: str


def search_words(
    reader: IndexReader, words, *, k, also=(), excluded=(), where=None, level="video"
) -> list[TextHit]:
    """The best texts that have these words."""
    required, optional = stems(words), [s for s in stems(also) if s not in stems(words)]
    with reader.one_generation():
        statistics = reader.term_statistics([*required, *optional])
        request = GatherRequest(
            np.empty((0, reader.manifest.settings.embedding_dim), np.float32),
            level,
            0,
            stems=required,
            optional_stems=optional,
            excluded_stems=stems(excluded),
            num_texts=k,
            terms=statistics,
            where=where,
        )
        candidates = reader.gather(request)
    terms = Terms(required, optional, stems(excluded), statistics)
    ranked = rank_matches(candidates.texts, candidates.videos, terms, num=k, level=level)
    return [
        TextHit(
            text.match.id,
            candidates.videos[text.match.id].record.key,
            text.score,
            text.match.source,
            text.match.start_seconds,
            text.match.end_seconds,
            text.match.text,
        )
        for text in ranked
    ]
