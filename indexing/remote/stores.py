"""A URL -> what lists, looks at, reads and writes objects there: S3, the web, and whatever else
fsspec knows.

Each method is one request or one stream; `retrying.Retry` calls it again where it failed. fsspec
and its libraries are imported when the first URL is opened.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import (
    CutShortError,
    ObjectChangedError,
    Retry,
    status_of,
)
from reelseek.text.urls import public_url, scheme_of

_NEEDS = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub", "https": "aiohttp"}
_NEEDS["http"] = _NEEDS["https"]
_MIN_BYTES_PER_SECOND = 32 << 10  # a slower stream is cut, and read on from there
BLOCK_BYTES = 1 << 20
_ETAGS = ("ETag", "etag", "md5Hash", "generation", "blob_id")
_TIMES = ("LastModified", "mtime", "updated", "last_modified", "Last-Modified", "created")


class Store(ABC):
    """Where objects are; threads may share it.

    Args:
        fs: fsspec's file system.
        timeout_seconds: without an answer or a byte, after which a request has failed.
    """

    def __init__(self, fs: Any, timeout_seconds: float) -> None:
        self._fs = fs
        self._timeout = timeout_seconds

    @abstractmethod
    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        """Lists all objects below a URL, a page at a time, in the order of their keys."""

    @abstractmethod
    def look(self, item: RemoteObject) -> RemoteObject:
        """Returns an object with its present size and ETag.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        """Streams an object from byte `at` on.

        Raises:
            ObjectChangedError: it is no longer the one that was looked at.
        """

    def write(self, url: str, content: bytes | Path) -> None:
        """Writes an object, whole or not at all."""
        path = self._fs._strip_protocol(url)
        if isinstance(content, Path):
            seconds = self._timeout + content.stat().st_size / _MIN_BYTES_PER_SECOND
            self._call("put_file", str(content), path, seconds=seconds)
        else:
            self._call("pipe_file", path, content)

    def replace(self, url: str, content: bytes, before: RemoteObject | None) -> None:
        """Replaces an object, if it is still the one that was looked at, or is still missing.

        Raises:
            ObjectChangedError: it is another.
        """
        try:
            now: RemoteObject | None = self.look(RemoteObject(url))
        except FileNotFoundError:
            now = None
        if (now and now.version) != (before and before.version):
            raise ObjectChangedError
        self.write(url, content)

    def delete(self, url: str) -> None:
        self._call("rm_file", self._fs._strip_protocol(url))

    def _call(self, name: str, *arguments: Any, seconds: float = 0.0) -> Any:
        """Calls a method of the file system, with a limit of time where it is asynchronous."""
        if not self._fs.async_impl:
            return getattr(self._fs, name)(*arguments)
        return self._wait(getattr(self._fs, f"_{name}")(*arguments), seconds or self._timeout)

    def _wait(self, coroutine: Coroutine[Any, Any, Any], seconds: float) -> Any:
        limited = asyncio.wait_for(coroutine, seconds)
        return asyncio.run_coroutine_threadsafe(limited, self._fs.loop).result()

    def _stream_seconds(self, item: RemoteObject, at: int) -> float:
        """Returns how long a stream of the rest may take, however steadily it trickles."""
        size = item.size_bytes if item.size_bytes is not None else 1 << 40
        return self._timeout + max(0, size - at) / _MIN_BYTES_PER_SECOND


