"""The URL of a publication -> a folder on this machine that holds it, for readers of an index.

The cache holds each content once, under its SHA-256, and a folder of links for each publication.
What is there already is not fetched again; a publication that nobody reads goes when there is a
newer one, or when its bytes are needed.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.publication import (
    FILES,
    MANIFEST_NAME,
    Publication,
    PublishedFile,
    describe,
)
from reelseek.indexing.remote.publisher import read_publication
from reelseek.indexing.remote.retrying import CutShortError, RemoteError, Retry
from reelseek.indexing.remote.store import Store
from reelseek.indexing.remote.stores import open_store
from reelseek.indexing.store.atomic import write_atomically
from reelseek.text.urls import check_url, public_url
from reelseek.vision import default_cache_folder

_PARALLEL = 8
_GB = 1 << 30
_GENERATIONS = "generations"


@dataclass(frozen=True)
class Part:
    """Some of the files of an index, for a process that needs no others.

    Attributes:
        name: of the part, for its folder.
        holds: whether a path below the index's folder, with `/`, is in it.
    """

    name: str
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class OpenedPublication:
    """A publication that lies on this machine, and stays there until it is closed.

    Attributes:
        folder: an ordinary index, not to be changed.
    """

    folder: Path
    _lock: int

    def close(self) -> None:
        os.close(self._lock)


def open_published(
    url: str,
    cache: Path,
    *,
    cache_bytes: int = 50 * _GB,
    retry: Retry | None = None,
    timeout_seconds: float = 60.0,
    part: Part | None = None,
) -> OpenedPublication:
    """Opens the publication in force at a URL; fetches what the cache lacks of it.

    Args:
        cache: a folder that all publications may share; made if missing.
        cache_bytes: of all that lies in it.
        part: of the index to open; None for all.

    Raises:
        ValueError: there is no publication, it is damaged or larger than the cache may be, or it
            cannot be read.
    """
    check_url("index", url)
    retry, url = Retry() if retry is None else retry, url.rstrip("/")
    shown = public_url(url)
    store = open_store(url, timeout_seconds=timeout_seconds)
    try:
        publication, _ = read_publication(url, store, retry)
    except RemoteError as error:
        raise ValueError(f"index={shown}: cannot be opened: {error}") from error
    if publication is None:
        raise ValueError(
            f"index={shown}: holds no published index (it has no {MANIFEST_NAME}); publish one "
            "with reelseek publish"
        )
    own = cache / hashlib.sha256(shown.encode()).hexdigest()[:16]
    (own / _GENERATIONS).mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "fetching.lock"):
        name = publication.id
        if part is not None:
            name = f"{name}-{part.name}"
            held = {path: file for path, file in publication.files.items() if part.holds(path)}
            publication = Publication(held)
        folder = own / _GENERATIONS / name
        lock = _lock_shared(folder)
        try:
            if not _is_complete(folder):
                try:
                    _fetch(publication, url, folder, _Limits(cache, cache_bytes), store, retry)
                except RemoteError as error:
                    raise ValueError(f"index={shown}: cannot be fetched: {error}") from error
            _drop_unused(other for other in folder.parent.iterdir() if other != folder)
            os.utime(folder)
        except BaseException:
            os.close(lock)
            raise
    return OpenedPublication(folder, lock)


def open_published_index(
    url: str,
    cache: str | Path | None = None,
    *,
    cache_gb: float = 50.0,
    part: Part | None = None,
) -> OpenedPublication:
    """As `open_published`, with limits as people give them.

    Args:
        cache: default: a folder in the user's cache folder.
        part: of the index to open; None for all.
    """
    folder = default_cache_folder() / "indexes" if cache is None else Path(cache)
    return open_published(url, folder, cache_bytes=int(cache_gb * _GB), part=part)


@dataclass(frozen=True)
class _Limits:
    cache: Path
    total_bytes: int

    def make_room(self, num_bytes: int, name: str) -> None:
        """Deletes publications that nobody reads, the longest unused first, until so many bytes
        are free.

        Raises:
            ValueError: the others leave too little.
        """
        unused = sorted(self.cache.glob(f"*/{_GENERATIONS}/*/"), key=lambda p: p.stat().st_mtime)
        while _used_bytes(self.cache) + num_bytes > self.total_bytes:
            if not unused:
                raise ValueError(
                    f"index={name}: needs {num_bytes / _GB:.3g} GiB more, and index_cache_gb="
                    f"{self.total_bytes / _GB:.3g} leaves {self.cache} less; raise that"
                )
            _drop_unused([unused.pop(0)])


def _fetch(
    publication: Publication, url: str, folder: Path, limits: _Limits, store: Store, retry: Retry
) -> None:
    """Fetches the missing contents, and links them as the folder of an index."""
    own = folder.parent.parent
    missing = [file for file in publication.contents().values() if not _is_there(own, file)]
    if missing:
        limits.make_room(sum(file.size_bytes for file in missing), public_url(url))
    missing = [file for file in publication.contents().values() if not _is_there(own, file)]
    with ThreadPoolExecutor(_PARALLEL) as executor:
        list(executor.map(lambda file: _download(file, url, own, store, retry), missing))
    partial = folder.with_name(f"{folder.name}.partial")
    for stale in (partial, folder):
        shutil.rmtree(stale, ignore_errors=True)
    for path, file in publication.files.items():
        to = partial / path
        to.parent.mkdir(parents=True, exist_ok=True)
        os.link(own / file.name, to)
    write_atomically(partial / MANIFEST_NAME, publication.to_json())  # which writers refuse
    partial.rename(folder)


def _download(file: PublishedFile, url: str, own: Path, store: Store, retry: Retry) -> None:
    """Fetches one content, and compares its checksum."""
    path = own / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    remote = RemoteObject(f"{url}/{file.name}", file.size_bytes)

    def request() -> None:
        with partial.open("wb") as target:

            def sink(data: bytes) -> None:
                if target.tell() + len(data) > file.size_bytes:
                    raise CutShortError("the object is larger than it was published")
                target.write(data)

            store.read(remote, 0, sink)
        if describe(partial) != file:
            raise CutShortError("the object is not what was published")

    try:
        retry.call(request)
        partial.chmod(0o444)  # whoever changes a publication changes all that share this content
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_there(own: Path, file: PublishedFile) -> bool:
    try:
        return (own / file.name).stat().st_size == file.size_bytes
    except FileNotFoundError:
        return False


def _is_complete(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file()


def _lock_file(folder: Path) -> Path:
    return folder.parent.parent / f"{folder.name}.in-use"


def _lock_shared(folder: Path) -> int:
    """Holds a publication; the system frees it when the process dies."""
    descriptor = os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _drop_unused(folders: Iterable[Path]) -> None:
    """Deletes those of these publications that nobody holds, and the contents of no other."""
    for folder in list(folders):
        if not folder.is_dir():
            continue
        descriptor = os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            _lock_file(folder).unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        for path in _contents(folder.parent.parent):
            if path.stat().st_nlink == 1:
                path.unlink()


def _contents(own: Path) -> Iterator[Path]:
    return (path for path in own.glob(f"{FILES}/*/*") if path.is_file())


def _used_bytes(cache: Path) -> int:
    """Returns the bytes of all contents; links to them take none."""
    owns = (path for path in cache.iterdir() if path.is_dir())
    return sum(path.stat().st_size for own in owns for path in _contents(own))
