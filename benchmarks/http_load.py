"""Closed and open loops of GET requests over loopback, bounded in count and time.

A raw client on uvloop: httpx takes more of a core for a request than the service does.
"""

import asyncio
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np


@dataclass
class Outcome:
    """What a run of requests came to.

    Attributes:
        milliseconds: of each answer by HTTP status; an open loop counts from when the request was
            due, so that a slow service does not slow the clock. (Tene's coordinated omission.)
        wall_seconds: of the run.
        generator_fraction: of one core, that this process took.
    """

    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    wall_seconds: float = 0.0
    generator_fraction: float = 0.0

    @property
    def num_answers(self) -> int:
        return sum(map(len, self.milliseconds.values()))

    def percentile(self, percent: float, status: int = 200) -> float:
        times = self.milliseconds.get(status) or [float("nan")]
        return float(np.percentile(times, percent))


class Unanswered(ConnectionError):
    """The connection was closed before the first byte of an answer."""


class Connection:
    """One connection that is kept alive."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str) -> tuple[int, bytes]:
        """Returns the status and the body.

        As HTTP clients do, asks again where a connection that was kept turns out to be closed
        before the first byte of an answer (RFC 9112, section 9.3.1).

        Raises:
            OSError, EOFError: the connection broke.
        """
        if self._streams is not None:
            try:
                return await self._ask(*self._streams, target)
            except Unanswered:
                pass
        self._streams = await asyncio.open_connection(*self._address)
        return await self._ask(*self._streams, target)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str
    ) -> tuple[int, bytes]:
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if getattr(error, "partial", b""):
                    raise
                raise Unanswered("closed before the first byte of an answer") from error
            lines = head.decode().lower().split("\r\n")
            lengths = [line[15:] for line in lines if line.startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]))
            if "connection: close" in lines:
                self.close()
            return int(lines[0].split()[1]), body
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def search_target(query: str, **options: object) -> str:
    further = "".join(f"&{name}={quote(str(value))}" for name, value in options.items())
    return f"/api/search?q={quote(query)}{further}"


async def closed_loop(port: int, targets: Sequence[str], *, num_connections: int) -> Outcome:
    """Each connection asks the next target as soon as it has its answer."""
    outcome, left = Outcome(), iter(targets)

    async def ask() -> None:
        connection = Connection("127.0.0.1", port)
        for target in left:
            started = time.perf_counter()
            status, _ = await connection.get(target)
            _note(outcome, status, started)
        connection.close()

    with _Measured(outcome):
        await asyncio.gather(*(ask() for _ in range(num_connections)))
    return outcome


async def open_loop(
    port: int, targets: Sequence[str], *, rate: float, num_connections: int = 512, seed: int = 0
) -> Outcome:
    """Requests come by a Poisson process, whether or not earlier ones have been answered.

    Args:
        rate: requests a second.
        num_connections: at most; a request that finds none free waits, and its clock runs.
    """
    outcome = Outcome()
    due = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(targets)))
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(num_connections):
        idle.put_nowait(Connection("127.0.0.1", port))

    async def ask(target: str, at: float) -> None:
        connection = await idle.get()
        try:
            status, _ = await connection.get(target)
            _note(outcome, status, at)
        except (OSError, EOFError):
            _note(outcome, 0, at)
        finally:
            idle.put_nowait(connection)

    with _Measured(outcome):
        start, tasks = time.perf_counter(), []
        for target, offset in zip(targets, due.tolist(), strict=True):
            pause = start + offset - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(ask(target, start + offset)))
        await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait().close()
    return outcome


def _note(outcome: Outcome, status: int, started: float) -> None:
    outcome.milliseconds.setdefault(status, []).append(1e3 * (time.perf_counter() - started))


class _Measured:
    """Notes how long a block took, and how much of a core this process did."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def __exit__(self, *error: object) -> None:
        wall = time.perf_counter() - self._wall
        self._outcome.wall_seconds = wall
        self._outcome.generator_fraction = (_cpu_seconds() - self._cpu) / wall


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
