"""Keeps a state at the end of the log."""

import threading

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.live.state import LogState

__all__ = ["read_all", "read_new"]

_BATCH = 2_000  # events, for which answers may wait


def read_new(log: EventLog, state: LogState) -> int:
    """Takes in what the log has after the state's position; returns the number of events.

    Raises:
        EventsUnavailable: the log cannot be read.
    """
    num = 0
    while found := log.read(after=state.position, limit=_BATCH):
        state.apply(found)
        num += len(found)
        if len(found) < _BATCH:
            break
    return num


def read_all(
    log: EventLog,
    state: LogState,
    *,
    until: int | None = None,
    stop: threading.Event | None = None,
) -> None:
    """The same until nothing is left, for a state that begins; gives way to other threads.

    Args:
        until: the position of the last event to take in; None for all.
        stop: set to give up.

    Raises:
        EventsUnavailable: the log cannot be read.
    """
    pause = stop or threading.Event()
    while found := log.read(after=state.position, limit=_BATCH):
        wanted = found if until is None else [e for e in found if e.log_position <= until]
        state.apply(wanted)
        if len(wanted) < len(found) or pause.wait(0.001):
            return
