"""Files on web servers, with or without ranges, lengths and ETags."""

from collections.abc import Callable, Iterator
from typing import Any

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.retrying import ObjectChangedError, Retry
from reelseek.indexing.remote.store import BLOCK_BYTES, Store, version_of
from reelseek.text.urls import public_url

_NO_HEAD = (400, 401, 403, 405, 501)  # also of a URL that is signed for GET alone
_IDENTITY = {"Accept-Encoding": "identity"}  # sizes are those of what arrives


class WebStore(Store):
    """Files on web servers."""

    def pages(self, url: str, retry: Retry) -> Iterator[list[RemoteObject]]:
        raise ValueError(f"{public_url(url)}: the web has no listing; name files, or a list")

    def look(self, item: RemoteObject) -> RemoteObject:
        info = self._wait(self._head(item), self._timeout)
        return RemoteObject(
            item.url, info.get("size"), *version_of(info), request_url=item.request_url
        )

    async def _head(self, item: RemoteObject) -> dict[str, Any]:
        session = await self._fs.set_session()
        request = self._fs.encode_url(item.request_url or item.url)
        async with session.head(request, allow_redirects=True, headers=_IDENTITY) as response:
            if response.status in _NO_HEAD:  # the answer to GET says it too
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
                if response.status == 416:
                    raise ObjectChangedError
                etag, _ = version_of(self._info(response))
                if item.etag and etag != item.etag:
                    raise ObjectChangedError
                to_skip = at if response.status != 206 else 0  # the server knows no ranges
                async for data in response.content.iter_chunked(BLOCK_BYTES):
                    rest = data[to_skip:]
                    to_skip -= min(to_skip, len(data))
                    if rest:
                        sink(rest)

        self._wait(stream(), self._stream_seconds(item, at))
