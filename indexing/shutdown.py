"""Ctrl-C, SIGTERM and SIGHUP -> a request to stop when the videos in hand are done."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@dataclass
class StopRequest:
    """Tells whether to stop.

    Attributes:
        signal_number: of the signal that asks to; 0 as long as none has come.
    """

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request; the second ends the process at once
    with 128 + its number, even while the main thread is blocked.

    A SIGHUP that is ignored from the start, as under nohup, stays ignored. Does nothing outside the
    main thread, where Python lets nobody handle signals.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(number: int, _: FrameType | None) -> None:
        request.signal_number = request.signal_number or number

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    numbers = [
        number
        for number in numbers
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
    # The interpreter writes each signal's number there, also while the main thread is blocked and
    # `handle` cannot run.
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    terminals = [stream for stream in (1, 2) if _is_terminal(stream)]  # as long as they are there
    listener = threading.Thread(
        target=_listen, args=(receiver, request, numbers, terminals), name="signals", daemon=True
    )
    listener.start()
    wakeup_before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(sender)
        listener.join()
        os.close(receiver)


def _listen(receiver: int, request: StopRequest, numbers: list[int], terminals: list[int]) -> None:
    """Reads signal numbers from a pipe until it is closed."""
    num_signals = 0
    while received := os.read(receiver, 1):
        number = received[0]
        if number not in numbers:  # one that somebody else listens to
            continue
        num_signals += 1
        if num_signals > 1:
            os._exit(128 + number)
        request.signal_number = request.signal_number or number
        if number == getattr(signal, "SIGHUP", None):
            _let_go_of(terminals)
        with suppress(OSError, ValueError):
            print(
                "stopping when the videos in hand are done; again to stop at once",
                file=sys.stderr,
                flush=True,
            )


def _is_terminal(stream: int) -> bool:
    with suppress(OSError):
        return os.isatty(stream)
    return False


def _let_go_of(terminals: list[int]) -> None:
    """Redirects a terminal that has hung up, which would answer each line with an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in terminals:
        os.dup2(nowhere, stream)
    os.close(nowhere)
