"""Words -> the videos, and the seconds in them, whose texts have these words.

The lexical index of a generation is a folder beside its FAISS files: two indexes of tantivy, of the
videos' own texts and of their timed ones, so that the lengths of texts are compared with those of
their kind, and a table that says what of the catalogue they hold. It is derived from the catalogue
and never changed once written. Scores are BM25 (Robertson and Zaragoza, "The Probabilistic
Relevance Framework", 2009, section 3.2), as tantivy computes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reelseek.indexing.lexical.files import (
    LEVELS,
    LexicalInfo,
    check_files,
    damaged,
    level_files,
    linked,
    read_table,
)

if TYPE_CHECKING:
    from tantivy import DocAddress, Query, Schema, Searcher

_MAX_WORDS = 64  # of a query; more say no more
_FIRST_LOOK = 256  # matches looked at before a filter becomes part of the query


@dataclass(frozen=True)
class Match:
    """A document that was found.

    Attributes:
        source: of a timed text, `ocr` or `speech`; empty for what is said about a whole video.
        text: of a timed text.
    """

    score: float
    video_id: int
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
        self._forgotten: set[int] = set()
        path = check_files(folder, info)
        read_table(path)
        self._levels = {level: _LexicalLevel(path, info, level) for level in LEVELS}

    def mask_deleted(self, video_ids: Sequence[int]) -> None:
        """Leaves out videos that have been deleted since."""
        # A new set, since searches of other threads read the old one.
        self._forgotten = self._forgotten | set(video_ids)

    def search(
        self,
        stems: Sequence[str],
        *,
        k: int,
        also: Sequence[str] = (),
        excluded: Sequence[str] = (),
        only: np.ndarray | None = None,
        level: str = "video",
    ) -> list[Match]:
        """The documents that have these stems, best first.

        Args:
            k: matches to return; fewer come back where there are fewer.
            also: stems that count for documents that have others, and find none by themselves.
            excluded: stems of which a document may have none, nor what is said about its video.
            only: ids of the videos that may be found, ascending; None for all.
            level: `video` gives each video once, for its best document; `moment` all documents.
        """
        stems_any, stems_none = _different(stems), _different(excluded)
        more = [stem for stem in _different(also) if stem not in stems_any]
        if not stems_any:
            return []
        found: list[_Found] = []
        for name, index in self._levels.items():
            if self.info.num_documents[name]:
                found += self._of_level(name, index, (stems_any, more), k, stems_none, only, level)
        found.sort(key=lambda each: (-each.score, each.video_id, each.start_seconds or 0.0))
        if level == "video":
            best: dict[int, _Found] = {}
            for each in found:
                best.setdefault(each.video_id, each)
            found = list(best.values())
        return [self._levels[each.level].shown(each) for each in found[:k]]

    @cached_property
    def vocabulary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The words of titles, captions and tags, and the tags, casefolded: with the number of
        videos that have each, deleted ones of this generation included."""
        terms = self._levels["video"].searcher.terms_with_prefix
        return dict(terms("plain", "")), dict(terms("tag", ""))

    def _of_level(
        self,
        name: str,
        index: "_LexicalLevel",
        stems: tuple[list[str], list[str]],
        k: int,
        excluded: list[str],
        only: np.ndarray | None,
        level: str,
    ) -> "list[_Found]":
        """Of one of the two indexes, the best k documents, or documents of the best k videos."""
        num_documents = self.info.num_documents[name]
        are_different = name == "video" or level == "moment"
        has_all = are_different and only is None and not self._forgotten and not excluded
        limit = min(num_documents, k if has_all else max(_FIRST_LOOK, 4 * k))
        within = None
        while True:
            found = index.best(stems, excluded, limit=limit, only=within)
            if has_all:
                return found
            ids = np.array([each.video_id for each in found], dtype=np.int64)
            may = np.ones(len(ids), dtype=bool) if only is None else np.isin(ids, only)
            if self._forgotten:
                may &= ~np.isin(ids, list(self._forgotten))
            if excluded and name == "moment":
                may &= ~np.isin(ids, self._levels["video"].having(excluded, np.unique(ids[may])))
            num_found = int(may.sum()) if are_different else len(np.unique(ids[may]))
            if num_found >= k or len(found) < limit or limit == num_documents:
                return [each for each, fits in zip(found, may.tolist(), strict=True) if fits]
            limit = min(num_documents, 4 * limit)
            within = only


class _Found(NamedTuple):
    """A document, before what it stores is read."""

    score: float
    level: str
    address: "DocAddress"
    video_id: int
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
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # what is no Exception stands for a panic in Rust
                raise ValueError(damaged(path)) from error
        if self.searcher.num_docs != info.num_documents.get(level):
            raise ValueError(damaged(path))

    def best(
        self,
        stems: tuple[list[str], list[str]],
        excluded: list[str],
        *,
        limit: int,
        only: np.ndarray | None,
    ) -> list[_Found]:
        """The best documents, at most `limit`, that have some of the first stems."""
        from tantivy import Occur, Query

        stems_any, also = stems
        clauses = [(Occur.Should, term) for term in self._terms(stems_any)]
        if also:
            clauses = [(Occur.Must, Query.boolean_query(clauses))]
            clauses += [(Occur.Should, term) for term in self._terms(also)]
        clauses += [(Occur.MustNot, term) for term in self._terms(excluded)]
        query = Query.boolean_query(clauses)
        if only is not None:
            query = Query.boolean_query([(Occur.Must, query), (Occur.Must, self._among(only))])
        hits = self.searcher.search(query, limit, count=False).hits
        if not hits:
            return []
        scores, addresses = zip(*hits, strict=True)
        names = ("video",) if self._level == "video" else ("video", "start", "end")
        values = [self.searcher.fast_field_values(name, list(addresses)) for name in names]
        each_level = [self._level] * len(hits)
        return [_Found(*each) for each in zip(scores, each_level, addresses, *values, strict=True)]

    def shown(self, found: _Found) -> Match:
        """A document with what it stores."""
        if self._level == "video":
            return Match(found.score, found.video_id)
        stored = self.searcher.doc(found.address)
        source, text = (_text(stored.get_first(name)) for name in ("source", "text"))
        times = found.start_seconds, found.end_seconds
        return Match(found.score, found.video_id, source, *times, text)

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

    def _terms(self, stems: list[str]) -> Iterator["Query"]:
        from tantivy import Query

        for stem in stems:
            yield Query.term_query(self.schema, "words", stem, "freq")

    def _among(self, video_ids: np.ndarray) -> "Query":
        from tantivy import Query

        return Query.const_score_query(
            Query.term_set_query(self.schema, "video", video_ids.tolist()), 0.0
        )


def _different(stems: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(stems))[:_MAX_WORDS]


def _text(stored: Any) -> str:
    return bytes(stored or b"").decode(errors="replace")
