"""A sentence, an image or a video -> the videos, and the seconds in them, that match.

`search("a dog catches a frisbee", index="DIR")` for one question, a `Searcher` for many.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from reelseek.configs.schema import ModelConfig
    from reelseek.indexing import IndexReader
    from reelseek.ranking import SearchHit, SearchResults
    from reelseek.ranking.learning.ranker import LearnedRanker
    from reelseek.ranking.query_encoding import Query
    from reelseek.ranking.request import Request
    from reelseek.ranking.token_matching.matching import TokenMatchingWeights
    from reelseek.text.query.analyzer import AnalyzedQuery, QueryAnalyzer
    from reelseek.vision import DualEncoder

logger = logging.getLogger(__name__)


class Searcher:
    """An index and its model, opened once for many questions. Threads may share it: each gets the
    answers that it would get alone.

    Use `Searcher.open`; the constructor takes the parts.
    """

    def __init__(
        self,
        reader: IndexReader,
        model: DualEncoder,
        *,
        device: str = "auto",
        ranker: LearnedRanker | None = None,
        token_matching: TokenMatchingWeights | None = None,
        entities: bool = False,
    ) -> None:
        from reelseek.ranking.query_encoding import QueryEncoder
        from reelseek.ranking.retrieval import Retriever
        from reelseek.ranking.scoring import Scorer

        self.reader = reader
        self.encoder = QueryEncoder(model, device=device)
        self._reranks = token_matching is not None
        scorer = Scorer(ranker=ranker, token_matching=token_matching)
        self.retriever = Retriever(reader, scorer=scorer)
        self._entities = entities or ranker is not None
        self._analyzer: tuple[int, QueryAnalyzer] | None = None  # of a generation's vocabulary
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        index: str | Path,
        *,
        model: str | None = None,
        device: str = "auto",
        log_queries: bool = False,
        ranker: str | Path | None = None,
        token_matching: str | Path | None = None,
        entities: bool = False,
    ) -> Searcher:
        """Opens an index and loads the model it was built with.

        Args:
            index: the folder.
            model: to insist on a model by preset, open_clip name or folder.
            device: `auto`, `cpu`, `cuda`, ...
            log_queries: keep the queries' embeddings (not their words) in the index's folder, for
                its recall to be measured on and its FAISS indexes to be tuned for.
            ranker: folder of a ranker that `reelseek rank` trained, which orders whole videos.
            token_matching: folder of weights that `python -m ranking.token_matching`
                trained, which reorder the best whole videos that pictures find.
            entities: look for names that the catalogue does not have, too; so does a ranker.

        Raises:
            ValueError: not an index, a damaged one, or nothing in it yet; a model that cannot be
                loaded (`vision.ModelUnavailableError`) or is not the one the index was built
                with (`indexing.IndexMismatchError`).
        """
        from reelseek.configs.command_line import load_model_config
        from reelseek.configs.schema import check_device
        from reelseek.ranking.arguments import check_types

        path, words = (str, Path), "a path, as a str or Path"
        path_or_none, words_or_none = (str, Path, type(None)), f"{words}, or None"
        flag = "True or False"
        check_types(
            index=(index, path, words),
            model=(model, path_or_none, "the name of a model as a str, or None"),
            device=(device, str, "a str such as auto, cpu or cuda"),
            log_queries=(log_queries, bool, flag),
            ranker=(ranker, path_or_none, words_or_none),
            token_matching=(token_matching, path_or_none, words_or_none),
            entities=(entities, bool, flag),
        )
        check_device(device)
        return cls._open(
            Path(index),
            None if model is None else load_model_config(str(model)),
            device=device,
            log_queries=log_queries,
            ranker=ranker,
            token_matching=token_matching,
            entities=entities,
        )

    @classmethod
    def _open(
        cls,
        folder: Path,
        model_config: ModelConfig | None,
        *,
        device: str,
        log_queries: bool,
        ranker: str | Path | None,
        token_matching: str | Path | None,
        entities: bool,
        where: str | None = None,
    ) -> Searcher:
        """As `open`, and checks the filter of the question to come before the model is loaded."""
        from reelseek.configs.command_line import preset_names
        from reelseek.configs.schema import ModelConfig
        from reelseek.indexing.reader import IndexReader
        from reelseek.indexing.store.manifest import IndexMismatchError
        from reelseek.ranking.learning.ranker import LearnedRanker
        from reelseek.ranking.token_matching.matching import TokenMatchingWeights
        from reelseek.vision import check_model_name

        # What is small comes first, so that what is wrong with it is said at once.
        if model_config is not None:
            check_model_name(model_config.name, known_names=preset_names("model"))
        learned = None if ranker is None else LearnedRanker.load(Path(ranker))
        reader = IndexReader(folder, log_queries=log_queries)
        try:
            if where is not None:
                reader.check_filter(where)
            settings = reader.manifest.settings
            weights = None
            if token_matching is not None:
                weights = TokenMatchingWeights.load(
                    Path(token_matching), fingerprint=settings.fingerprint
                )

            from reelseek.vision.models.text_first import load_text_first

            spec = (model_config or ModelConfig(**settings.model)).spec()
            model = load_text_first(
                spec, fingerprint=settings.fingerprint, known_names=preset_names("model")
            )
            if model.fingerprint != settings.fingerprint:
                raise IndexMismatchError(
                    f"index={folder}: was built with model={settings.model['name']} (fingerprint "
                    f"{settings.fingerprint[:8]}), and model={spec.name} is another "
                    f"({model.fingerprint[:8]}); search with the model it was built with, or index "
                    "into a new folder"
                )
            return cls(
                reader,
                model,
                device=device,
                ranker=learned,
                token_matching=weights,
                entities=entities,
            )
        except BaseException:
            reader.close()
            raise

    def search(
        self,
        query: Query,
        *,
        k: int = 10,
        level: str = "video",
        where: str | None = None,
        min_confidence: float = 0.0,
        sources: Sequence[str] | None = None,
        analyze: bool = True,
    ) -> SearchResults:
        """Finds the best matches.

        Args:
            query: a sentence; or the path (a `Path`, not a `str`) of an image or a video; or a
                Pillow image. Several of these as a list, `[Path("beach.jpg"), "at night"]`, are
                all to be matched, and as a mapping each has a weight, below 0 for what the answer
                should be unlike.
            k: hits to return, at least 1; fewer come back where the index holds fewer.
            level: `video` for whole videos, `moment` for the seconds in them.
            where: only in videos like this, such as `duration < 60 and tag = 'cat'`; the language
                is in `indexing.filters`.
            min_confidence: leave out hits that are less probable to match, 0 to 1; where nothing
                matches, nothing comes back.
            sources: `visual`, `lexical`, or both (the default): what to search.
            analyze: find filters, negations, events and misspellings in a sentence (see
                `text.query.analyzer`); otherwise it is taken as it stands.

        Returns:
            The hits, best first: a list, whose `why_empty` says why there are none.

        Raises:
            ValueError: an empty query, k, level, min_confidence or a source out of range, a filter
                that cannot be read or names a field that no video has.
            vision.VideoDecodeError: the image or video cannot be read.
        """
        from reelseek.ranking.arguments import check_search, hint_at_paths
        from reelseek.ranking.hits import SearchResults

        check_search(
            query,
            k=k,
            level=level,
            where=where,
            min_confidence=min_confidence,
            sources=sources,
            analyze=analyze,
        )
        hint_at_paths(query)
        with self.reader.one_generation():
            request = self.request(query, where=where, sources=sources, analyze=analyze)
            hits = self.retriever.search(request, k=k, level=level, min_confidence=min_confidence)
            why_empty = "" if hits else self._why_nothing(request, level, min_confidence)
            return SearchResults(hits, why_empty=why_empty)

    def analyze(self, query: str) -> AnalyzedQuery:
        """What a sentence is taken to mean, `print` of which explains it.

        Raises:
            ValueError: it is empty, or longer than any query is.
        """
        return self._analyzer_of_generation().analyze(query)

    def warm_up(self) -> None:
        """Loads what the first questions would wait for, in some seconds, so that a service answers
        them as fast as those that follow."""
        self._analyzer_of_generation().warm_up()
        self.request("a dog on a beach")
        self.retriever.warm_up()

    @property
    def generation(self) -> int:
        """The published state of the index that answers."""
        return self.reader.manifest.generation

    @property
    def revision(self) -> int:
        """Changes with each deletion, too, which counts from the next search on."""
        return self.reader.revision

    @property
    def skipped(self) -> str:
        """What of the index cannot be searched, with the remedy; empty where all can."""
        return self.reader.skipped

    def close(self) -> None:
        """Closes the index's files."""
        self.reader.close()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest = self.reader.manifest
        return (
            f"Searcher(index={str(self.reader.folder)!r}, "
            f"model={manifest.settings.model.get('name')!r}, videos={manifest.num_videos}, "
            f"segments={manifest.num_segments})"
        )

    def _analyzer_of_generation(self) -> QueryAnalyzer:
        from reelseek.text.query.analyzer import QueryAnalyzer
        from reelseek.text.query.vocabulary import Vocabulary

        with self.reader.one_generation(), self._lock:
            generation = self.reader.manifest.generation
            if self._analyzer is None or self._analyzer[0] != generation:
                statistics = self.retriever.background().statistics
                names = dict.fromkeys(statistics.tags, "tag")
                vocabulary = Vocabulary(
                    statistics.words, tags=tuple(statistics.tags), entities=names
                )
                self._analyzer = (
                    generation,
                    QueryAnalyzer(vocabulary=vocabulary, entities=self._entities),
                )
            return self._analyzer[1]

    def request(
        self,
        query: Query,
        *,
        where: str | None = None,
        sources: Sequence[str] | None = None,
        analyze: bool = True,
    ) -> Request:
        """What a query is to the index; see `search` for the arguments."""
        from reelseek.ranking.request import SOURCES, VISUAL, QueryFilter, Request

        filters = [] if where is None else [QueryFilter(where)]
        chosen = SOURCES if sources is None else tuple(sources)
        if not isinstance(query, str):
            query_embedding = self.encoder.encode(
                query, spreads=self.retriever.background().spreads
            )
            return Request(query_embedding, where=where, filters=filters, sources=(VISUAL,))
        from reelseek.text.segmentation import words

        if not analyze:
            return Request(
                self.encoder.encode(query),
                words=words(query),
                tokens=self._tokens(query),
                where=where,
                filters=filters,
                sources=chosen,
            )
        meaning = self.analyze(query)
        for correction in meaning.corrections:
            logger.warning(
                "searching for %r instead of %r; put it in quotes to keep it",
                correction.corrected,
                correction.original,
            )
        for said, group in groupby(meaning.constraints, key=lambda constraint: constraint.source):
            together = list(group)  # "from 2019 to 2021" is two constraints
            filters.append(
                QueryFilter(
                    " and ".join(one.where for one in together),
                    " and ".join(one.phrase for one in together),
                    said,
                )
            )
        sentence = meaning.text or query
        return Request(
            self.encoder.encode(sentence),
            words=meaning.words,
            tokens=self._tokens(sentence),
            names=[name.text for name in meaning.entities],
            excluded=self.encoder.sentences(meaning.excluded),
            excluded_words=[word for phrase in meaning.excluded for word in words(phrase)],
            steps=self.encoder.sentences(meaning.steps),
            where=" and ".join(f"({one.where})" for one in filters) or None,
            filters=filters,
            sources=chosen,
        )

    def _why_nothing(self, request: Request, level: str, min_confidence: float) -> str:
        from reelseek.ranking.empty_result import why_nothing

        hits = self.retriever.search(request, k=1, level=level) if min_confidence else []
        return why_nothing(
            request,
            count=self.reader.count,
            min_confidence=min_confidence,
            first=hits[0] if hits else None,
        )

    def _tokens(self, sentence: str) -> np.ndarray | Sequence:
        return self.encoder.tokens([sentence])[0] if self._reranks else ()


def search(
    query: Query,
    *,
    index: str | Path,
    k: int = 10,
    level: str = "video",
    where: str | None = None,
    min_confidence: float = 0.0,
    sources: Sequence[str] | None = None,
    analyze: bool = True,
    model: str | None = None,
    device: str = "auto",
) -> list[SearchHit]:
    """Opens an index, asks one question and closes it; see `Searcher` for the arguments."""
    from reelseek.ranking.arguments import check_search

    question: dict[str, Any] = {
        **{"k": k, "level": level, "where": where, "min_confidence": min_confidence},
        **{"sources": sources, "analyze": analyze},
    }
    check_search(query, **question)  # before the model is loaded
    with Searcher.open(index, model=model, device=device) as searcher:
        return searcher.search(query, **question)
