"""A URL of `videos=` -> the videos there, listed while they are worked on.

A prefix of a bucket is a folder; a URL that ends in `.txt` or `.jsonl` is a list; any other is one
video. A listing holds one page of keys in memory, whatever the bucket holds.
"""

import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin

from reelseek.indexing.remote.fetching import RemoteOptions
from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import ObjectMissingError, RemoteError, Retry
from reelseek.indexing.remote.stores import Stores
from reelseek.indexing.sources.collection import (
    LIST_SUFFIXES,
    Source,
    VideoItem,
    read_list,
    remote_item,
)
from reelseek.indexing.sources.walking import PassedOver
from reelseek.text.urls import check_url, is_url, public_url, scheme_of
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_MAX_LIST_BYTES = 1 << 30


@dataclass
class RemoteSource:
    """One URL of `videos=`, or the URLs in one list.

    Attributes:
        name: the URL without its query, or the path of the list.
        root: the URL that new keys are relative to; empty for lists.
        scope: a video at or below this URL that is not listed is gone; None for lists.
        problem: why it cannot be listed, or not to its end; else empty.
        passed_over: objects that are no videos.
    """

    name: str
    root: str = ""
    scope: str | None = None
    problem: str = ""
    passed_over: PassedOver = field(default_factory=PassedOver)
    _items: Iterator[VideoItem] = field(default_factory=lambda: iter(()), repr=False)

    def covers(self, url: str) -> bool:
        """Whether a video there is gone where this source does not list it."""
        scope = self.scope
        return scope is not None and (url == scope or url.startswith(f"{scope}/"))

    def items(self) -> Iterator[VideoItem]:
        """Yields the videos in the order of their keys, once; stops early where listing fails for
        good, and `problem` then says why."""
        try:
            yield from self._items
        except RemoteError as error:
            self._note(error)

    def first(self, *, default_problem: str) -> None:
        """Looks for the first video, so that what is wrong is known before work begins."""
        try:
            item = next(self._items, None)
        except RemoteError as error:
            self._note(error)
            return
        if item is None:
            self.problem = default_problem
        else:
            self._items = chain([item], self._items)

    def _note(self, error: RemoteError) -> None:
        is_missing = isinstance(error, ObjectMissingError)
        self.problem = f"cannot be listed ({'no such bucket or folder' if is_missing else error})"


def read_remote_sources(
    urls: Sequence[str], options: RemoteOptions, *, images: bool = False
) -> list[RemoteSource]:
    """Opens the URLs of `videos=`; see `read_remote_source`."""
    stores, retry = Stores(options.timeout_seconds), Retry(options.attempts)
    return [read_remote_source(url, stores, retry, images=images) for url in urls]


def read_remote_source(
    url: str, stores: Stores, retry: Retry, *, images: bool = False
) -> RemoteSource:
    """Opens one URL of `videos=`, and finds its first video.

    Args:
        images: take the photos below a prefix too.

    Raises:
        ValueError: the URL or the list is malformed, or a library is missing.
    """
    check_url("videos", url)
    name, scheme = public_url(url), scheme_of(url)
    suffix = PurePosixPath(name).suffix.lower()
    if "*" in name:
        raise ValueError(f"videos={name}: globs of URLs are not expanded; name the folder")
    store = stores.of(url)
    if suffix in LIST_SUFFIXES:
        return _from_list(url, stores, retry)
    if scheme in ("http", "https") or suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        items = iter([remote_item(url)])
        return RemoteSource(name, name.rpartition("/")[0], name, _items=items)
    root = name.rstrip("/")
    source = RemoteSource(name, root, root)
    objects = chain.from_iterable(store.pages(root, retry))
    source._items = _videos(objects, source, images=images)
    source.first(default_problem="holds no video")
    return source


def split_remote(sources: Sequence[Source]) -> tuple[list[Source], list[RemoteSource]]:
    """Separates the URLs in local lists from their paths.

    Raises:
        ValueError: a URL is malformed, or two differ in their query alone.
    """
    local, remote = [], []
    for source in sources:
        urls = [item for item in source.items if item.remote is not None]
        if urls:
            source = replace(source, items=[i for i in source.items if i.remote is None])
            remote.append(listed_urls(source.name, urls))
        local.append(source)
    return local, remote


def listed_urls(name: str, items: Sequence[VideoItem]) -> RemoteSource:
    """Returns the source of the URLs in a list.

    Raises:
        ValueError: a URL is malformed, or two differ in their query alone.
    """
    requests: dict[str, str] = {}
    for item in items:
        assert item.remote is not None
        url, request = item.remote.url, item.remote.request_url
        check_url(name, request or url)
        if requests.setdefault(url, request) != request:
            raise ValueError(
                f"{name}: {url} is listed twice with different queries, which are not stored"
            )
    return RemoteSource(name, _items=iter(items))


def _videos(
    objects: Iterator[RemoteObject], source: RemoteSource, *, images: bool
) -> Iterator[VideoItem]:
    """Yields the objects that a folder's listing would take as videos."""
    suffixes = VIDEO_SUFFIXES | (IMAGE_SUFFIXES if images else frozenset())
    for item in objects:
        below = item.url[len(source.root) + 1 :]
        if below.endswith("/") or any(map(_is_hidden, below.split("/"))):
            continue  # a marker of a folder, or hidden
        suffix = PurePosixPath(below).suffix.lower()
        if suffix in suffixes:
            yield VideoItem(item.url, Path(item.cached_name()), remote=item)
        else:
            kind = "photo" if suffix in IMAGE_SUFFIXES else "other file"
            source.passed_over.add(kind, below)


def _is_hidden(part: str) -> bool:
    return part.startswith(".") and part not in (".", "..")


def _from_list(url: str, stores: Stores, retry: Retry) -> RemoteSource:
    name = public_url(url)

    def locate(listed: str, metadata: dict | None) -> VideoItem:
        return remote_item(listed if is_url(listed) else _below(url, listed), metadata)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"list{PurePosixPath(name).suffix.lower()}")
        try:
            _download_list(RemoteObject(name, request_url=url), path, stores, retry)
        except RemoteError as error:
            return RemoteSource(name, problem=f"cannot be read ({error})")
        items = read_list(path, name=name, locate=locate)
    source = listed_urls(name, items)
    source.problem = "" if items else "holds no video"
    return source


def _below(list_url: str, name: str) -> str:
    """Returns the URL of a name that is relative to a list; nothing in it is expanded."""
    if scheme_of(list_url) in ("http", "https"):
        return urljoin(list_url, name)
    bucket, _, key = list_url.partition("://")[2].partition("/")
    joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(key), name))
    return f"{scheme_of(list_url)}://{bucket}/{joined.lstrip('/')}"


def _download_list(remote: RemoteObject, path: Path, stores: Stores, retry: Retry) -> None:
    with path.open("wb") as file:

        def request() -> None:
            file.seek(0)
            file.truncate()
            store = stores.of(remote.url)
            store.read(store.look(remote), 0, sink)

        def sink(data: bytes) -> None:
            if file.tell() + len(data) > _MAX_LIST_BYTES:
                raise RemoteError("a list may have 1 GiB at most")
            file.write(data)

        retry.call(request)
