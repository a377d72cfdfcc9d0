"""The place in a ranking where its next page continues.

A score does not mark that place: fused scores are sums of ranks among the candidates that were
looked at, of which a deeper page looks at more, and moments of doubt stand behind sure ones of a
lower score. So a cursor names the hits that were shown, by short hashes, and the next page is the
best of those that it does not name. Whatever happens to the index between two pages, nothing is
shown twice, and nothing that stays in the ranking is left out: what has moved up meanwhile is on
the next page.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from reelseek.ranking.cursor import HASH_BYTES, MAX_SHOWN, Cursor
from reelseek.ranking.hits import SearchHit


def unseen(hits: Sequence[SearchHit], cursor: Cursor, *, level: str) -> list[SearchHit]:
    """Returns the hits that no page has shown, nor a copy of them."""
    shown = set(cursor.shown)
    return [hit for hit in hits if shown.isdisjoint(_hashes(hit, level))]


def numbered(page: Sequence[SearchHit], before: Cursor | None) -> list[SearchHit]:
    """Returns the hits of a page with ranks that count on from the pages before."""
    if before is None:
        return list(page)
    first = len(before.shown) + 1
    return [replace(hit, rank=rank) for rank, hit in enumerate(page, start=first)]


def next_cursor(
    page: Sequence[SearchHit],
    before: Cursor | None,
    *,
    num_ranked: int,
    num_unseen: int,
    k: int,
    level: str,
) -> Cursor | None:
    """Returns where the page after this one begins; None where there is none.

    Args:
        page: the hits to be shown, up to k of them.
        before: where this page began.
        num_ranked: hits that the ranking was found to have, of the first `depth + k`.
        num_unseen: hits, among them those of the page, that no page before has shown.
    """
    depth = k + (0 if before is None else before.depth)
    ends_here = num_ranked < depth and num_unseen <= len(page)
    if ends_here or not page or depth >= MAX_SHOWN:
        return None
    shown = () if before is None else before.shown
    return Cursor(depth, (*shown, *(_hashes(hit, level)[0] for hit in page)))


def _hashes(hit: SearchHit, level: str) -> list[bytes]:
    """Of the hit and of its copies, of which a new generation may show another."""
    stretch = "" if level == "video" else f"\0{hit.start_seconds:.3f}\0{hit.end_seconds:.3f}"
    return [
        hashlib.blake2b(f"{id}{stretch}".encode(), digest_size=HASH_BYTES).digest()
        for id in (hit.id, *(copy.id for copy in hit.also_as))
    ]
