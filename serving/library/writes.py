"""The writes to an index: each is durable when it returns, and the next search sees it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from reelseek.indexing.remote.publication import is_published_copy
from reelseek.indexing.shards.opening import AnyWriter, open_catalogue, open_writer
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.videos import VideoRecord
from reelseek.serving.library.errors import Busy, InvalidRequest, NotFound
from reelseek.serving.library.state import StateToken

T = TypeVar("T")

_LOCK_SECONDS = 15.0  # for another program, such as `reelseek index` by hand, to finish
_LOOK_EVERY_SECONDS = 0.2


def delete_videos(index: Path, public_ids: Sequence[str]) -> StateToken:
    """Deletes videos; later runs of the service leave them out.

    Raises:
        NotFound: the index has no such video; nothing is deleted then.
        Busy: another program writes the index.
    """
    with _writer(index) as writer:
        writer.catalogue.exclude(_records(writer, public_ids))
        return _published(writer)


def change_metadata(
    index: Path, public_id: str, changes: dict[str, Any]
) -> tuple[StateToken, dict[str, Any]]:
    """Changes metadata of a video, also for later runs; returns all of its metadata, too.

    Args:
        changes: new values; None removes one.

    Raises:
        NotFound: the index has no such video.
        Busy: another program writes the index.
    """
    with _writer(index) as writer:
        (record,) = _records(writer, [public_id])
        metadata = writer.catalogue.edit(record, changes)
        return _published(writer), metadata


def is_any_excluded(index: Path, paths: Sequence[str]) -> bool:
    """Whether any of these files was deleted through the service."""
    if not Manifest.exists(index):
        return False
    with closing(open_catalogue(index)) as catalogue:
        return any(video.path in paths for video in catalogue.excluded())


def include_paths(index: Path, paths: Sequence[str]) -> None:
    """Has later runs of the service take these files again, where they were deleted through it."""
    with _writer(index) as writer:
        excluded = writer.catalogue.excluded()
        writer.catalogue.include([video for video in excluded if video.path in paths])


def current_state(index: Path) -> StateToken:
    """Returns the newest published state."""
    return _state_of(Manifest.read(index))


def find_by_path(index: Path, paths: Sequence[str]) -> dict[str, VideoRecord]:
    """Returns the videos of an index that lie there, by path."""
    if not Manifest.exists(index):
        return {}
    with closing(open_catalogue(index)) as catalogue:
        marks = ", ".join("?" * len(paths))
        return {r.path: r for r in catalogue.matching(f"path IN ({marks})", list(paths))}


@contextmanager
def _writer(index: Path) -> Iterator[AnyWriter]:
    if not Manifest.exists(index):
        raise NotFound("the index is not made yet")
    if is_published_copy(index):
        raise InvalidRequest("the index is a copy of a published one, which is only searched")
    writer = _patiently(lambda: open_writer(index))
    with writer:
        yield writer


def _patiently(open_writer: Callable[[], T]) -> T:
    """Waits for another program that writes the index, for a while."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return open_writer()
        except ValueError as error:
            if not isinstance(error.__cause__, Timeout):
                raise
            if time.monotonic() > deadline:
                raise Busy("another program writes the index; try again later") from error
        time.sleep(_LOOK_EVERY_SECONDS)


def _records(writer: AnyWriter, public_ids: Sequence[str]) -> list[VideoRecord]:
    found = writer.catalogue.by_public_id(public_ids)
    for public_id in public_ids:
        if public_id not in found:
            raise NotFound(f"the index has no video {public_id[:40]}")
    return list(found.values())


def _published(writer: AnyWriter) -> StateToken:
    # Training would let a short write take minutes; the next run does it.
    return _state_of(writer.publish(train=False))


def _state_of(manifest: Manifest) -> StateToken:
    return StateToken(manifest.generation, manifest.revision)
