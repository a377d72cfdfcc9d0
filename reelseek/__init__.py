"""Finds the moment in the video: multimodal video retrieval with open_clip, decord and FAISS.

from reelseek import Searcher

with Searcher.open("DIR") as searcher:
    for hit in searcher.search("a dog catches a frisbee", k=5):
        print(hit)
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelseek.ranking.hits import SearchHit, SearchResults
    from reelseek.ranking.searcher import Searcher, search

__all__ = ["SearchHit", "SearchResults", "Searcher", "search"]

if (Path(__file__).parent / "indexing").is_symlink():
    from reelseek import _checkout

    _checkout.share_modules()


def __getattr__(name: str) -> object:
    if name in ("Searcher", "search"):
        from reelseek.ranking import searcher

        return getattr(searcher, name)
    if name in ("SearchHit", "SearchResults"):
        from reelseek.ranking import hits

        return getattr(hits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
