"""Remote sources and the entries of an index -> what is new, changed or gone, a few thousand videos
at a time while the bucket is still being listed."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from reelseek.indexing.remote.fetching import Fetcher, RemoteOptions
from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import ObjectMissingError, RemoteError, Retry
from reelseek.indexing.remote.sources import RemoteSource
from reelseek.indexing.remote.stores import Stores
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.sources.diff import Diff
from reelseek.indexing.sources.roots import Collection
from reelseek.indexing.store.dates import without_capture_date
from reelseek.indexing.store.identity import make_root_id
from reelseek.indexing.store.videos import VideoRecord
from reelseek.text.urls import is_url

_AT_ONCE = 2048  # videos that are compared, then fetched and encoded


class RemoteRoots:
    """The roots of an index, and those of remote videos to add.

    Args:
        records: all that the index holds.
    """

    def __init__(self, records: Iterable[VideoRecord]) -> None:
        self._of_url: dict[str, VideoRecord] = {}
        self._ids: dict[str, str] = {}  # of remote roots, by URL
        self._taken: set[str] = set()
        for record in records:
            self._taken.add(record.root)
            if is_url(record.path):
                self._of_url.setdefault(record.path, record)
                self._ids.setdefault(record.root_path, record.root)

    def place(self, item: VideoItem, source_root: str) -> VideoItem:
        """Returns a video with its root and key in the index: those it has, else below the nearest
        root above it, else below its source's root, or the bucket or host for lists."""
        url = item.address
        if known := self._of_url.get(url):
            metadata = item.metadata
            if not item.is_described:
                metadata = without_capture_date(known.metadata)
            return replace(item, root=known.root, key=known.key, metadata=metadata)
        root = self._above(url)
        if root is None:
            is_below = bool(source_root) and url.startswith(f"{source_root}/")
            root = source_root if is_below else url[: _end_of_host(url)]
            self._add(root)
        return replace(item, root=self._ids[root], key=url[len(root) + 1 :])

    def _above(self, url: str) -> str | None:
        """Returns the nearest root that a URL lies below."""
        first, end = _end_of_host(url), len(url)
        while (end := url.rfind("/", first, end)) >= first:
            if url[:end] in self._ids:
                return url[:end]
        return None

    def _add(self, root: str) -> None:
        number = 0
        while (made := make_root_id(root, number)) in self._taken:
            number += 1
        self._ids[root] = made
        self._taken.add(made)


class RemoteVideos:
    """The remote videos of a run.

    Args:
        sources: their listings; each is read once.
        folder: for fetched files; it is emptied.
        edit: applies what people decided about single videos; None where they decided nothing.
        check_content: examine every object.
        retry_failed: examine objects that failed before, though they are the same.
        prune: delete remote videos that no source lists, too.
    """

    def __init__(
        self,
        sources: Sequence[RemoteSource],
        options: RemoteOptions | None = None,
        *,
        folder: Path,
        edit: Callable[[Collection], None] | None = None,
        check_content: bool = False,
        retry_failed: bool = False,
        prune: bool = False,
    ) -> None:
        self._sources = sources
        self._options = RemoteOptions() if options is None else options
        self._folder = folder
        self._edit = edit
        self._check_content = check_content
        self._retry_failed = retry_failed
        self._prune = prune
        self._stores = Stores(self._options.timeout_seconds)
        self._seen_ids: set[int] = set()

    @property
    def has_sources(self) -> bool:
        return bool(self._sources)

    @property
    def options(self) -> RemoteOptions:
        return self._options

    def fetcher(self) -> Fetcher:
        """Returns what fetches them."""
        return Fetcher(self._folder, self._stores, self._options)

    def diffs(self, records: Mapping[tuple[str, str], VideoRecord]) -> Iterator[Diff]:
        """Lists the sources, and compares their videos with the catalogue by size and ETag.

        Args:
            records: the catalogue's videos by root and key.
        """
        roots = RemoteRoots(records.values())
        listed: set[int] = set()  # hashes of URLs: two sources may list the same
        with ThreadPoolExecutor(self._options.parallel) as executor:
            for source in self._sources:
                items = source.items()
                while some := list(islice(items, _AT_ONCE)):
                    if len(self._sources) > 1:
                        some = [item for item in some if hash(item.address) not in listed]
                        listed.update(hash(item.address) for item in some)
                    chosen = Collection([roots.place(item, source.root) for item in some])
                    if self._edit is not None:
                        self._edit(chosen)
                    diff = Diff()
                    looks = executor.map(self._look, chosen.items)
                    for item, look in zip(chosen.items, looks, strict=True):
                        record = records.get(item.root_and_key)
                        if record is not None:
                            self._seen_ids.add(record.id)
                        self._compare(diff, item, look, record)
                    yield diff

    def gone(
        self, records: Iterable[VideoRecord]
    ) -> tuple[list[VideoRecord], list[tuple[VideoRecord, str]]]:
        """Returns the videos to delete, and those that cannot be looked at, with the reason.

        Call it after `diffs`.

        Args:
            records: all that the index holds.
        """
        removed, away = [], []
        for record in records:
            if record.id in self._seen_ids or not is_url(record.path):
                continue
            source = next((s for s in self._sources if s.covers(record.path)), None)
            if source is not None and source.problem:
                away.append((record, f"{source.name}: {source.problem}"))
            elif self._prune or source is not None:
                removed.append(record)
        return removed, away

    def _look(self, item: VideoItem) -> RemoteObject | RemoteError:
        remote = item.remote
        assert remote is not None
        if remote.is_looked_at:
            return remote
        try:
            retry = Retry(self._options.attempts)
            return retry.call(lambda: self._stores.of(remote.url).look(remote))
        except RemoteError as error:
            return error

    def _compare(
        self,
        diff: Diff,
        item: VideoItem,
        look: RemoteObject | RemoteError,
        record: VideoRecord | None,
    ) -> None:
        is_retried = self._retry_failed and record is not None and record.location is None
        again = self._check_content or is_retried
        if isinstance(look, ObjectMissingError):
            diff.missing.append((item, str(look)))
        elif isinstance(look, RemoteError):
            diff.unusable.append((item, f"cannot be looked at: {look}"))
        elif not _is_utf8(item.address):
            diff.unusable.append((item, "its URL is not UTF-8: rename it"))
        elif record is not None and not again and look.is_same(record.signature):
            diff.unchanged.append((item, record))
        else:
            diff.examine.append(replace(item, remote=look))
            diff.sizes_bytes[item.root_and_key] = look.size_bytes or 0


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _end_of_host(url: str) -> int:
    """Returns where the slash behind the host or bucket is."""
    return url.index("/", url.index("://") + 3)
