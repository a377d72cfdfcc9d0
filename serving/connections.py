"""uvicorn's HTTP protocol with what it lacks: deadlines, and a bound on connections and heads.

uvicorn waits for ever for the end of a request's head, limits neither its size nor the number of
connections, and never gives up on a client that does not read its response. Ten thousand slow
clients could hold all the files that a worker may open.
"""

import asyncio
import time
from collections.abc import Callable
from math import inf

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from reelseek.serving.connection_table import ConnectionLimits, ConnectionTable, Phase
from reelseek.serving.errors import error_body


def bounded_protocol(
    limits: ConnectionLimits,
    *,
    is_exempt: Callable[[str], bool] = lambda _: False,
    clock: Callable[[], float] = time.monotonic,
) -> type["BoundedProtocol"]:
    """Returns a class for `uvicorn.Config(http=...)`, for one server.

    Args:
        limits: The limits; `max_connections` is lowered to what the system lets us open.
        is_exempt: Whether an address may have more than `max_per_client` connections.
        clock: Returns seconds.
    """
    table = ConnectionTable(limits, is_exempt=is_exempt, clock=clock)
    return type("Protocol", (BoundedProtocol,), {"table": table})


class BoundedProtocol(HttpToolsProtocol):
    """One connection; `ConnectionTable` ends it when it is too slow."""

    table: ConnectionTable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.phase = Phase.head
        self.deadline = inf
        self.unread_bytes, self.unread_since = 0, 0.0
        self._await_head()
        self.table.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.table.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            # What exceeds the room may be the body, so that is parsed only when the head has ended.
            data, rest = data[: self._head_room], data[self._head_room :]
            self._head_room -= len(data)
            self._feed(data)
            if not rest:
                return
            if self._in_head and self._has_begun:
                self._refuse_head()
                return
            data = rest
        self._feed(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_begun = True
        if self.phase is Phase.idle:
            self.table.enter(self, Phase.head)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.headers) > self.table.limits.max_headers:
            self._refuse_head()
        elif not self.transport.is_closing():
            super().on_headers_complete()
            self.table.enter(self, Phase.busy)

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()
        self._await_head()
        if self.phase is Phase.drain:
            self.table.enter(self, Phase.idle)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the table has the deadline
        if self.transport.is_closing() or not self.cycle.response_complete:
            return  # over, or another request has come ahead of this response
        if not self._in_head:
            self.table.enter(self, Phase.drain)
        else:
            self.table.enter(self, Phase.head if self._has_begun else Phase.idle)

    def end(self) -> None:
        """Ends a connection whose deadline has passed."""
        # Browsers open connections ahead of use; those are closed without a word.
        if self.phase is Phase.head and self._has_begun:
            self._send_error(408, "request_too_slow", "the request came too slowly")
        self.transport.close()

    def refuse_connection(self) -> None:
        """Ends a new connection for which there is no room."""
        self._send_error(503, "too_many_connections", "too many connections: try again later")
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._send_error(400, "invalid_http", "this is no valid HTTP request")
        self.transport.close()

    def _feed(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def _await_head(self) -> None:
        self._in_head, self._has_begun = True, False
        self._head_room = self.table.limits.max_head_bytes

    def _refuse_head(self) -> None:
        limits = self.table.limits
        message = (
            f"the request's head has over {limits.max_head_bytes} bytes or "
            f"{limits.max_headers} headers"
        )
        self._send_error(431, "head_too_large", message)
        self.transport.close()

    def _send_error(self, status: int, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = error_body(code, message)
        head = [
            STATUS_LINE[status],
            b"content-type: application/json\r\n",
            b"content-length: %d\r\n" % len(body),
            b"connection: close\r\n\r\n",
        ]
        self.transport.write(b"".join([*head, body]))
