"""The open connections of a worker: bounds their number, and ends those that are too slow."""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Protocol

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


class Phase(Enum):
    """Whom a connection waits for."""

    head = auto()  # the client, for the rest of a request's head
    idle = auto()  # the client, for another request
    busy = auto()  # us, for a response, or the client, for a body that the application reads
    drain = auto()  # the client, for the rest of a request that has been answered


class Connection(Protocol):
    """One connection, as the table sees it.

    Attributes:
        phase: Whom it waits for.
        deadline: When its phase must be over, on the table's clock.
        unread_bytes: Of its response that the client had not taken at the last look.
        unread_since: When that number last changed.
    """

    phase: Phase
    deadline: float
    unread_bytes: int
    unread_since: float
    client: tuple[str, int] | None
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def end(self) -> None:
        """Ends it since its deadline has passed."""

    def refuse_connection(self) -> None:
        """Ends it, just begun, since there is no room."""


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
            Phase.head: limits.head_seconds,
            Phase.idle: limits.idle_seconds,
            Phase.drain: limits.drain_seconds,
            Phase.busy: inf,
        }
        # By phase, in the order in which they entered it.
        self._by_phase: dict[Phase, OrderedDict[Connection, None]] = {
            phase: OrderedDict() for phase in Phase
        }
        self._by_client: defaultdict[str, OrderedDict[Connection, None]] = defaultdict(OrderedDict)
        self._sweeps = False
        self._num_connections = 0

    def __len__(self) -> int:
        return self._num_connections

    def add(self, connection: Connection) -> None:
        """Adds a new connection, and closes another, or this one, if there are too many."""
        client = connection.client[0] if connection.client else ""
        if self._num_connections >= self._max_connections:
            self._make_room(connection, self._longest_waiting())
        if client and not self._is_exempt(client):
            same = self._by_client[client]
            if len(same) >= self.limits.max_per_client:
                waiting = (each for each in same if each.phase is not Phase.busy)
                self._make_room(connection, next(waiting, None))
            same[connection] = None
        self._num_connections += 1
        self._by_phase[Phase.head][connection] = None
        connection.deadline = self._clock() + self.limits.head_seconds
        if not self._sweeps:
            self._sweeps = True
            connection.loop.call_later(_SWEEP_SECONDS, self._sweep, connection.loop)

    def enter(self, connection: Connection, phase: Phase) -> None:
        """Notes whom a connection waits for now."""
        if connection not in self._by_phase[connection.phase]:
            return  # it is over
        del self._by_phase[connection.phase][connection]
        connection.phase = phase
        self._by_phase[phase][connection] = None
        connection.deadline = self._clock() + self._waits[phase]

    def remove(self, connection: Connection) -> None:
        if connection not in self._by_phase[connection.phase]:
            return
        del self._by_phase[connection.phase][connection]
        self._num_connections -= 1
        client = connection.client[0] if connection.client else ""
        if same := self._by_client.get(client):
            same.pop(connection, None)
            if not same:
                del self._by_client[client]

    def _longest_waiting(self) -> Connection | None:
        for phase in (Phase.drain, Phase.head, Phase.idle):
            if self._by_phase[phase]:
                return next(iter(self._by_phase[phase]))
        return None

    def _make_room(self, newcomer: Connection, victim: Connection | None) -> None:
        if victim is None:  # all are being answered
            newcomer.refuse_connection()
        else:
            victim.transport.abort()
            self.remove(victim)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends connections whose deadline has passed."""
        now = self._clock()
        for phase in (Phase.head, Phase.idle, Phase.drain):
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
