"""A search's hits -> how large a difference of their scores is one of relevance."""

from reelseek.ranking.hits import SearchResults
from reelseek.ranking.request import LEXICAL
from reelseek.ranking.searcher import Searcher

__all__ = ["score_unit"]

_RANK_CONSTANT = 60.0  # of `fuse_reciprocal_ranks`
_NUM_RANKS = 10  # of one source, that count as much as a standard deviation of cosines


def score_unit(searcher: Searcher, results: SearchResults, *, level: str) -> float:
    """Returns the unit of the hits' scores; 0 where their order is not by scores alone.

    Of hits that pictures found, it is the standard deviation of what everyday queries score in the
    collection, as cosines of each model have a range of their own. Where texts found some too,
    scores are sums of reciprocal ranks, and it is as much as ten of the first ranks differ by.
    """
    if not results or results.request is None or len(results.request.steps):
        return 0.0
    if any(each.source == LEXICAL for hit in results for each in hit.evidence):
        first = _RANK_CONSTANT + 1
        return _NUM_RANKS * (1 / first - 1 / (first + 1))
    background = searcher.retriever.background().background(level)
    return 0.0 if background is None else background.spread
