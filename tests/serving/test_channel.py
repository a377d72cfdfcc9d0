"""Calls between processes: answers, errors, deadlines, and a server that dies and comes back."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from reelseek.serving.channel import Client, RemoteError, Server, Unavailable


def fail(message):
    raise ValueError(message)


def crash(_):
    raise RuntimeError("/a/secret/path")


HANDLERS = {
    "echo": lambda value: value,
    "sleep": lambda seconds: time.sleep(seconds) or seconds,
    "pid": lambda _: os.getpid(),
    "fail": fail,
    "crash": crash,
}


@pytest.fixture
def client(tmp_path: Path) -> Client:
    server = Server(tmp_path / "socket", HANDLERS)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Client(tmp_path / "socket")


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, "a\u00e9\U0001f408", b"\x00\xff" * 200_000, [1, {"a": [None]}], {}]
)
def test_values_come_back(client, value):
    assert client.call("echo", value) == value


def test_errors(client):
    with pytest.raises(RemoteError, match="k=0") as raised:
        client.call("fail", "k=0: must be at least 1")
    assert raised.value.code == "ValueError"
    with pytest.raises(RemoteError) as raised:
        client.call("crash")
    assert "secret" not in str(raised.value)
    assert client.call("echo", 1) == 1  # the connection lives on


def test_a_late_answer_is_nobody_elses(client):
    with pytest.raises(Unavailable, match=r"0\.05 seconds"):
        client.call("sleep", 0.3, timeout_seconds=0.05)
    assert client.call("echo", "mine") == "mine"


def test_threads_do_not_wait_for_each_other(client):
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: client.call("sleep", 0.2 + n / 1e6), range(8)))
    assert answers == [0.2 + n / 1e6 for n in range(8)]
    assert time.monotonic() - started < 1.4  # one after the other takes 1.6


def serve(path: str) -> None:
    Server(Path(path), HANDLERS).serve_forever()


def test_a_server_that_dies_and_comes_back(tmp_path):
    path = tmp_path / "socket"
    client = Client(path)
    with pytest.raises(Unavailable, match="not there"):
        client.call("echo", timeout_seconds=0.1)
    context = get_context("fork")
    process = context.Process(target=serve, args=(str(path),))
    process.start()
    pid = client.call("pid", timeout_seconds=10)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.call, "sleep", 30)
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="died"):
            waiting.result(timeout=10)
    process.join()
    second = context.Process(target=serve, args=(str(path),))
    second.start()
    try:
        assert client.call("pid", timeout_seconds=10) == second.pid
    finally:
        second.kill()
        second.join()
