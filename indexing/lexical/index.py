"""Words -> the videos, and the seconds in them, whose texts have these words.

The lexical index of a generation is a folder beside its FAISS files: two indexes of tantivy, of the
videos' own texts and of their timed ones, so that the lengths of texts are compared with those of
their kind, and a table that says what of the catalogue they hold. It is derived from the catalogue
and never changed once written.

tantivy finds candidates, ordered by BM25 with its own statistics. They are ordered again by
`lexical.scoring` with those of the whole collection, of which this index may be one shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reelseek.indexing.lexical.files import (
    LexicalInfo,
    check_files,
    damaged,
    level_files,
    linked,
    read_table,
)
from reelseek.indexing.lexical.scoring import Bm25, TermStatistics
from reelseek.indexing.store.manifest import LEVELS

if TYPE_CHECKING:
    from tantivy import DocAddress, Query, Schema, Searcher

_MAX_WORDS = 64  # of a query; more say no more
_FIRST_LOOK = 256  # matches looked at before a filter becomes part of the query
_MAX_LOOK = 4096  # matches looked at for the best; beyond, those that score alike are not ordered
_ROUNDING = 1 + 1e-4  # of tantivy's scores, which are float32


@dataclass(frozen=True)
class Match:
    """A document that has a stem of the query.

    Attributes:
        score: BM25 with the statistics of the collection.
        counts: how often it has each stem.
        length: its stems in all.
        source: of a timed text, `ocr` or `speech`; empty for a video's own texts.
        text: of a timed text.
    """

    video_id: int
    level: str
    score: float
    counts: Mapping[str, int]
    length: int
    source: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    text: str = ""


class LexicalIndex:
    """An open lexical index, safe to search from several threads. tantivy must be installed.

    Args:
        folder: of the whole index.
        info: of the manifest.

    Raises:
        FileNotFoundError: its files are gone, as when a writer has replaced them.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, info: LexicalInfo) -> None:
        self.info = info
        self._masked: set[int] = set()
        path = check_files(folder, info)
        read_table(path)
        self._levels = {level: _LexicalLevel(path, info, level) for level in LEVELS}

    def mask_deleted(self, video_ids: Sequence[int]) -> None:
        """Leaves out videos that have been deleted since."""
        # A new set, since searches of other threads read the old one.
        self._masked = self._masked | set(video_ids)

    def statistics(self, stems: Sequence[str]) -> dict[str, TermStatistics]:
        """Returns the statistics of stems for each level, videos deleted since included."""
        return {name: level.statistics(stems) for name, level in self._levels.items()}

    def search(
        self,
        stems: Sequence[str],
        *,
        num: int,
        terms: Mapping[str, TermStatistics],
        optional: Sequence[str] = (),
        excluded: Sequence[str] = (),
        only: np.ndarray | None = None,
        level: str = "video",
    ) -> list[Match]:
        """Finds the best documents that have any of these stems.

        Args:
            num: documents to return, or videos if `level` is `video`; fewer come back where there
                are fewer.
            terms: statistics of the collection for each level.
            optional: stems that add to the score of documents that match.
            excluded: stems of which a document may have none, nor its video's own texts.
            only: ids of the videos to search, ascending; None for all.
            level: `video` returns each video once, for its best document; `moment` all documents.

        Returns:
            Best first; documents of the same score in no order.
        """
        stems = distinct(stems)
        if not stems:
            return []
        more = [stem for stem in distinct(optional) if stem not in stems]
        look = _Look(stems, more, distinct(excluded), only, num, by_video=level == "video")
        found: list[Match] = []
        for name in LEVELS:
            if self.info.num_documents[name]:
                found += self._of_level(name, look, terms[name])
        found.sort(key=lambda match: -match.score)
        return (best_of_each(found) if look.by_video else found)[:num]

    @cached_property
    def vocabulary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The words of titles, captions and tags, and the tags, casefolded: with the number of
        videos that have each, deleted ones of this generation included."""
        terms = self._levels["video"].searcher.terms_with_prefix
        return dict(terms("plain", "")), dict(terms("tag", ""))

    def _of_level(self, name: str, look: "_Look", terms: TermStatistics) -> list[Match]:
        """Looks at more and more of tantivy's best until the best by the collection's statistics
        must be among them."""
        index = self._levels[name]
        one_a_video = name == "video" or not look.by_video
        is_filtered = look.only is not None or bool(self._masked or look.excluded)
        limit = max(_FIRST_LOOK if is_filtered else 0, 2 * look.num)
        own = index.statistics([*look.stems, *look.optional])
        # A length counts for more here where texts are longer in this index than in all.
        slack = _ROUNDING
        if own.mean_length:
            slack *= max(1.0, terms.mean_length / own.mean_length)
        within = None
        while True:
            found = index.best(look, limit=limit, only=within, own=own, terms=terms)
            fits = self._fitting(name, look, found)
            has_all = len(found) < limit or limit >= self.info.num_documents[name]
            if (
                has_all
                or len(fits if one_a_video else {each.video_id for each in fits}) >= look.num
            ):
                matches, is_sure = index.exact(look, fits, slack=slack, terms=terms)
                if is_sure or has_all or limit >= _MAX_LOOK:
                    return matches
            limit, within = 4 * limit, look.only

    def _fitting(self, name: str, look: "_Look", found: "list[_Found]") -> "list[_Found]":
        """Those of videos that may be found."""
        ids = np.array([each.video_id for each in found], dtype=np.int64)
        fits = np.ones(len(ids), dtype=bool) if look.only is None else np.isin(ids, look.only)
        if self._masked:
            fits &= ~np.isin(ids, list(self._masked))
        if look.excluded and name == "moment":
            own_texts = self._levels["video"]
            fits &= ~np.isin(ids, own_texts.having(look.excluded, np.unique(ids[fits])))
        return [each for each, is_fitting in zip(found, fits.tolist(), strict=True) if is_fitting]


@dataclass(frozen=True, eq=False)
class _Look:
    """The arguments of a search; each stem comes once."""

    stems: list[str]
    optional: list[str]
    excluded: list[str]
    only: np.ndarray | None
    num: int
    by_video: bool


class _Found(NamedTuple):
    """A document, before what it stores is read."""

    score: float  # tantivy's
    address: "DocAddress"
    video_id: int
    length: int
    order: int
    start_seconds: float | None = None
    end_seconds: float | None = None


class _LexicalLevel:
    """One of the two indexes, opened."""

    def __init__(self, path: Path, info: LexicalInfo, level: str) -> None:
        import tantivy

        self._level = level
        with linked(path, level_files(info, level)) as scratch:
            try:
                index = tantivy.Index.open(str(scratch))
                index.config_reader("manual")  # the files never change
                self.schema: Schema = index.schema
                self.searcher: Searcher = index.searcher()
                self._length = self._sum_of_lengths()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # what is no Exception stands for a panic in Rust
                raise ValueError(damaged(path)) from error
        if self.searcher.num_docs != info.num_documents.get(level):
            raise ValueError(damaged(path))

    def statistics(self, stems: Sequence[str]) -> TermStatistics:
        frequencies = {stem: self.searcher.doc_freq("words", stem) for stem in stems}
        return TermStatistics(self.searcher.num_docs, self._length, frequencies)

    def best(
        self,
        look: _Look,
        *,
        limit: int,
        only: np.ndarray | None,
        own: TermStatistics,
        terms: TermStatistics,
    ) -> list[_Found]:
        """Returns at most `limit` documents that have some of the stems, best first by tantivy,
        with each stem's weight brought to that of the collection."""
        from tantivy import Occur, Query

        def weighted(stems: Sequence[str]) -> list[tuple[Any, Any]]:
            return [
                (
                    Occur.Should,
                    Query.boost_query(term, terms.rarity(stem) / own.rarity(stem)),
                )
                for stem, term in zip(stems, self._terms(stems), strict=True)
            ]

        clauses = weighted(look.stems)
        if look.optional:
            clauses = [(Occur.Must, Query.boolean_query(clauses)), *weighted(look.optional)]
        clauses += [(Occur.MustNot, term) for term in self._terms(look.excluded)]
        query = Query.boolean_query(clauses)
        if only is not None:
            query = Query.boolean_query([(Occur.Must, query), (Occur.Must, self._among(only))])
        hits = self.searcher.search(query, limit, count=False).hits
        if not hits:
            return []
        scores, addresses = zip(*hits, strict=True)
        names = ["video", "length", "order", *(() if self._level == "video" else ("start", "end"))]
        values = [self.searcher.fast_field_values(name, list(addresses)) for name in names]
        found = [_Found(*each) for each in zip(scores, addresses, *values, strict=True)]
        return sorted(found, key=lambda each: (-each.score, each.order, each.start_seconds or 0.0))

    def exact(
        self, look: _Look, found: Sequence[_Found], *, slack: float, terms: TermStatistics
    ) -> tuple[list[Match], bool]:
        """Scores documents by the collection's statistics, until no other can be among the best.

        Args:
            slack: by how much a score may be greater than tantivy's.

        Returns:
            The matches, and whether the best are surely among them.
        """
        stems = [*look.stems, *look.optional]
        bm25 = Bm25(stems, terms)
        matches: list[Match] = []
        scores: dict[int, float] = {}  # the best of each video, or of each document
        alike: dict[tuple[float, int], float] = {}  # of documents that tantivy scores alike
        last = lowest = 0.0
        for number, each in enumerate(found):
            if len(scores) >= look.num:
                if each.score != last:
                    lowest = sorted(scores.values(), reverse=True)[look.num - 1]
                    last = each.score
                if each.score * slack < lowest:
                    return matches, True
                # Of documents that score alike those with the first ids count, which came before.
                if alike.get((each.score, each.length), lowest + 1) <= lowest:
                    continue
            match = self._match(each, stems, bm25)
            matches.append(match)
            alike[each.score, each.length] = match.score
            key = each.video_id if look.by_video else number
            scores[key] = max(match.score, scores.get(key, 0.0))
        return matches, False

    def _match(self, found: _Found, stems: Sequence[str], bm25: Bm25) -> Match:
        """A document with what it stores."""
        stored = self.searcher.doc(found.address)
        words = _text(stored.get_first("stems")).split(" ")
        counts = {stem: count for stem in stems if (count := words.count(stem))}
        score = bm25.score(counts, found.length)
        match = (found.video_id, self._level, score, counts, found.length)
        if self._level == "video":
            return Match(*match)
        source, text = (_text(stored.get_first(name)) for name in ("source", "text"))
        return Match(*match, source, found.start_seconds, found.end_seconds, text)

    def having(self, stems: list[str], among: np.ndarray) -> np.ndarray:
        """`(n,)` int64, those of these videos that have any of these stems."""
        from tantivy import Occur, Query

        if not len(among):
            return among
        any_term = Query.boolean_query([(Occur.Should, term) for term in self._terms(stems)])
        query = Query.boolean_query([(Occur.Must, any_term), (Occur.Must, self._among(among))])
        hits = self.searcher.search(query, len(among), count=False).hits
        addresses = [address for _, address in hits]
        found = self.searcher.fast_field_values("video", addresses) if hits else []
        return np.array(found, dtype=np.int64)

    def _sum_of_lengths(self) -> int:
        from tantivy import Query

        if not self.searcher.num_docs:
            return 0
        total = self.searcher.aggregate(Query.all_query(), {"length": {"sum": {"field": "length"}}})
        return int(total["length"]["value"])

    def _terms(self, stems: Sequence[str]) -> "Iterator[Query]":
        from tantivy import Query

        for stem in stems:
            yield Query.term_query(self.schema, "words", stem, "freq")

    def _among(self, video_ids: np.ndarray) -> "Query":
        from tantivy import Query

        return Query.const_score_query(
            Query.term_set_query(self.schema, "video", video_ids.tolist()), 0.0
        )


def distinct(stems: Sequence[str]) -> list[str]:
    """Stems of a query, each once; those of very long queries are cut off."""
    return list(dict.fromkeys(stems))[:_MAX_WORDS]


def best_of_each(matches: Sequence[Match]) -> list[Match]:
    """The first of each video."""
    first: dict[int, Match] = {}
    for match in matches:
        first.setdefault(match.video_id, match)
    return list(first.values())


def _text(stored: Any) -> str:
    return bytes(stored or b"").decode(errors="replace")
