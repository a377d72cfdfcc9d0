"""A real server beside clients that are slow, large, broken or many."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest
import uvicorn

from reelseek.serving.connection_table import ConnectionLimits
from reelseek.serving.connections import bounded_protocol

LIMITS = ConnectionLimits(
    max_connections=100,
    max_per_client=60,
    head_seconds=0.8,
    idle_seconds=1.0,
    drain_seconds=1.0,
    stall_seconds=1.0,
    max_head_bytes=4096,
    max_headers=20,
)
GOOD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = 64 << 20  # more than the sockets of both ends hold


async def answer(scope, receive, send):
    """`/big` answers much, `/early` before the body has come, the rest after it."""
    if scope["type"] != "http":
        return
    size = BIG if scope["path"] == "/big" else 2
    while scope["path"] != "/early" and (await receive()).get("more_body", False):
        pass
    length = (b"content-length", str(size).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    for start in range(0, size, 1 << 20):
        part = b"x" * min(1 << 20, size - start)
        await send(
            {"type": "http.response.body", "body": part, "more_body": start + len(part) < size}
        )


@contextmanager
def served(
    limits: ConnectionLimits, is_exempt: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[int, uvicorn.Server]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    protocol = bounded_protocol(limits, is_exempt=is_exempt)
    config = uvicorn.Config(
        answer, http=protocol, ws="none", lifespan="off", log_level="critical", proxy_headers=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1], server
    server.force_exit = server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(LIMITS) as (port, _):
        yield port


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=8)
    connection.sendall(data)
    return connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionError:
        pass
    return received


def status_and_code(answered: bytes) -> tuple[int, str]:
    head, _, body = answered.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_good_requests_are_answered_on_one_connection(port):
    with closing(connect(port)) as connection:
        for _ in range(3):
            connection.sendall(GOOD)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(GOOD * 5)  # ahead of the answers
        answered = b""
        while answered.count(b"200 OK") < 5:
            answered += connection.recv(1000)


def test_a_head_that_drips_is_cut(port):
    with closing(connect(port)) as connection:
        started = time.monotonic()
        connection.settimeout(0.1)
        answered = b""
        for letter in GOOD[:-2] + b"x-slow: " + b"x" * 1000:
            try:
                connection.sendall(bytes([letter]))
                answered += connection.recv(1000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if answered:
                break
        assert status_and_code(answered) == (408, "request_too_slow")
        assert 0.4 < time.monotonic() - started < 5


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_connections_that_ask_nothing_are_closed_without_a_word(port, sent):
    with closing(connect(port, sent)) as connection:
        assert read_all(connection) == b""


def test_idle_connections_are_closed_though_blank_lines_drip(port):
    with closing(connect(port, GOOD)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        connection.settimeout(0.2)
        started = time.monotonic()
        is_open = True
        while is_open and time.monotonic() - started < 8:
            try:
                connection.sendall(b"\r\n")
                is_open = bool(connection.recv(10))
            except TimeoutError:
                continue
            except ConnectionError:
                is_open = False
        assert not is_open


def test_the_rest_of_an_answered_request_may_not_drip(port):
    head = b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with closing(connect(port, head)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        connection.settimeout(0.2)
        started = time.monotonic()
        is_open = True
        while is_open and time.monotonic() - started < 8:
            try:
                connection.sendall(b"x")
                is_open = bool(connection.recv(10))
            except TimeoutError:
                continue
            except ConnectionError:
                is_open = False
        assert not is_open


def test_an_answer_that_nobody_reads_is_dropped(port):
    with closing(connect(port, GOOD.replace(b"/", b"/big", 1))) as connection:
        time.sleep(2.5)
        assert len(read_all(connection)) < BIG
    # A reader that takes its time, but reads, gets all.
    with closing(connect(port, GOOD.replace(b"/", b"/big", 1))) as connection:
        received = 0
        while received < BIG:
            received += len(connection.recv(16 << 20))
            time.sleep(0.02)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 10_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(30)) + b"\r\n",
    ],
)
def test_large_heads_are_refused(port, head):
    with closing(connect(port, head)) as connection:
        assert status_and_code(read_all(connection)) == (431, "head_too_large")


def test_a_large_body_is_no_large_head(port):
    body = b"x" * 500_000
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with closing(connect(port, head + body)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(GOOD)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET \xff\xfe HTTP/1.1\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    ],
)
def test_broken_requests_are_refused_and_others_answered(port, request_bytes):
    with closing(connect(port, request_bytes)) as connection:
        answered = read_all(connection)
    assert not answered or b" 200 " not in answered.split(b"\r\n")[0]
    with closing(connect(port, GOOD)) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_client_has_a_bounded_number_of_connections():
    with served(LIMITS, is_exempt=lambda _: False) as (port, server), ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(closing(connect(port, b"GET / HT")))
        time.sleep(0.2)
        assert len(server.server_state.connections) <= LIMITS.max_per_client
        with closing(connect(port, GOOD)) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_good_ones_are_answered_beside_2000_slow_ones():
    limits = ConnectionLimits(max_connections=500, head_seconds=30.0)
    with served(limits) as (port, server), ExitStack() as stack:
        slow = [
            stack.enter_context(closing(connect(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n")))
            for _ in range(1000)
        ]
        seconds = []
        for number in range(1000):
            slow.append(stack.enter_context(closing(connect(port, b"GET / HTTP/1.1\r\nX: "))))
            if number % 20 == 0:
                started = time.monotonic()
                with closing(connect(port, GOOD)) as connection:
                    assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
                seconds.append(time.monotonic() - started)
        assert len(server.server_state.connections) <= 501
        assert len(seconds) == 50 and max(seconds) < 5  # none waited for a slow one to be cut
        # One that is being answered is not closed for the slow ones.
        with closing(connect(port, GOOD.replace(b"/", b"/big", 1))) as reader:
            for _ in range(600):
                stack.enter_context(closing(connect(port, b"GET / ")))
            received = 0
            while data := reader.recv(1 << 20):
                received += len(data)
                if received > BIG:
                    break
            assert received > BIG
