"""A sentence, an image or a video -> the videos, and the seconds in them, that match.

`search("a dog catches a frisbee", index="DIR")` for one question, a `Searcher` for many, and
`python search.py index=DIR query="..."` from the command line.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text.terminal import printable

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig

    from configs.schema import ModelConfig, SearchConfig
    from indexing import IndexReader, SearchHit, SearchResults
    from indexing.hits import Copy
    from ranking.learned import LearnedRanker
    from ranking.query_encoding import Query
    from ranking.request import Request
    from ranking.token_matching import TokenMatchingWeights
    from text.analysis import AnalyzedQuery, QueryAnalyzer
    from vision import DualEncoder

logger = logging.getLogger(__name__)

USAGE = """usage: python search.py index=DIR query="..." [k=10] [level=video|moment] [json=true]
       [where="..."] [min_confidence=0.5] [explain=true] [page=FILE.html] [name=value ...]

Searches an index by words (query=), by an image (image=FILE), by a video (video=FILE), or by words
and one of these."""


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
        from ranking.query_encoding import QueryEncoder
        from ranking.reranking import Reranker
        from ranking.retrieval import Retriever

        self.reader = reader
        self.encoder = QueryEncoder(model, device=device)
        self._reranks = token_matching is not None
        reranks = None if token_matching is None else Reranker(reader, token_matching)
        self.retriever = Retriever(reader, ranker=ranker, reranker=reranks)
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
            ranker: folder of a ranker that `python -m ranking` trained, which orders whole videos.
            token_matching: folder of weights that `python -m ranking.train_token_matching`
                trained, which reorder the best whole videos that pictures find.
            entities: look for names that the catalogue does not have, too; so does a ranker.

        Raises:
            ValueError: not an index, a damaged one, or nothing in it yet; a model that cannot be
                loaded (`vision.ModelUnavailableError`) or is not the one the index was built
                with (`indexing.IndexMismatchError`).
        """
        from configs.command_line import load_model_config
        from configs.schema import check_device
        from ranking.arguments import check_types

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
        from configs.command_line import preset_names
        from configs.schema import ModelConfig
        from indexing.manifest import IndexMismatchError
        from indexing.reader import IndexReader
        from ranking.learned import LearnedRanker
        from ranking.token_matching import TokenMatchingWeights
        from vision import check_model_name

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

            from vision import load_model

            spec = (model_config or ModelConfig(**settings.model)).spec()
            model = load_model(spec, known_names=preset_names("model"))
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
                `text.analysis`); otherwise it is taken as it stands.

        Returns:
            The hits, best first: a list, whose `why_empty` says why there are none.

        Raises:
            ValueError: an empty query, k, level, min_confidence or a source out of range, a filter
                that cannot be read or names a field that no video has.
            vision.VideoDecodeError: the image or video cannot be read.
        """
        from indexing.hits import SearchResults
        from ranking.arguments import check_search, hint_at_paths

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
        from text.analysis import QueryAnalyzer
        from text.vocabulary import Vocabulary

        with self.reader.one_generation(), self._lock:
            generation = self.reader.manifest.generation
            if self._analyzer is None or self._analyzer[0] != generation:
                words, tags = self.reader.vocabulary()
                names = dict.fromkeys(tags, "tag")
                vocabulary = Vocabulary(words, tags=tuple(tags), entities=names)
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
        from ranking.request import SOURCES, VISUAL, QueryFilter, Request

        filters = [] if where is None else [QueryFilter(where)]
        chosen = SOURCES if sources is None else tuple(sources)
        if not isinstance(query, str):
            query_embedding = self.encoder.encode(query, spreads=self.retriever.usual.spreads)
            return Request(query_embedding, where=where, filters=filters, sources=(VISUAL,))
        from text.segmentation import words

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
        from ranking.nothing_found import why_nothing

        hits = self.retriever.search(request, k=1, level=level) if min_confidence else []
        return why_nothing(
            self.reader,
            request,
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
    from ranking.arguments import check_search

    question: dict[str, Any] = {
        **{"k": k, "level": level, "where": where, "min_confidence": min_confidence},
        **{"sources": sources, "analyze": analyze},
    }
    check_search(query, **question)  # before the model is loaded
    with Searcher.open(index, model=model, device=device) as searcher:
        return searcher.search(query, **question)


def main(cfg: DictConfig) -> None:
    from omegaconf import OmegaConf

    from configs import command_line
    from configs.schema import SearchConfig, as_plain

    config = OmegaConf.to_object(cfg)
    assert isinstance(config, SearchConfig)
    _check_before_loading(config)
    parts: list = [Path(path) for path in (config.image, config.video) if path is not None]
    if config.query is not None:
        parts.insert(0, config.query)

    searcher = Searcher._open(
        Path(config.index),
        config.model,
        device=config.device,
        log_queries=config.log_queries,
        ranker=config.ranker,
        token_matching=config.token_matching,
        entities=config.explain,
        where=config.where,
    )

    from vision import VideoDecodeError

    try:
        if config.explain:
            _explain_query(searcher, config)
        hits = searcher.search(
            parts[0] if len(parts) == 1 else parts,
            k=config.k,
            level=config.level.value,
            where=config.where,
            min_confidence=config.min_confidence,
            sources=config.sources or None,
            analyze=config.analyze,
        )
    except VideoDecodeError as error:
        raise ValueError(f"{parts[-1]}: {error}") from error
    finally:
        searcher.close()
    if config.page is not None:
        from indexing.page import write_page

        write_page(Path(config.page), [(" and ".join(map(str, parts)), hits)])
        print(f"page written to {printable(config.page)}", file=sys.stderr)
    if config.json:
        command_line.print_json([as_plain(hit) for hit in hits])
    elif hits:
        print(table(hits, explained=config.explain))
    if not hits:  # where only JSON may stand, beside it
        print(printable(hits.why_empty), file=sys.stderr if config.json else sys.stdout)


def _check_before_loading(config: SearchConfig) -> None:
    """Says at once what no index and no model are needed to find wrong.

    Raises:
        ValueError: an empty query, an image or video that cannot be read, or a page that cannot be
            written.
    """
    from indexing.atomic import check_can_write_file

    if config.query is not None and not config.query.strip():
        raise ValueError("query is empty: say in a few words what the video should show")
    for option, name in (("image", config.image), ("video", config.video)):
        if name is None:
            continue
        path = Path(name)
        if not path.is_file():  # nor a pipe, which would never end
            found = "is not a file" if path.exists() else "no such file"
            raise ValueError(f"{option}={name}: {found}; name an image or a video")
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{option}={name}: cannot be read ({error.strerror})") from error
    if config.page is not None:
        check_can_write_file("page", Path(config.page))


def _explain_query(searcher: Searcher, config: SearchConfig) -> None:
    """Says on stderr, where it is in no one's way, what a sentence is taken to mean."""
    if config.query is not None and config.analyze:
        print(searcher.analyze(config.query), file=sys.stderr)
    if searcher.skipped:
        print(f"{'skipped':<10} {printable(searcher.skipped)}", file=sys.stderr)


