"""What a search is called with -> checked before anything is loaded or encoded for it."""

import logging
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.filters import parse_filter
from reelseek.indexing.store.manifest import LEVELS
from reelseek.ranking.query_parts import Similar, query_parts
from reelseek.ranking.request import SOURCES, check_sources
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


def check_types(**values: tuple[object, type | tuple[type, ...], str]) -> None:
    """Each argument with its value, the types it may have, and these in words.

    Raises:
        TypeError: names the first argument of another type, and what it takes.
    """
    for name, (value, allowed, words) in values.items():
        kinds = allowed if isinstance(allowed, tuple) else (allowed,)
        # A bool is an int to Python, but a slip where a number is taken.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError(f"{name} must be {words}, not {type(value).__name__}")


def check_search(
    query: Any,
    *,
    k: int,
    level: str,
    where: str | None,
    min_confidence: float,
    sources: Sequence[str] | None,
    analyze: bool,
) -> None:
    """Checks the arguments of `Searcher.search`, as far as no index is needed for it.

    Raises:
        TypeError: an argument is of a type that it does not take.
        ValueError: one is out of range, or a filter cannot be read.
    """
    check_query(query)
    check_types(
        k=(k, Integral, "a whole number"),
        level=(level, str, f"one of {', '.join(LEVELS)}"),
        where=(where, (str, type(None)), "a filter as a str, or None"),
        min_confidence=(min_confidence, Real, "a number from 0 to 1"),
        sources=(
            sources,
            (list, tuple, set, type(None)),
            f"a list of {', '.join(SOURCES)}",
        ),
        analyze=(analyze, bool, "True or False"),
    )
    if k < 1:
        raise ValueError(f"k={k}: must be at least 1")
    if level not in LEVELS:
        raise ValueError(f"level={level}: must be one of {', '.join(LEVELS)}")
    if not 0 <= min_confidence <= 1:
        raise ValueError(f"min_confidence={min_confidence}: must be 0 to 1")
    if sources is not None:
        check_sources(sources)
    if where is not None:
        parse_filter(where)


def check_query(query: Any) -> None:
    """Raises a TypeError where a part of a query, or its weight, is of another type."""
    for part, weight in query_parts(query):
        _check_part(part)
        check_types(**{"the weight of a query's part": (weight, Real, "a number")})


def _check_part(part: Any) -> None:
    is_embedding = isinstance(part, np.ndarray) and part.ndim == 1  # others may be images
    # Pillow's images have `convert`.
    is_other = isinstance(part, str | Path | Similar) or hasattr(part, "convert")
    if not is_embedding and not is_other:
        raise TypeError(
            "query must be a sentence (str), the path (Path) of an image or a video, a Pillow "
            "image, a Similar, an embedding (D,), or a list or mapping of these, not "
            f"{type(part).__name__}"
        )


def hint_at_paths(query: Any) -> None:
    """Says that a string is words even where it is the name of a file."""
    for part, _ in query_parts(query):
        if isinstance(part, str):
            _hint_at_path(part)


def _hint_at_path(text: str) -> None:
    suffix = os.path.splitext(text)[1].lower()
    if suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
        return
    if os.path.isfile(text) or len(text.split()) == 1:
        option = "image" if suffix in IMAGE_SUFFIXES else "video"
        logger.warning(
            "the query %r is taken as words; to search by the file, give Path(%r), or %s=%s on the "
            "command line",
            *(text, text, option, text),
        )
