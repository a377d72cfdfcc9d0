"""Processes that die are replaced; a stop drains; a socket that is taken is a user's mistake."""

import os
import signal
import socket
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from reelseek.serving.supervisor import Child, Supervisor, listen

CONTEXT = get_context("spawn")


def live(folder: str) -> None:
    """Notes that it has started; on SIGTERM, that it has ended, a little later."""

    def end(*_) -> None:
        time.sleep(0.3)
        Path(folder, f"ended-{os.getpid()}").touch()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    Path(folder, f"started-{os.getpid()}").touch()
    time.sleep(60)


def hang(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, f"started-{os.getpid()}").touch()
    time.sleep(60)


def fail(folder: str) -> None:
    Path(folder, f"started-{os.getpid()}").touch()
    os._exit(3)


def supervise(folder: str, helper: str, worker: str) -> None:
    targets = {"live": live, "hang": hang, "fail": fail}
    Supervisor(
        [Child("helper", targets[helper], (f"{folder}/helper",))],
        [Child("worker", targets[worker], (f"{folder}/worker",))],
        drain_seconds=0.2,
    ).run()


@pytest.fixture
def supervised(tmp_path):
    """Starts a supervisor of a helper and a worker, and ends it."""
    started = []
    for name in ("helper", "worker"):
        (tmp_path / name).mkdir()

    def start(helper: str, worker: str):
        process = CONTEXT.Process(target=supervise, args=(str(tmp_path), helper, worker))
        process.start()
        started.append(process)
        for name in ("helper", "worker"):
            wait_for(lambda name=name: pids(tmp_path / name))
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def pids(folder: Path, what: str = "started") -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob(f"{what}-*")]


def wait_for(condition, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


def test_the_dead_are_replaced_and_a_stop_drains(supervised, tmp_path):
    process = supervised("live", "live")
    (helper,), (worker,) = pids(tmp_path / "helper"), pids(tmp_path / "worker")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(pids(tmp_path / "worker")) == 2)
    assert pids(tmp_path / "helper") == [helper]
    (second,) = set(pids(tmp_path / "worker")) - {worker}
    process.terminate()
    process.join(20)
    assert process.exitcode == 0
    assert pids(tmp_path / "worker", "ended") == [second]
    assert pids(tmp_path / "helper", "ended") == [helper]
    # The helper serves the worker until that has ended.
    ended = [tmp_path / "worker" / f"ended-{second}", tmp_path / "helper" / f"ended-{helper}"]
    assert ended[0].stat().st_mtime <= ended[1].stat().st_mtime


def test_one_that_hangs_is_killed(supervised, tmp_path):
    process = supervised("live", "hang")
    (worker,) = pids(tmp_path / "worker")
    process.terminate()
    process.join(20)
    assert process.exitcode == 0
    assert not is_alive(worker)


def test_nobody_outlives_a_killed_supervisor(supervised, tmp_path):
    process = supervised("live", "hang")
    everybody = pids(tmp_path / "helper") + pids(tmp_path / "worker")
    process.kill()
    wait_for(lambda: not any(map(is_alive, everybody)))


def test_nobody_outlives_a_supervisor_that_is_killed_while_they_start(tmp_path):
    for name in ("helper", "worker"):
        (tmp_path / name).mkdir()
    process = CONTEXT.Process(target=supervise, args=(str(tmp_path), "live", "hang"))
    process.start()
    everybody: list[psutil.Process] = []
    while len(everybody) < 2:
        children = psutil.Process(process.pid).children()
        everybody = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    process.kill()  # its children are still importing what they run
    process.join()
    wait_for(lambda: not any(is_alive(child.pid) for child in everybody))
    assert not pids(tmp_path / "helper")


def test_one_that_dies_at_once_is_tried_less_and_less_often(supervised, tmp_path):
    process = supervised("live", "fail")
    time.sleep(3)
    # Without the pauses of 0.2, 0.4, 0.8 s, there would be one for each start of an interpreter.
    assert 1 <= len(pids(tmp_path / "worker")) <= 5
    assert process.is_alive()
    assert len(pids(tmp_path / "helper")) == 1


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port={port}: cannot be listened on"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_here(host):
    with pytest.raises(ValueError, match=f"host={host}"):
        listen(host, 0)