def table(hits: Sequence[SearchHit], *, explained: bool = False) -> str:
    """The hits as lines of text: rank, probability of a match, time, what found it, file; and, if
    explained, the score that they are ordered by and what put them there."""
    from indexing.hits import clock
    from ranking.evidence import explain, found_by

    lines = [f"{'#':>3}  {'match':>5}  {'time':<15}  {'found by':<15}  video"]
    for hit in hits:
        span = f"{clock(hit.start_seconds)}-{clock(hit.end_seconds)}"
        found = found_by(hit.evidence)
        lines.append(
            f"{hit.rank:>3}  {hit.match:>5}  {span:<15}  {found:<15}  {printable(hit.key)}"
        )
        if hit.also_as:
            lines.append(f"{'':>5}also as {printable(_names(hit.also_as))}")
        if explained:
            lines.append(f"{'':>5}score {hit.score:.3f}: {printable(explain(hit.evidence))}")
    return "\n".join(lines)


def _names(copies: Sequence[Copy]) -> str:
    """The first few copies' paths, and how many more there are."""
    shown = ", ".join(copy.video for copy in copies[:3])
    return shown if len(copies) <= 3 else f"{shown} and {len(copies) - 3} more"


if __name__ == "__main__":
    from configs import command_line

    command_line.run(main, config_name="search", usage=USAGE)