class S3Store(Store):
    """A bucket; keys are passed on exactly as they are."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        bucket, prefix = _bucket_and_key(url)
        prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        after: dict[str, str] = {}
        while True:
            # Each page is a request of its own, which goes on behind the last key.
            request = partial(
                self._request, "list_objects_v2", Bucket=bucket, Prefix=prefix, **after
            )
            page = retry.call(request)
            entries = page.get("Contents", [])
            yield [
                RemoteObject(
                    f"s3://{bucket}/{entry['Key']}",
                    entry["Size"],
                    entry.get("ETag", ""),
                    _seconds(entry.get("LastModified")),
                )
                for entry in entries
            ]
            if not page.get("IsTruncated") or not entries:
                return
            after = {"StartAfter": entries[-1]["Key"]}

    def look(self, item: RemoteObject) -> RemoteObject:
        bucket, key = _bucket_and_key(item.url)
        head = self._request("head_object", Bucket=bucket, Key=key)
        modified = _seconds(head.get("LastModified"))
        return RemoteObject(item.url, head["ContentLength"], head.get("ETag", ""), modified)

    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        bucket, key = _bucket_and_key(item.url)
        options = {"IfMatch": item.etag} if item.etag else {}
        if at:
            options["Range"] = f"bytes={at}-"

        async def stream() -> None:
            response = await asyncio.wait_for(
                self._fs._call_s3("get_object", Bucket=bucket, Key=key, **options), self._timeout
            )
            body = response["Body"]
            try:
                while data := await asyncio.wait_for(body.read(BLOCK_BYTES), self._timeout):
                    sink(data)
            finally:
                body.close()

        try:
            self._wait(stream(), self._stream_seconds(item, at))
        except OSError as error:
            if status_of(error) == 412:
                raise ObjectChangedError from error
            raise

    def replace(self, url: str, content: bytes, before: RemoteObject | None) -> None:
        bucket, key = _bucket_and_key(url)
        condition = {"IfNoneMatch": "*"} if before is None else {"IfMatch": before.etag}
        body: dict[str, Any] = {"Bucket": bucket, "Key": key, "Body": content}
        try:
            self._request("put_object", **body, **condition)
        except OSError as error:
            if status_of(error) == 501:  # a server without conditions
                super().replace(url, content, before)
            elif status_of(error) in (404, 409, 412):
                raise ObjectChangedError from error
            else:
                raise

    def _request(self, name: str, **values: Any) -> dict[str, Any]:
        return self._wait(self._fs._call_s3(name, **values), self._timeout)


class WebStore(Store):
    """Files on web servers."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        raise ValueError(f"{public_url(url)}: the web has no listing; name files, or a list")

    def look(self, item: RemoteObject) -> RemoteObject:
        info = self._wait(self._head(item), self._timeout)
        return RemoteObject(
            item.url, info.get("size"), *_version(info), request_url=item.request_url
        )

    async def _head(self, item: RemoteObject) -> dict[str, Any]:
        session = await self._fs.set_session()
        request = self._fs.encode_url(item.request_url or item.url)
        async with session.head(request, allow_redirects=True, headers=_IDENTITY) as response:
            if response.status in (405, 501):  # no HEAD: the answer to GET says it too
                async with session.get(request, headers=_IDENTITY) as response:
                    return self._info(response)
            return self._info(response)

    def _info(self, response: Any) -> dict[str, Any]:
        self._fs._raise_not_found_for_status(response, "")
        encoded = response.headers.get("Content-Encoding", "identity") != "identity"
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() and not encoded else None
        names = ("ETag", "Last-Modified")
        return {"size": size} | {name: response.headers.get(name) for name in names}

    def read(self, item: RemoteObject, at: int, sink: Callable[[bytes], None]) -> None:
        headers = dict(_IDENTITY)
        if at:
            headers["Range"] = f"bytes={at}-"

        async def stream() -> None:
            session = await self._fs.set_session()
            request = self._fs.encode_url(item.request_url or item.url)
            async with session.get(request, headers=headers) as response:
                if response.status == 416 or _version(self._info(response))[0] != item.etag:
                    raise ObjectChangedError
                to_skip = at if response.status != 206 else 0  # the server knows no ranges
                async for data in response.content.iter_chunked(BLOCK_BYTES):
                    rest = data[to_skip:]
                    to_skip -= min(to_skip, len(data))
                    if rest:
                        sink(rest)

        self._wait(stream(), self._stream_seconds(item, at))


