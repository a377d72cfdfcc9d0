"""Videos -> a searchable index on disk; its answers; and the evaluation of retrieval.

The public names are imported when first used, so that `--help` need not wait for the libraries
behind them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexing.evaluation import CaptionedVideos, encode_captioned, measure
    from indexing.hits import LexicalHit, SearchHit, SearchResults
    from indexing.indexer import IndexSummary, update_index
    from indexing.manifest import IndexMismatchError, IndexSettings, Manifest
    from indexing.metrics import retrieval_metrics
    from indexing.reader import IndexReader
    from indexing.shutdown import StopRequest, stop_on_signals
    from indexing.sources import VideoItem, collect_videos

__all__ = [
    "CaptionedVideos",
    "IndexMismatchError",
    "IndexReader",
    "IndexSettings",
    "IndexSummary",
    "LexicalHit",
    "Manifest",
    "SearchHit",
    "SearchResults",
    "StopRequest",
    "VideoItem",
    "collect_videos",
    "encode_captioned",
    "measure",
    "retrieval_metrics",
    "stop_on_signals",
    "update_index",
]

_MODULES = {
    "CaptionedVideos": "evaluation",
    "IndexMismatchError": "manifest",
    "IndexReader": "reader",
    "IndexSettings": "manifest",
    "IndexSummary": "indexer",
    "LexicalHit": "hits",
    "Manifest": "manifest",
    "SearchHit": "hits",
    "SearchResults": "hits",
    "StopRequest": "shutdown",
    "VideoItem": "sources",
    "collect_videos": "sources",
    "encode_captioned": "evaluation",
    "measure": "evaluation",
    "retrieval_metrics": "metrics",
    "stop_on_signals": "shutdown",
    "update_index": "indexer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"indexing.{_MODULES[name]}"), name)
