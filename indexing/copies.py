"""Videos that have the same content -> one of them in an answer, which names the others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from reelseek.indexing.hits import Copy
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord


class _OfVideo(Protocol):
    @property
    def video_id(self) -> int: ...


Found = TypeVar("Found", bound=_OfVideo)


def find_distinct(
    find: Callable[[int], tuple[Sequence[Found], Mapping[int, VideoRecord]]], k: int
) -> tuple[list[Found], Mapping[int, VideoRecord]]:
    """The first k that `find` gives, without those of copies of videos before them.

    Args:
        find: of how many to look for, what was found and the entries of its videos; fewer come
            back where there are fewer.
    """
    num = k
    while True:
        found, records = find(num)
        distinct = without_copies(found, records)
        if len(distinct) >= k or len(found) < num:
            return distinct[:k], records
        num *= 2


def without_copies(found: Iterable[Found], records: Mapping[int, VideoRecord]) -> list[Found]:
    """Leaves out what is of a copy of a video before it; several of one video stay."""
    chosen: dict[str, int] = {}
    return [
        each
        for each in found
        if chosen.setdefault(records[each.video_id].signature.content_sha256, each.video_id)
        == each.video_id
    ]


def copies_of(records: Iterable[VideoRecord], catalogue: Catalogue) -> dict[int, tuple[Copy, ...]]:
    """For each of these videos that has copies, which those are."""
    records = list(records)
    same = catalogue.same_contents({record.signature.content_sha256 for record in records})
    return {
        record.id: tuple(
            Copy(public_id, key, path)
            for public_id, key, path in same[record.signature.content_sha256]
            if public_id != record.public_id
        )
        for record in records
        if record.signature.content_sha256 in same
    }
