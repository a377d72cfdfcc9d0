"""Good requests beside thousands of slow clients, with our bounds on connections and without them.

    python -m benchmarks.serving_slow_clients [num_slow=10000] [seconds=20]

A server answers on loopback. Slow clients send a byte of their request's head every few seconds,
and connect again when they are cut off. Good clients open a connection for each request. Prints
how long those waited, in milliseconds, and how many were not answered within 5 seconds.
"""

import asyncio
import multiprocessing
import resource
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import uvicorn
from starlette.types import Receive, Scope, Send

from reelseek.serving.connection_table import ConnectionLimits
from reelseek.serving.connections import bounded_protocol
from reelseek.serving.security import Security, SecuritySettings

_GOOD = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_SLOW = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
_DRIP_SECONDS = 3.0
_GOOD_PER_SECOND = 50
_TIMEOUT_SECONDS = 5.0
_CONNECTING = 200  # at the same time


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _serve(listener: socket.socket, is_bounded: bool) -> None:
    soft = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))  # of a usual service
    limits = ConnectionLimits(max_connections=2000)
    protocol = bounded_protocol(limits, is_exempt=lambda _: True) if is_bounded else "httptools"
    config = uvicorn.Config(
        Security(_answer, settings=SecuritySettings()),
        http=protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _server(*, is_bounded: bool) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(listener, is_bounded), daemon=True
        )
        process.start()
        port = listener.getsockname()[1]
    try:
        yield port
    finally:
        process.kill()
        process.join()


def _attack(port: int, num_slow: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_keep_slow(port, num_slow))


async def _keep_slow(port: int, num_slow: int) -> None:
    connecting = asyncio.Semaphore(_CONNECTING)

    async def slow_client() -> None:
        while True:
            writer = None
            with suppress(OSError, asyncio.TimeoutError):
                async with connecting:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(_SLOW)
                while not reader.at_eof():
                    await asyncio.sleep(_DRIP_SECONDS)
                    writer.write(b"x")
                    await writer.drain()
            if writer is not None:
                writer.close()
            await asyncio.sleep(1.0)

    await asyncio.gather(*(slow_client() for _ in range(num_slow)))


async def _ask(port: int, seconds: float) -> np.ndarray:
    """Returns the seconds each request took; infinity for those that were not answered."""
    tasks = []

    async def request() -> float:
        started = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_GOOD)
            answered = await reader.read()
            writer.close()
        except OSError:
            return np.inf
        return time.perf_counter() - started if b" 200 OK" in answered else np.inf

    async def bounded() -> float:
        try:
            return await asyncio.wait_for(request(), _TIMEOUT_SECONDS)
        except asyncio.TimeoutError:
            return np.inf

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        tasks.append(asyncio.create_task(bounded()))
        await asyncio.sleep(1 / _GOOD_PER_SECOND)
    return np.array(await asyncio.gather(*tasks))


def _report(name: str, seconds: np.ndarray) -> None:
    answered = 1000 * seconds[np.isfinite(seconds)]
    lost = len(seconds) - len(answered)
    p50, p99, top = (
        (np.percentile(answered, 50), np.percentile(answered, 99), answered.max())
        if len(answered)
        else (np.nan,) * 3
    )
    print(f"{name:44} {len(seconds):6} {lost:12} {p50:8.1f} {p99:8.1f} {top:8.1f}", flush=True)


def main(num_slow: int = 10_000, seconds: float = 20.0) -> None:
    print(f"{'':44} {'asked':>6} {'not answered':>12} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for is_bounded in (True, False):
        name = "with our bounds" if is_bounded else "uvicorn alone"
        with _server(is_bounded=is_bounded) as port:
            time.sleep(1.0)
            _report(f"{name}, no slow client", asyncio.run(_ask(port, seconds / 2)))
            attacker = multiprocessing.Process(target=_attack, args=(port, num_slow))
            attacker.start()
            try:
                _report(f"{name}, {num_slow} connecting", asyncio.run(_ask(port, seconds / 2)))
                _report(f"{name}, {num_slow} dripping", asyncio.run(_ask(port, seconds)))
            finally:
                attacker.kill()
                attacker.join()


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(int(given.get("num_slow", 10_000)), float(given.get("seconds", 20.0)))
