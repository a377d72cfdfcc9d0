"""A sentence, an image or a video -> the videos, and the seconds in them, that match.

`search("a dog catches a frisbee", index="DIR")` for one question, a `Searcher` for many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelseek.configs.schema import ModelConfig
    from reelseek.indexing.remote.opening import OpenedPublication
    from reelseek.ranking import SearchHit, SearchResults
    from reelseek.ranking.cursor import Cursor
    from reelseek.ranking.learning.ranker import LearnedRanker
    from reelseek.ranking.query_encoding import Encoder
    from reelseek.ranking.query_parts import Query
    from reelseek.ranking.readers import Reader
    from reelseek.ranking.request import Request
    from reelseek.ranking.segments import SegmentMatches
    from reelseek.ranking.stages import StageTimes
    from reelseek.ranking.token_matching.matching import TokenMatchingWeights
    from reelseek.text.query.analyzer import AnalyzedQuery
    from reelseek.vision import DualEncoder
    from reelseek.vision.models.kept_text import KeptText


class Searcher:
    """An index and its model, opened once for many questions. Threads may share it: each gets the
    answers that it would get alone.

    Use `Searcher.open`; the constructor takes the parts.
    """

    def __init__(
        self,
        reader: Reader,
        model: DualEncoder | KeptText | None = None,
        *,
        encoder: Encoder | None = None,
        device: str = "auto",
        ranker: LearnedRanker | None = None,
        token_matching: TokenMatchingWeights | None = None,
        entities: bool = False,
    ) -> None:
        from reelseek.ranking.query_encoding import QueryEncoder
        from reelseek.ranking.request_builder import RequestBuilder
        from reelseek.ranking.retrieval import Retriever
        from reelseek.ranking.scoring import Scorer

        if encoder is None:
            assert model is not None, "a Searcher needs a model or an encoder"
            encoder = QueryEncoder(model, device=device)
        self.reader = reader
        self._published: OpenedPublication | None = None  # that the reader's folder belongs to
        self.encoder = encoder
        scorer = Scorer(ranker=ranker, token_matching=token_matching)
        self.retriever = Retriever(reader, scorer=scorer)
        self._builder = RequestBuilder(
            encoder,
            self.retriever,
            with_tokens=token_matching is not None,
            entities=entities or ranker is not None,
        )

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
        encoder: Encoder | None = None,
        refresh: str = "auto",
        index_cache: str | Path | None = None,
        index_cache_gb: float = 50.0,
        shards: str | int = "auto",
    ) -> Searcher:
        """Opens an index and loads the model it was built with.

        Args:
            index: the folder, or the URL where an index is published (docs/remote.md), of which
                what is not there yet is fetched first.
            model: to insist on a model by preset, open_clip name or folder.
            device: `auto`, `cpu`, `cuda`, ...
            log_queries: keep the queries' embeddings (not their words) in the index's folder, for
                its recall to be measured on and its FAISS indexes to be tuned for.
            ranker: folder of a ranker that `reelseek rank` trained, which orders whole videos.
            token_matching: folder of weights that `python -m ranking.token_matching`
                trained, which reorder the best whole videos that pictures find.
            entities: look for names that the catalogue does not have, too; so does a ranker.
            encoder: encodes queries in place of a model, so that none is loaded here.
            refresh: `auto` goes over to a new generation at the next search; with `manual` only
                the method `refresh` does. A newer publication at a URL is opened by the next
                `open` only.
            index_cache: folder for published indexes; default: in the user's cache folder.
            index_cache_gb: GiB that they may take there.
            shards: how many shards of an index that is placed by cluster to ask (docs/sharding.md):
                `auto`, `all` or a number.

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
            refresh=(refresh, str, "auto or manual"),
            index_cache=(index_cache, path_or_none, words_or_none),
            index_cache_gb=(index_cache_gb, (int, float), "a number"),
            shards=(shards, (str, int), "auto, all or a number"),
        )
        check_device(device)
        if refresh not in ("auto", "manual"):
            raise ValueError(f"refresh={refresh}: must be auto or manual")
        if model is not None and encoder is not None:
            raise ValueError("model and encoder: give one of them; an encoder has its own model")
        return cls._open(
            index,
            None if model is None else load_model_config(str(model)),
            device=device,
            log_queries=log_queries,
            ranker=ranker,
            token_matching=token_matching,
            entities=entities,
            encoder=encoder,
            auto_refresh=refresh == "auto",
            index_cache=index_cache,
            index_cache_gb=index_cache_gb,
            shards=shards,
        )

    @classmethod
    def _open(
        cls,
        index: str | Path,
        model_config: ModelConfig | None,
        *,
        device: str,
        log_queries: bool,
        ranker: str | Path | None,
        token_matching: str | Path | None,
        entities: bool,
        where: str | None = None,
        encoder: Encoder | None = None,
        auto_refresh: bool = True,
        index_cache: str | Path | None = None,
        index_cache_gb: float = 50.0,
        shards: str | int = "auto",
    ) -> Searcher:
        """As `open`, and checks the filter of the question to come before the model is loaded."""
        from reelseek.configs.command_line import preset_names
        from reelseek.indexing.reader import IndexReader
        from reelseek.ranking.index_model import check_fingerprint, open_index_model
        from reelseek.ranking.learning.ranker import LearnedRanker
        from reelseek.ranking.token_matching.matching import TokenMatchingWeights
        from reelseek.text.urls import is_url, public_url

        # What is small comes first, so that what is wrong with it is said at once.
        if model_config is not None:
            from reelseek.vision import check_model_name

            check_model_name(model_config.name, known_names=preset_names("model"))
        learned = None if ranker is None else LearnedRanker.load(Path(ranker))
        published = None
        if is_url(str(index)):
            from reelseek.indexing.remote.opening import open_published_index

            if log_queries:
                raise ValueError(
                    f"log_queries=true: index={public_url(str(index))} is published, and only read"
                )
            published = open_published_index(str(index), index_cache, cache_gb=index_cache_gb)
        folder = Path(index) if published is None else published.folder
        try:
            reader = IndexReader(
                folder, log_queries=log_queries, auto_refresh=auto_refresh, shards_asked=shards
            )
        except BaseException:
            if published is not None:
                published.close()
            raise
        try:
            if where is not None:
                reader.check_filter(where)
            settings = reader.manifest.settings
            weights = None
            if token_matching is not None:
                weights = TokenMatchingWeights.load(
                    Path(token_matching), fingerprint=settings.fingerprint
                )
            model = None
            if encoder is None:
                model = open_index_model(folder, settings, model_config, device=device)
            else:
                check_fingerprint(folder, settings, encoder.fingerprint, name="the encoder's")
            searcher = cls(
                reader,
                model,
                encoder=encoder,
                device=device,
                ranker=learned,
                token_matching=weights,
                entities=entities,
            )
            searcher._published = published
            return searcher
        except BaseException:
            reader.close()
            if published is not None:
                published.close()
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
        after: Cursor | None = None,
    ) -> SearchResults:
        """Finds the best matches.

        Args:
            query: a sentence; or the path (a `Path`, not a `str`) of an image or a video; or a
                Pillow image; or `Similar`, a video of the index; or an embedding `(D,)`. Several
                of these as a list, `[Path("beach.jpg"), "at night"]`, are all to be matched, and
                as a mapping or a list of pairs each has a weight, below 0 for what the answer
                should be unlike. Of `Similar` alone the hits leave out the video itself and its
                copies.
            k: hits to return, at least 1; fewer come back where the index holds fewer.
            level: `video` for whole videos, `moment` for the seconds in them.
            where: only in videos like this, such as `duration < 60 and tag = 'cat'`; the language
                is in `indexing.filters`.
            min_confidence: leave out hits that are less probable to match, 0 to 1; where nothing
                matches, nothing comes back.
            sources: `visual`, `lexical`, or both (the default): what to search.
            analyze: find filters, negations, events and misspellings in a sentence (see
                `text.query.analyzer`); otherwise it is taken as it stands.
            after: `next_cursor` of the page before, of the same search; see `ranking.paging`.

        Returns:
            The hits, best first: a list, whose `why_empty` says why there are none.

        Raises:
            ValueError: an empty query, k, level, min_confidence or a source out of range, a filter
                that cannot be read or names a field that no video has, an id that no video has.
            vision.VideoDecodeError: the image or video cannot be read.
        """
        from reelseek.ranking.arguments import check_search, hint_at_paths
        from reelseek.ranking.stages import StageTimes

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
        times = StageTimes()
        with self.reader.one_generation():
            request = self._builder.request(
                query, where=where, sources=sources, analyze=analyze, times=times
            )
            return self._page(
                request, k=k, level=level, min_confidence=min_confidence, after=after, times=times
            )

    def _page(
        self,
        request: Request,
        *,
        k: int,
        level: str,
        min_confidence: float,
        after: Cursor | None,
        times: StageTimes,
    ) -> SearchResults:
        from reelseek.ranking import paging
        from reelseek.ranking.hits import SearchResults

        depth = k if after is None else after.depth + k
        found = self.retriever.find(
            request, k=depth, level=level, min_confidence=min_confidence, times=times
        )
        hits = found.hits
        if after is not None:
            hits = paging.unseen(hits, after, level=level)
        page = paging.numbered(hits[:k], after)
        next_cursor = paging.next_cursor(
            page, after, num_ranked=found.num_ranked, num_unseen=len(hits), k=k, level=level
        )
        is_empty = not page and after is None
        return SearchResults(
            page,
            why_empty=self._why_nothing(request, level, min_confidence) if is_empty else "",
            meaning=request.meaning,
            stage_seconds=times.seconds,
            generation=self.generation,
            request=request,
            next_cursor=next_cursor,
            shards_answered=self.reader.shards_answered,
        )

    def match_segments(
        self, query: Query | Request, ids: Sequence[str]
    ) -> dict[str, SegmentMatches]:
        """Scores every segment of some videos, and reads no others.

        Args:
            query: as of `search`; or `request` of its results, which encodes nothing again.
            ids: public ids.

        Returns:
            By id, as far as the videos are there.

        Raises:
            ValueError: as `search`.
        """
        from reelseek.ranking.arguments import check_query
        from reelseek.ranking.request import Request

        with self.reader.one_generation():
            if isinstance(query, Request):
                request = query
            else:
                check_query(query)
                request = self.request(query)
            return self.retriever.match_segments(request, ids)

    def refresh(self) -> bool:
        """Goes over to the newest generation of the index, if there is another, once all is ready
        that searches would wait for. Other threads go on searching the old one meanwhile; a
        deleted video is left out of both at once.

        Returns:
            Whether it went over.
        """
        return self.reader.refresh(self._prepare)

    def _prepare(self) -> None:
        self.retriever.warm_up()
        self._builder.prepare()

    def analyze(self, query: str) -> AnalyzedQuery:
        """What a sentence is taken to mean, `print` of which explains it.

        Raises:
            ValueError: it is empty, or longer than any query is.
        """
        return self._builder.analyzer().analyze(query)

    def warm_up(self) -> None:
        """Loads what the first questions would wait for, in some seconds, so that a service answers
        them as fast as those that follow."""
        self._builder.analyzer().warm_up()
        self.retriever.warm_up()
        for level in ("video", "moment"):
            self.search("a dog on a beach", level=level)

    @property
    def generation(self) -> int:
        """The published state of the index that answers, counted up."""
        return self.reader.manifest.generation

    @property
    def revision(self) -> int:
        """The catalogue's count of changes, deletions included, which the next search sees. An
        answer that is kept by generation and revision must have read them before it searched."""
        return self.reader.revision

    @property
    def skipped(self) -> str:
        """What of the index cannot be searched, with the remedy; empty where all can."""
        return self.reader.skipped

    def close(self) -> None:
        """Closes the index's files."""
        self.reader.close()
        if self._published is not None:
            self._published.close()
            self._published = None

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

    def request(
        self,
        query: Query,
        *,
        where: str | None = None,
        sources: Sequence[str] | None = None,
        analyze: bool = True,
    ) -> Request:
        """What a query is to the index; see `search` for the arguments."""
        from reelseek.ranking.stages import StageTimes

        return self._builder.request(
            query, where=where, sources=sources, analyze=analyze, times=StageTimes()
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