class FsspecStore(Store):
    """Any other file system of fsspec, listed folder by folder."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        scheme = scheme_of(url)
        entries = retry.call(lambda: self._call("ls", self._fs._strip_protocol(url).rstrip("/")))
        files: list[RemoteObject] = []
        # Folders count with their slash: this is the order of the whole keys.
        for entry in sorted(
            entries, key=lambda entry: entry["name"] + "/" * (entry["type"] == "directory")
        ):
            child = f"{scheme}://{entry['name'].lstrip('/')}"
            if entry["type"] != "directory":
                files.append(RemoteObject(child, entry.get("size"), *_version(entry)))
                continue
            yield files
            files = []
            yield from self.pages(child, retry)
        yield files

    def look(self, item: RemoteObject) -> RemoteObject:
        info = self._call("info", self._fs._strip_protocol(item.url))
        return RemoteObject(item.url, info.get("size"), *_version(info))

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
        if self.look(item).version != item.version:
            raise ObjectChangedError


_IDENTITY = {"Accept-Encoding": "identity"}  # sizes are those of what arrives


def open_store(url: str, *, timeout_seconds: float = 60.0) -> Store:
    """Opens what holds a URL. Nothing is asked of the network yet.

    Raises:
        ValueError: a library that it needs is not installed.
    """
    scheme = scheme_of(url)
    try:
        import fsspec

        import_module(_NEEDS.get(scheme, "fsspec"))
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if scheme == "s3":
            # Trying again is done here, in one place and with one limit.
            options["config_kwargs"] = {
                "retries": {"max_attempts": 0},
                "connect_timeout": timeout_seconds,
                "read_timeout": timeout_seconds,
            }
        if scheme in ("http", "https"):
            from aiohttp import ClientTimeout

            limits = ClientTimeout(connect=timeout_seconds, sock_read=timeout_seconds)
            options["client_kwargs"] = {"timeout": limits, "trust_env": True}
        fs = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        needed = _NEEDS.get(scheme, "fsspec")
        remedy = "'reelseek[remote]'" if needed in ("s3fs", "aiohttp", "fsspec") else needed
        raise ValueError(f"{public_url(url)}: needs {needed}: pip install {remedy}") from error
    if scheme == "s3":
        fs.retries = 1
        return S3Store(fs, timeout_seconds)
    kind = WebStore if scheme in ("http", "https") else FsspecStore
    return kind(fs, timeout_seconds)


def read_object(store: Store, item: RemoteObject) -> bytes:
    """Reads a small object whole.

    Raises:
        ObjectChangedError: it is no longer the one that was looked at.
    """
    parts: list[bytes] = []
    store.read(item, 0, parts.append)
    data = b"".join(parts)
    if item.size_bytes is not None and len(data) < item.size_bytes:
        raise CutShortError("the response was cut short")
    return data


def _bucket_and_key(url: str) -> tuple[str, str]:
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def _version(info: dict[str, Any]) -> tuple[str, float | None]:
    """Returns what stands for the ETag, and the time of the last change."""
    lfs = info.get("lfs") or {}
    etag = lfs.get("sha256") or next((info[name] for name in _ETAGS if info.get(name)), "")
    modified = _seconds(next((info[name] for name in _TIMES if info.get(name)), None))
    if not etag and modified is not None:
        etag = f"{modified:.6f}"
    # A server that compresses calls the same ETag weak.
    return str(etag).removeprefix("W/"), modified


def _seconds(modified: Any) -> float | None:
    """Reads a time as a store gives it; None if it is none."""
    if isinstance(modified, int | float):
        return float(modified)
    try:
        if isinstance(modified, str):
            is_iso = modified[:4].isdecimal()
            modified = (
                datetime.fromisoformat(modified.replace("Z", "+00:00"))
                if is_iso
                else parsedate_to_datetime(modified)
            )
        if isinstance(modified, datetime):
            if modified.tzinfo is None:
                modified = modified.replace(tzinfo=timezone.utc)
            return modified.timestamp()
    except ValueError:
        pass
    return None
