"""An index -> a publication of it at a URL, from which searchers anywhere open it.

The contents go first, the one file that names them last, and only if nobody has published there
meanwhile: an interrupted publication leaves the old one in force, and the next one sends what is
missing.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reelseek.indexing.progress import progress_bar
from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.publication import (
    FILES,
    MANIFEST_NAME,
    Publication,
    PublishedFile,
    describe,
)
from reelseek.indexing.remote.retrying import (
    ObjectChangedError,
    ObjectMissingError,
    RemoteError,
    Retry,
)
from reelseek.indexing.remote.staging import staged_index
from reelseek.indexing.remote.store import Store, read_object
from reelseek.indexing.remote.stores import open_store

_PARALLEL = 4
_PART_ATTEMPTS = 4


@dataclass
class PublishSummary:
    """What was done.

    Attributes:
        files: of the publication.
        sent: contents that were not there yet, and their bytes.
        kept: contents that were there already.
        pruned: contents that were deleted, which this publication does not use.
        unchanged: whether the same publication was there.
    """

    files: int = 0
    sent: int = 0
    bytes_sent: int = 0
    kept: int = 0
    pruned: int = 0
    unchanged: bool = False
    seconds: float = 0.0


def publish_index(
    folder: Path,
    url: str,
    *,
    prune: bool = False,
    retry: Retry | None = None,
    timeout_seconds: float = 60.0,
    show_progress: bool = True,
) -> PublishSummary:
    """Publishes an index, whole or in shards.

    Args:
        folder: of the index; it is locked only for the moment in which its files are linked.
        url: of the publication, such as `s3://bucket/name`.
        prune: delete the contents that only earlier publications use, afterwards.

    Raises:
        ValueError: the folder is not an index, or is being written; the store failed for good, or
            another process published there meanwhile.
    """
    started = time.monotonic()
    retry, url = Retry() if retry is None else retry, url.rstrip("/")
    store = open_store(
        url, timeout_seconds=timeout_seconds, part_attempts=min(_PART_ATTEMPTS, retry.attempts)
    )
    try:
        with staged_index(folder) as staging:
            summary = _publish(staging, url, store, retry=retry, show_progress=show_progress)
        if prune:
            summary.pruned = _prune(url, store, retry)
    except ObjectChangedError as error:
        raise ValueError(
            f"to={url}: another process has published there meanwhile; run the command again"
        ) from error
    except RemoteError as error:
        raise ValueError(f"to={url}: {error}") from error
    summary.seconds = round(time.monotonic() - started, 2)
    return summary


def read_publication(
    url: str, store: Store, retry: Retry
) -> tuple[Publication | None, RemoteObject | None]:
    """Reads the publication in force, and the object that it was read from; None where there is
    none.

    Raises:
        ValueError: it is damaged.
        RemoteError: it cannot be read.
    """
    named = RemoteObject(f"{url}/{MANIFEST_NAME}")
    while True:
        try:
            there = retry.call(lambda: store.look(named))
            data = retry.call(partial(read_object, store, there))
        except ObjectMissingError:
            return None, None
        except ObjectChangedError:  # between the two requests
            continue
        return Publication.from_json(data, url), there


def _publish(
    staging: Path, url: str, store: Store, *, retry: Retry, show_progress: bool
) -> PublishSummary:
    paths = sorted(path for path in staging.rglob("*") if path.is_file())
    described = {path.relative_to(staging).as_posix(): describe(path) for path in paths}
    publication = Publication(described)
    before, there = read_publication(url, store, retry)
    sizes = dict(_stored(url, store, retry))
    files = publication.contents()
    of_content = {file.name: staging / path for path, file in described.items()}
    missing = [file for name, file in files.items() if sizes.get(name) != file.size_bytes]
    summary = PublishSummary(
        files=len(described),
        sent=len(missing),
        bytes_sent=sum(file.size_bytes for file in missing),
        kept=len(files) - len(missing),
        unchanged=before == publication and not missing,
    )

    def send(file: PublishedFile) -> None:
        retry.call(lambda: store.write(f"{url}/{file.name}", of_content[file.name]))

    bar = progress_bar(
        total=len(missing), desc="publishing", unit="file", disable=not show_progress
    )
    with ThreadPoolExecutor(_PARALLEL) as executor, bar:
        for _ in executor.map(send, missing):
            bar.update()
    if missing:
        sizes = dict(_stored(url, store, retry))
        lost = [file for name, file in files.items() if sizes.get(name) != file.size_bytes]
        if lost:
            raise RemoteError(f"{len(lost)} files that were sent are not there; run it again")
    if not summary.unchanged:
        content = publication.to_json()
        retry.call(lambda: _replace(f"{url}/{MANIFEST_NAME}", store, there, content))
    return summary


def _replace(url: str, store: Store, before: RemoteObject | None, content: bytes) -> None:
    """Puts a publication in force, if the one that was there still is."""
    try:
        store.replace(url, content, before)
    except ObjectChangedError:
        # The answer to an earlier attempt may have been lost.
        if read_object(store, store.look(RemoteObject(url))) != content:
            raise


def _stored(url: str, store: Store, retry: Retry) -> Iterator[tuple[str, int | None]]:
    """Yields the name below the URL and the size of each content that is there."""
    try:
        for page in store.pages(f"{url}/{FILES}", retry):
            for item in page:
                yield item.url[len(url) + 1 :], item.size_bytes
    except ObjectMissingError:  # the first publication, in a store that has folders
        return


def _prune(url: str, store: Store, retry: Retry) -> int:
    """Deletes the contents that the publication in force does not use."""
    publication, _ = read_publication(url, store, retry)
    used = set() if publication is None else publication.contents().keys()
    unused = [name for name, _ in _stored(url, store, retry) if name not in used]
    with ThreadPoolExecutor(_PARALLEL) as executor:
        list(executor.map(lambda name: retry.call(lambda: store.delete(f"{url}/{name}")), unused))
    return len(unused)
