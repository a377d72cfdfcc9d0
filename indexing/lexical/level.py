"""One of the two indexes of tantivy in a lexical index: of the videos' own texts, or of timed ones.

tantivy finds candidates, ordered by BM25 with its own statistics. They are ordered again by
`lexical.scoring` with those of the whole collection, of which this index may be one shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reelseek.indexing.lexical.files import LexicalInfo, damaged, level_files, linked
from reelseek.indexing.lexical.found import FoundTexts, Match
from reelseek.indexing.lexical.scoring import Bm25, TermStatistics
from reelseek.indexing.store.manifest import LEVELS

if TYPE_CHECKING:
    from tantivy import DocAddress, Query, Schema, Searcher


@dataclass(frozen=True, eq=False)
class TextLook:
    """The arguments of a search; each stem comes once."""

    stems: list[str]
    optional: list[str]
    excluded: list[str]
    only: np.ndarray | None
    num: int
    by_video: bool


class FoundDocument(NamedTuple):
    """A document, before what it stores is read."""

    score: float  # tantivy's
    address: "DocAddress"
    video_id: int
    length: int
    order: int
    start_seconds: float | None = None
    end_seconds: float | None = None


class LexicalLevel:
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
        look: TextLook,
        *,
        limit: int,
        only: np.ndarray | None,
        own: TermStatistics,
        terms: TermStatistics,
    ) -> list[FoundDocument]:
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
        found = [FoundDocument(*each) for each in zip(scores, addresses, *values, strict=True)]
        return sorted(found, key=lambda each: (-each.score, each.order, each.start_seconds or 0.0))

    def exact(
        self, look: TextLook, found: Sequence[FoundDocument], *, slack: float, terms: TermStatistics
    ) -> tuple[FoundTexts, bool]:
        """Scores documents by the collection's statistics, until no other can be among the best.

        Args:
            slack: by how much a score may be greater than tantivy's.

        Returns:
            The documents, and whether the best are surely among them.
        """
        stems = [*look.stems, *look.optional]
        bm25 = Bm25(stems, terms)
        scored: list[tuple[FoundDocument, float]] = []
        scores: dict[int, float] = {}  # the best of each video, or of each document
        # Documents of one length that tantivy scores alike have as many of each stem, or of stems
        # that are as rare: one of them is read.
        alike: dict[tuple[float, int], float] = {}
        is_sure = False
        last = lowest = 0.0
        for number, each in enumerate(found):
            if len(scores) >= look.num:
                if each.score != last:
                    lowest = sorted(scores.values(), reverse=True)[look.num - 1]
                    last = each.score
                if each.score * slack < lowest:
                    is_sure = True
                    break
                # Of documents that score alike those with the first ids count, which came before.
                if alike.get((each.score, each.length), lowest + 1) <= lowest:
                    continue
            score = alike.get((each.score, each.length))
            if score is None:
                counts, _ = self._counts(each.address, stems)
                score = alike[each.score, each.length] = bm25.score(counts, each.length)
            scored.append((each, score))
            key = each.video_id if look.by_video else number
            scores[key] = max(score, scores.get(key, 0.0))
        return self._found_texts(scored), is_sure

    def match(self, found: FoundTexts, number: int, stems: Sequence[str]) -> Match:
        """Reads what one of the found documents stores."""
        from tantivy import DocAddress

        segment, document = found.addresses[number].tolist()
        counts, stored = self._counts(DocAddress(segment, document), stems)
        match = Match(
            int(found.videos[number]),
            self._level,
            float(found.scores[number]),
            counts,
            int(found.lengths[number]),
        )
        if self._level == "video":
            return match
        start, end = found.spans[number].tolist()
        return replace(
            match,
            source=_text(stored.get_first("source")),
            text=_text(stored.get_first("text")),
            start_seconds=start,
            end_seconds=end,
        )

    def _counts(self, address: "DocAddress", stems: Sequence[str]) -> tuple[dict[str, int], Any]:
        """Counts stems in a document, and returns what else it stores."""
        stored = self.searcher.doc(address)
        words = _text(stored.get_first("stems")).split(" ")
        return {stem: count for stem in stems if (count := words.count(stem))}, stored

    def _found_texts(self, scored: Sequence[tuple[FoundDocument, float]]) -> FoundTexts:
        if not scored:
            return FoundTexts.none()
        found = [each for each, _ in scored]
        spans = [(each.start_seconds, each.end_seconds) for each in found]
        return FoundTexts(
            np.array([each.video_id for each in found], np.int64),
            np.full(len(found), LEVELS.index(self._level), np.int8),
            np.array([(each.address.segment_ord, each.address.doc) for each in found], np.int64),
            np.array([score for _, score in scored], np.float64),
            np.array([each.order for each in found], np.int64),
            np.array(spans, np.float64),  # None becomes NaN
            np.array([each.length for each in found], np.int64),
        )

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


def _text(stored: Any) -> str:
    return bytes(stored or b"").decode(errors="replace")
