"""uvicorn's HTTP protocol with what it lacks: deadlines, and a bound on connections and heads.

uvicorn waits for ever for the end of a request's head, limits neither its size nor the number of
connections, and never gives up on a client that does not read its response. Ten thousand slow
clients could hold all the files that a worker may open.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from reelseek.serving.errors import error_body

_SWEEP_SECONDS = 0.5
_KEPT_FILES = 256  # beside connections: the index, sockets of other processes, media


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections a worker keeps, and for how long.

    Attributes:
        max_connections: In all. One more closes the connection that has waited longest for its
            client: for the rest of a request first, then for another request.
        max_per_client: Of one address, in the same way; loopback and proxies are exempt.
        head_seconds: From the first byte of a request, or the start of a connection, to the end of
            the request's head.
        idle_seconds: Between two requests.
        drain_seconds: For the rest of a request that has been answered.
        stall_seconds: Without a byte of the response being taken.
        max_head_bytes: Of a request line and headers.
        max_headers: Of a request.
    """

    max_connections: int = 2000
    max_per_client: int = 200
    head_seconds: float = 10.0
    idle_seconds: float = 20.0
    drain_seconds: float = 5.0
    stall_seconds: float = 60.0
    max_head_bytes: int = 32 << 10
    max_headers: int = 100


class _Phase(Enum):
    """Whom a connection waits for."""

    head = auto()  # the client, for the rest of a request's head
    idle = auto()  # the client, for another request
    busy = auto()  # us, for a response, or the client, for a body that the application reads
    drain = auto()  # the client, for the rest of a request that has been answered


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

    table: "ConnectionTable"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.phase = _Phase.head
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
        if self.phase is _Phase.idle:
            self.table.enter(self, _Phase.head)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.headers) > self.table.limits.max_headers:
            self._refuse_head()
        elif not self.transport.is_closing():
            super().on_headers_complete()
            self.table.enter(self, _Phase.busy)

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.transport.is_closing():
            super().on_message_complete()
        self._await_head()
        if self.phase is _Phase.drain:
            self.table.enter(self, _Phase.idle)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the table has the deadline
        if self.transport.is_closing() or not self.cycle.response_complete:
            return  # over, or another request has come ahead of this response
        if not self._in_head:
            self.table.enter(self, _Phase.drain)
        else:
            self.table.enter(self, _Phase.head if self._has_begun else _Phase.idle)

    def end(self) -> None:
        """Ends a connection whose deadline has passed."""
        # Browsers open connections ahead of use; those are closed without a word.
        if self.phase is _Phase.head and self._has_begun:
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


class ConnectionTable:
    """The connections of a worker. Keeps their number bounded, and ends slow ones."""

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        is_exempt: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self.limits = limits
        self._max_connections = min(limits.max_connections, _openable_files())
        self._is_exempt = is_exempt
        self._clock = clock
        self._waits = {
            _Phase.head: limits.head_seconds,
            _Phase.idle: limits.idle_seconds,
            _Phase.drain: limits.drain_seconds,
            _Phase.busy: inf,
        }
        # By phase, in the order in which they entered it.
        self._by_phase: dict[_Phase, OrderedDict[BoundedProtocol, None]] = {
            phase: OrderedDict() for phase in _Phase
        }
        self._by_client: defaultdict[str, OrderedDict[BoundedProtocol, None]] = defaultdict(
            OrderedDict
        )
        self._sweeps = False
        self._num_connections = 0

    def __len__(self) -> int:
        return self._num_connections

    def add(self, connection: BoundedProtocol) -> None:
        """Adds a new connection, and closes another, or this one, if there are too many."""
        client = connection.client[0] if connection.client else ""
        if self._num_connections >= self._max_connections:
            self._make_room(connection, self._longest_waiting())
        if client and not self._is_exempt(client):
            same = self._by_client[client]
            if len(same) >= self.limits.max_per_client:
                waiting = (each for each in same if each.phase is not _Phase.busy)
                self._make_room(connection, next(waiting, None))
            same[connection] = None
        self._num_connections += 1
        self._by_phase[_Phase.head][connection] = None
        connection.deadline = self._clock() + self.limits.head_seconds
        if not self._sweeps:
            self._sweeps = True
            connection.loop.call_later(_SWEEP_SECONDS, self._sweep, connection.loop)

    def enter(self, connection: BoundedProtocol, phase: _Phase) -> None:
        """Notes whom a connection waits for now."""
        if connection not in self._by_phase[connection.phase]:
            return  # it is over
        del self._by_phase[connection.phase][connection]
        connection.phase = phase
        self._by_phase[phase][connection] = None
        connection.deadline = self._clock() + self._waits[phase]

    def remove(self, connection: BoundedProtocol) -> None:
        if connection not in self._by_phase[connection.phase]:
            return
        del self._by_phase[connection.phase][connection]
        self._num_connections -= 1
        client = connection.client[0] if connection.client else ""
        if same := self._by_client.get(client):
            same.pop(connection, None)
            if not same:
                del self._by_client[client]

    def _longest_waiting(self) -> BoundedProtocol | None:
        for phase in (_Phase.drain, _Phase.head, _Phase.idle):
            if self._by_phase[phase]:
                return next(iter(self._by_phase[phase]))
        return None

    def _make_room(self, newcomer: BoundedProtocol, victim: BoundedProtocol | None) -> None:
        if victim is None:  # all are being answered
            newcomer.refuse_connection()
        else:
            victim.transport.abort()
            self.remove(victim)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends connections whose deadline has passed."""
        now = self._clock()
        for phase in (_Phase.head, _Phase.idle, _Phase.drain):
            overdue = []
            for connection in self._by_phase[phase]:  # in the order of their deadlines
                if connection.deadline > now:
                    break
                overdue.append(connection)
            for connection in overdue:
                connection.end()
        self._end_stalled(now)
        if self._num_connections:
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
        else:
            self._sweeps = False

    def _end_stalled(self, now: float) -> None:
        """Ends connections whose client takes nothing of its response."""
        stalled = []
        for connections in self._by_phase.values():
            for connection in connections:
                unread = connection.transport.get_write_buffer_size()
                if not unread or unread != connection.unread_bytes:
                    connection.unread_bytes, connection.unread_since = unread, now
                elif now - connection.unread_since > self.limits.stall_seconds:
                    stalled.append(connection)
        for connection in stalled:
            connection.transport.abort()


def _openable_files() -> int:
    """Returns the connections that this process can hold, and raises its limit of open files."""
    try:
        import resource
    except ImportError:  # Windows
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, hard - _KEPT_FILES)
