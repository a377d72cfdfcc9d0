"""Ctrl-C and SIGTERM -> a request to stop when the videos in hand are done."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether to stop.

    Attributes:
        signal_number: of the signal that asks to; 0 as long as none has come.
    """

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within, the first Ctrl-C or SIGTERM is a request, and the second raises KeyboardInterrupt.

    Outside the main thread, where Python lets nobody listen to signals, it does nothing.
    """
    request = StopRequest()

    def handle(number: int, _: FrameType | None) -> None:
        if request:
            raise KeyboardInterrupt
        request.signal_number = number
        print("stopping when the videos in hand are done; again to stop at once", file=sys.stderr)

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
