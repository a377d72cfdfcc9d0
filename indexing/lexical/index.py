"""Words -> the videos, and the seconds in them, whose texts have these words.

The lexical index of a generation is a folder beside its FAISS files: two indexes of tantivy, of the
videos' own texts and of their timed ones, so that the lengths of texts are compared with those of
their kind, and a table that says what of the catalogue they hold. It is derived from the catalogue
and never changed once written.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from reelseek.indexing.lexical.files import LexicalInfo, check_files, read_table
from reelseek.indexing.lexical.found import FoundTexts, Match, best_texts
from reelseek.indexing.lexical.level import FoundDocument, LexicalLevel, TextLook
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.store.manifest import LEVELS

_MAX_WORDS = 64  # of a query; more say no more
_FIRST_LOOK = 256  # matches looked at before a filter becomes part of the query
_MAX_LOOK = 4096  # matches looked at for the best; beyond, those that score alike are not ordered
_ROUNDING = 1 + 1e-4  # of tantivy's scores, which are float32


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
        self._levels = {level: LexicalLevel(path, info, level) for level in LEVELS}

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
            Best first; documents of the same score in the order of their videos' public ids.
        """
        found = self.find(
            stems,
            num=num,
            terms=terms,
            optional=optional,
            excluded=excluded,
            only=only,
            level=level,
        )
        return self.read(found, stems, optional=optional)

    def read(
        self, found: FoundTexts, stems: Sequence[str], *, optional: Sequence[str] = ()
    ) -> list[Match]:
        """Reads what documents store, and counts stems in it."""
        stems = list(dict.fromkeys([*distinct(stems), *distinct(optional)]))
        return [
            self._levels[LEVELS[level]].match(found, number, stems)
            for number, level in enumerate(found.levels.tolist())
        ]

    def find(
        self,
        stems: Sequence[str],
        *,
        num: int,
        terms: Mapping[str, TermStatistics],
        optional: Sequence[str] = (),
        excluded: Sequence[str] = (),
        only: np.ndarray | None = None,
        level: str = "video",
    ) -> FoundTexts:
        """Finds the documents of `search`, best first, and reads only some of those that score
        alike."""
        stems = distinct(stems)
        if not stems:
            return FoundTexts.none()
        more = [stem for stem in distinct(optional) if stem not in stems]
        look = TextLook(stems, more, distinct(excluded), only, num, by_video=level == "video")
        found = FoundTexts.concatenate(
            [
                self._of_level(name, look, terms[name])
                for name in LEVELS
                if self.info.num_documents[name]
            ]
        )
        return best_texts(found, num=num, by_video=look.by_video)

    @cached_property
    def vocabulary(self) -> tuple[dict[str, int], dict[str, int]]:
        """The words of titles, captions and tags, and the tags, casefolded: with the number of
        videos that have each, deleted ones of this generation included."""
        terms = self._levels["video"].searcher.terms_with_prefix
        return dict(terms("plain", "")), dict(terms("tag", ""))

    def _of_level(self, name: str, look: TextLook, terms: TermStatistics) -> FoundTexts:
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
                scored, is_sure = index.exact(look, fits, slack=slack, terms=terms)
                if is_sure or has_all or limit >= _MAX_LOOK:
                    return scored
            limit, within = 4 * limit, look.only

    def _fitting(
        self, name: str, look: TextLook, found: list[FoundDocument]
    ) -> list[FoundDocument]:
        """Those of videos that may be found."""
        ids = np.array([each.video_id for each in found], dtype=np.int64)
        fits = np.ones(len(ids), dtype=bool) if look.only is None else np.isin(ids, look.only)
        if self._masked:
            fits &= ~np.isin(ids, list(self._masked))
        if look.excluded and name == "moment":
            own_texts = self._levels["video"]
            fits &= ~np.isin(ids, own_texts.having(look.excluded, np.unique(ids[fits])))
        return [each for each, is_fitting in zip(found, fits.tolist(), strict=True) if is_fitting]


def distinct(stems: Sequence[str]) -> list[str]:
    """Stems of a query, each once; those of very long queries are cut off."""
    return list(dict.fromkeys(stems))[:_MAX_WORDS]
