import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from reelseek.indexing import stop_on_signals
from tests.command_lines import PROJECT

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of the test's own, which must be in their places when it ends."""
    own = {number: lambda *_: pytest.fail("the signal was not taken") for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield own
    after = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert after == own
    assert signal.set_wakeup_fd(-1) == -1
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


def test_nothing_is_asked_for_without_a_signal():
    with stop_on_signals() as stop:
        assert not stop
        assert stop.signal_number == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_a_request_that_says_what_it_does(number, capsys):
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_number == number
    assert "again to stop at once" in capsys.readouterr().err
    assert stop  # still known afterwards


BLOCKED = """
import ctypes
from reelseek.indexing.shutdown import stop_on_signals

libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
libc.pthread_mutex_lock(mutex)
with stop_on_signals():
    print("ready", flush=True)
    # A call that the interpreter does not come back from, as to a disk that does not answer:
    # Python's handlers of signals cannot run.
    libc.pthread_mutex_lock(mutex)
"""
WAITING = """
import time
from reelseek.indexing.shutdown import stop_on_signals

with stop_on_signals() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    print(stop.signal_number, flush=True)
    while True:
        time.sleep(0.01)
"""


def start(program, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
        **{"stderr": subprocess.PIPE} | options,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("program", "first", "second"),
    [
        *((WAITING, first, second) for first in SIGNALS for second in (first, signal.SIGTERM)),
        (BLOCKED, signal.SIGINT, signal.SIGINT),
        (BLOCKED, signal.SIGTERM, signal.SIGTERM),
    ],
)
def test_second_signal_ends_the_process_though_it_is_blocked(program, first, second):
    with start(program) as process:
        try:
            process.send_signal(first)
            assert process.stderr.readline().startswith("stopping when the videos in hand")
            assert process.poll() is None
            process.send_signal(second)
            assert process.wait(timeout=20) == 128 + second
        finally:
            process.kill()


def test_hangup_that_is_ignored_from_the_start_as_under_nohup_stays_ignored():
    own = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop
    assert signal.signal(signal.SIGHUP, own) == signal.SIG_IGN


def test_terminal_that_hangs_up_takes_no_output_and_no_error():
    program = WAITING.replace("while True:", "for _ in range(20):")
    program += "import sys; print('to a terminal that is gone', file=sys.stderr, flush=True)"
    terminal, own_end = pty.openpty()
    with start(program, stderr=own_end, start_new_session=True) as process:
        os.close(own_end)
        os.close(terminal)  # from here on what is written there is an error
        process.send_signal(signal.SIGHUP)
        assert process.stdout.read() == f"{int(signal.SIGHUP)}\n"
        assert process.wait(timeout=20) == 0


def test_handlers_are_restored_after_an_exception(handlers):
    with pytest.raises(LookupError), stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != handlers[signal.SIGTERM]
        raise LookupError
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_other_thread_leaves_signals_alone(handlers):
    found = []

    def work():
        with stop_on_signals() as stop:
            found.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, handlers[signal.SIGINT])]
