"""A query of any kind -> the request that an index understands."""

import logging
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from reelseek.ranking.generation_cache import GenerationCache
from reelseek.ranking.query_encoding import Encoder, compose_parts
from reelseek.ranking.query_parts import (
    Query,
    Similar,
    check_embedding,
    is_composed,
    query_parts,
)
from reelseek.ranking.request import SOURCES, VISUAL, QueryFilter, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.stages import StageTimes
from reelseek.text.query.analyzer import AnalyzedQuery, QueryAnalyzer
from reelseek.text.query.vocabulary import Vocabulary
from reelseek.text.segmentation import words

logger = logging.getLogger(__name__)


class RequestBuilder:
    """Analyses and encodes queries.

    Args:
        encoder: of the index's model.
        retriever: of the index, whose statistics and videos queries refer to.
        with_tokens: whether the scoring matches tokens.
        entities: whether to find names that the catalogue does not have, too.
    """

    def __init__(
        self, encoder: Encoder, retriever: Retriever, *, with_tokens: bool, entities: bool
    ) -> None:
        self._encoder = encoder
        self._retriever = retriever
        self._with_tokens = with_tokens
        self._entities = entities
        self._analyzers: GenerationCache[QueryAnalyzer] = GenerationCache()
        self._latest: tuple[Vocabulary, QueryAnalyzer] | None = None

    def analyzer(self) -> QueryAnalyzer:
        """Returns the analyzer with the vocabulary of the current generation."""
        statistics = self._retriever.background().statistics

        def make() -> QueryAnalyzer:
            names = dict.fromkeys(statistics.tags, "tag")
            vocabulary = Vocabulary(statistics.words, tags=tuple(statistics.tags), entities=names)
            latest = self._latest
            if latest is None or latest[0] != vocabulary:
                analyzer = QueryAnalyzer(vocabulary=vocabulary, entities=self._entities)
                latest = self._latest = vocabulary, analyzer
            return latest[1]

        return self._analyzers.get(statistics, make)

    def prepare(self) -> None:
        """Loads for the current generation what the queries of the one before have loaded."""
        before = self._latest
        analyzer = self.analyzer()
        if before is not None:
            analyzer.load_dictionaries_of(before[1])

    def request(
        self,
        query: Query,
        *,
        where: str | None,
        sources: Sequence[str] | None,
        analyze: bool,
        times: StageTimes,
    ) -> Request:
        """Makes the request; see `Searcher.search` for the arguments."""
        filters = [] if where is None else [QueryFilter(where)]
        if not isinstance(query, str):
            return self._request_of_parts(query, where, filters, times)
        chosen = SOURCES if sources is None else tuple(sources)
        if analyze:
            with times.measure("analysis"):
                meaning = self.analyzer().analyze(query)
            return self._request_of_meaning(meaning, filters, chosen, times)
        with times.measure("encoding"):
            return Request(
                self._encoder.encode(query),
                words=words(query),
                tokens=self._tokens(query),
                where=where,
                filters=filters,
                sources=chosen,
            )

    def _request_of_meaning(
        self,
        meaning: AnalyzedQuery,
        filters: Sequence[QueryFilter],
        sources: Sequence[str],
        times: StageTimes,
    ) -> Request:
        for correction in meaning.corrections:
            logger.warning(
                "searching for %r instead of %r; put it in quotes to keep it",
                correction.corrected,
                correction.original,
            )
        filters = [*filters, *_filters_of(meaning)]
        sentence = meaning.text or meaning.query
        with times.measure("encoding"):
            return Request(
                self._encoder.encode(sentence),
                words=meaning.words,
                tokens=self._tokens(sentence),
                names=[name.text for name in meaning.entities],
                excluded=self._encoder.sentences(meaning.excluded),
                excluded_words=[word for phrase in meaning.excluded for word in words(phrase)],
                steps=self._encoder.sentences(meaning.steps),
                where=" and ".join(f"({one.where})" for one in filters) or None,
                filters=filters,
                sources=sources,
                meaning=meaning,
            )

    def _request_of_parts(
        self,
        query: Query,
        where: str | None,
        filters: Sequence[QueryFilter],
        times: StageTimes,
    ) -> Request:
        parts = query_parts(query)
        similar = [part for part, _ in parts if isinstance(part, Similar)]
        with times.measure("encoding"):
            videos = self._retriever.videos([part.id for part in similar]) if similar else {}
            for part in similar:
                if part.id not in videos:
                    raise ValueError(f"id={part.id}: no video of the index has this id")
            embeddings = [
                part.embedding_in(videos[part.id])
                if isinstance(part, Similar)
                else self._embedding(part)
                for part, _ in parts
            ]
            embedding = embeddings[0] if embeddings else None
            if embedding is None or is_composed(query):
                embedding = compose_parts(
                    embeddings,
                    [weight for _, weight in parts],
                    spreads=self._retriever.background().spreads,
                )
        # Whoever asks for more like a video knows that video.
        known = {video.content for video in videos.values()} if len(similar) == len(parts) else ()
        return Request(
            embedding, where=where, filters=filters, sources=(VISUAL,), left_out=frozenset(known)
        )

    def _embedding(self, part: Query) -> np.ndarray:
        if isinstance(part, np.ndarray):
            return check_embedding(part, self._retriever.embedding_dim)
        return self._encoder.encode(part)  # type: ignore[arg-type]  # checked by `check_search`

    def _tokens(self, sentence: str) -> np.ndarray | Sequence:
        return self._encoder.tokens([sentence])[0] if self._with_tokens else ()


def _filters_of(meaning: AnalyzedQuery) -> list[QueryFilter]:
    """A filter for each phrase: "from 2019 to 2021" is two constraints."""
    filters = []
    for said, group in groupby(meaning.constraints, key=lambda constraint: constraint.source):
        together = list(group)
        filters.append(
            QueryFilter(
                " and ".join(one.where for one in together),
                " and ".join(one.phrase for one in together),
                said,
            )
        )
    return filters
