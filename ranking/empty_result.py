"""A search without hits -> why: a filter that lets no video through, or how sure its best was."""

from collections.abc import Callable, Sequence

from reelseek.ranking.hits import SearchHit
from reelseek.ranking.request import QueryFilter, Request


def why_nothing(
    request: Request,
    *,
    count: Callable[[str], int],
    min_confidence: float = 0.0,
    first: SearchHit | None = None,
) -> str:
    """In one line, what left no hit.

    Args:
        count: returns how many videos pass a filter.
        first: the first hit there would be without `min_confidence`.
    """
    empty = [condition for condition in request.filters if not count(condition.where)]
    if empty:
        return _said("; ".join(f"no video {condition}" for condition in empty), empty)
    if request.where is not None and not count(request.where):
        together = " and also ".join(map(str, request.filters))
        return _said(f"no video {together}", request.filters)
    if first is not None:
        return (
            f"nothing matches: the first hit has a probability of {first.match} "
            f"(min_confidence={min_confidence:g})"
        )
    return "nothing matches"


def _said(message: str, filters: Sequence[QueryFilter]) -> str:
    """With the remedy, where a filter was read from a sentence."""
    if any(condition.source for condition in filters):
        message += "; to look for these words instead, put them in quotes"
    return message
