"""Limits of a request: the length of its address, the size of its body, and how slowly it comes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.serving.errors import ApiError
from reelseek.serving.refusals import header, refuse

_DISCONNECT: Message = {"type": "http.disconnect"}
_CLOSE = ((b"connection", b"close"),)  # what is left of the body is not read


class UrlLimit:
    """Refuses requests whose path and query are longer than `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("raw_path") or scope["path"]
        if len(path) + len(scope["query_string"]) > self._max_bytes:
            message = f"the address is longer than {self._max_bytes} bytes"
            await refuse(send, ApiError(414, "address_too_long", message))
            return
        await self._app(scope, receive, send)


@dataclass(frozen=True)
class BodyLimits:
    """How large and how slow bodies may be.

    Attributes:
        max_bytes: Of a body whose path is not named below.
        bytes_by_path: Of others, by their path.
        multipart_bytes_by_path: Of forms with files, by their path.
        patience_seconds: Wait for a body, besides what `min_bytes_per_second` allows.
        min_bytes_per_second: Rate at which a body must come.
    """

    max_bytes: int = 1 << 20
    bytes_by_path: Mapping[str, int] = field(default_factory=dict)
    multipart_bytes_by_path: Mapping[str, int] = field(default_factory=dict)
    patience_seconds: float = 10.0
    min_bytes_per_second: float = float(64 << 10)

    def max_bytes_of(self, scope: Scope) -> int:
        kind = header(scope, b"content-type") or b""
        is_form = kind[:20].lower().startswith(b"multipart/form-data")
        by_path = self.multipart_bytes_by_path if is_form else self.bytes_by_path
        return by_path.get(scope["path"], self.max_bytes)


class BodyLimit:
    """Cuts bodies that are too large or come too slowly, whatever the application does."""

    def __init__(self, app: ASGIApp, *, limits: BodyLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = header(scope, b"content-length")
        if length is None and header(scope, b"transfer-encoding") is None:
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send, self._limits, self._limits.max_bytes_of(scope))
        if length is not None and (not length.isdigit() or int(length) > body.max_bytes):
            await refuse(send, body.too_large(), headers=_CLOSE)
            return
        try:
            await self._app(scope, body.receive, body.send)
        except ClientDisconnect:
            if body.error is None:
                raise
        if body.error is not None and not body.has_responded:
            await refuse(send, body.error, headers=_CLOSE)


@dataclass
class _Body:
    """A body as the application reads it, and the response, which an error of ours replaces."""

    _receive: Receive
    _send: Send
    _limits: BodyLimits
    max_bytes: int
    error: ApiError | None = None
    has_responded: bool = False
    _num_bytes: int = 0
    _waited_seconds: float = 0.0
    _is_complete: bool = False

    async def receive(self) -> Message:
        if self._is_complete:  # what comes now is the end of the connection
            return await self._receive()
        if self.error is not None:
            return _DISCONNECT
        message = await self._next_part()
        if message is None:
            self.error = ApiError(408, "request_too_slow", "the request's body came too slowly")
            return _DISCONNECT
        self._num_bytes += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self._num_bytes > self.max_bytes:
            self.error = self.too_large()
            return _DISCONNECT
        return message

    async def send(self, message: Message) -> None:
        # An application may answer that the body ended early: ours says why.
        if self.error is None or self.has_responded:
            self.has_responded = True
            await self._send(message)

    async def _next_part(self) -> Message | None:
        """Returns the next part; None if it does not come in time.

        Only waiting for the client counts: the application may take its time.
        """
        allowed = (
            self._limits.patience_seconds + self._num_bytes / self._limits.min_bytes_per_second
        )
        started = time.monotonic()
        message: Message | None = None
        with anyio.move_on_after(allowed - self._waited_seconds):
            message = await self._receive()
        self._waited_seconds += time.monotonic() - started
        return message

    def too_large(self) -> ApiError:
        megabytes = self.max_bytes / (1 << 20)
        return ApiError(413, "too_large", f"the body is larger than {megabytes:.3g} MiB")
