"""Objects of any other file system that fsspec knows, listed folder by folder."""

from collections.abc import Callable, Iterator
from functools import partial

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import CutShortError, ObjectChangedError, Retry
from reelseek.indexing.remote.store import BLOCK_BYTES, Store, version_of
from reelseek.text.urls import scheme_of


class FsspecStore(Store):
    """A file system of fsspec."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        scheme = scheme_of(url)
        folder = self._fs._strip_protocol(url).rstrip("/")
        entries = retry.call(partial(self._call, "ls", folder, detail=True))
        files: list[RemoteObject] = []
        # Folders count with their slash: this is the order of the whole keys.
        for entry in sorted(
            entries, key=lambda entry: entry["name"] + "/" * (entry["type"] == "directory")
        ):
            child = f"{scheme}://{entry['name'].lstrip('/')}"
            if entry["type"] != "directory":
                files.append(RemoteObject(child, entry.get("size"), *version_of(entry)))
                continue
            yield files
            files = []
            yield from self.pages(child, retry)
        yield files

    def look(self, item: RemoteObject) -> RemoteObject:
        path = self._fs._strip_protocol(item.url)
        self._fs.invalidate_cache(path)
        info = self._call("info", path)
        return RemoteObject(item.url, info.get("size"), *version_of(info))

    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        path = self._fs._strip_protocol(item.url)
        size = item.size_bytes
        while size is None or at < size:
            end = None if size is None else min(size, at + 8 * BLOCK_BYTES)
            data = self._call("cat_file", path, at, end)
            if end is not None and len(data) != end - at:
                raise CutShortError("the response was cut short")
            sink(data)
            at += len(data)
            if size is None:
                break
        if item.etag and self.look(item).version != item.version:
            raise ObjectChangedError
