"""A file, or bytes -> a response that can be sought in, sent piece by piece."""

import os
import stat
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from reelseek.serving.errors import error_body
from reelseek.serving.media.errors import MediaMissing, why_missing
from reelseek.serving.media.ranges import (
    UnsatisfiableRange,
    byte_range,
    http_date,
    is_not_modified,
)

_PIECE_BYTES = 256 << 10
_KEPT_SECONDS = 3600  # by browsers, before they ask whether it has changed
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a regular file; does not wait for a FIFO that took its place.

    Raises:
        MediaMissing: there is no regular file that can be read.
    """
    try:
        file = open(os.open(path, _OPEN_FLAGS), "rb", buffering=0)  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise MediaMissing(why_missing(str(path))) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise MediaMissing("its file is not there")
    return file


def answer_file(
    request: Request,
    file: BinaryIO | bytes,
    *,
    etag: str,
    media_type: str,
    name: str,
    limiter: CapacityLimiter,
    modified_seconds: float | None = None,
) -> Response:
    """Answers with a file or the part of it that a range asks for, or that the caller has it.

    Args:
        file: open at its start, and closed by the response; or its content.
        etag: strong.
        name: to save it under.
        limiter: of the threads that read.
    """
    source = BytesIO(file) if isinstance(file, bytes) else file
    headers = {
        **cache_headers(etag),
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(name),
    }
    if modified_seconds is not None:
        headers["Last-Modified"] = http_date(modified_seconds)
    if is_not_modified(request.headers, etag=etag, modified_seconds=modified_seconds):
        source.close()
        return Response(status_code=304, headers=headers)
    size = len(file) if isinstance(file, bytes) else os.fstat(file.fileno()).st_size
    try:
        part = byte_range(request.headers, size=size, etag=etag, modified_seconds=modified_seconds)
    except UnsatisfiableRange:
        source.close()
        body = error_body("range_not_satisfiable", f"the file has {size} bytes")
        headers = {"Content-Range": f"bytes */{size}"}
        return Response(body, 416, headers=headers, media_type="application/json")
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    status = 200 if part is None else 206
    if request.method == "HEAD":
        source.close()
        return Response(status_code=status, headers=headers, media_type=media_type)
    return _FilePart(
        source,
        start,
        end=end,
        status=status,
        headers=headers,
        media_type=media_type,
        limiter=limiter,
    )


def cache_headers(etag: str) -> dict[str, str]:
    """For a browser alone to keep it: a shared cache knows nothing of tokens."""
    return {"ETag": etag, "Cache-Control": f"private, max-age={_KEPT_SECONDS}"}


def content_disposition(name: str) -> str:
    """Shows a file in the browser, and saves it under its name: the RFC 6266, with a form in ASCII
    for old ones."""
    printable = "".join(letter if letter.isprintable() else "_" for letter in name)
    encodable = printable.encode("utf-8", "replace").decode()
    plain = "".join(
        each if " " <= each <= "~" and each not in '"\\%' else "_" for each in encodable
    )
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(encodable, safe='')}"


class _FilePart(StreamingResponse):
    """Bytes `[start, end)` of an open file, which is closed at the end."""

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        *,
        end: int,
        status: int,
        headers: Mapping[str, str],
        media_type: str,
        limiter: CapacityLimiter,
    ) -> None:
        self._file, self._limiter = file, limiter
        super().__init__(self._pieces(start, end), status, headers, media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()

    async def _pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        self._file.seek(start)
        while start < end:
            count = min(_PIECE_BYTES, end - start)
            piece = await to_thread.run_sync(self._file.read, count, limiter=self._limiter)
            if not piece:  # cut off meanwhile: the connection closes before the stated length
                raise MediaMissing("the file ended early")
            start += len(piece)
            yield piece
