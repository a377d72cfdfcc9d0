"""A log of impressions and outcomes -> predictions, each made before the event was learned.

    done = replay(model, impressions, outcomes, settings=ReplaySettings(measure_from_ms=...))

The model is given outcomes only by `learn`, at `delay_ms` after their events; `predict` gets
columns that have no outcome. So a changed outcome cannot change any prediction up to its event.
"""

import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.learning.batches import batches_of
from reelseek.recommendation.learning.impressions import HEADS, Impressions, Outcomes
from reelseek.recommendation.learning.model import OnlineModel, Scored
from reelseek.recommendation.learning.sessions import sessions_of

__all__ = ["ReplaySettings", "Replayed", "replay"]

_FROZEN_BATCH = 1024  # events, predicted at once by a model that no longer learns


@dataclass(frozen=True)
class ReplaySettings:
    """How a log is replayed.

    Attributes:
        measure_from_ms: Unix time from which events are measured.
        delay_ms: after which an outcome is known to the model.
        batch_ms, batch_events: bounds of a batch, see `batches_of`.
    """

    measure_from_ms: int
    delay_ms: int = 0
    batch_ms: int = 60_000
    batch_events: int = 256


@dataclass(frozen=True)
class Replayed:
    """Probabilities of measured events, each `(n, len(HEADS))`.

    Attributes:
        index: `(n,)`, of the events in the log.
        session: `(n,)`, numbers of their sessions.
        online: right before each event.
        at_session_start: from the state when the session began.
        frozen, frozen_at_session_start: of the model as it was at `measure_from_ms`.
        seconds: that prediction and learning took, of the whole log, on the processor's clock;
            without the frozen model, and without `at_session_start`.
    """

    index: np.ndarray
    session: np.ndarray
    online: np.ndarray
    at_session_start: np.ndarray
    frozen: np.ndarray
    frozen_at_session_start: np.ndarray
    seconds: float


def replay(
    model: OnlineModel,
    impressions: Impressions,
    outcomes: Outcomes,
    *,
    settings: ReplaySettings,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Replays a log.

    Args:
        impressions: ascending in time; the sort must be stable.
        outcomes: of the same events.
        progress: called with the events done and their number.
    """
    times = impressions.time_ms
    if len(times) and (np.diff(times) < 0).any():
        raise ValueError("impressions must be in order of time")
    first = int(np.searchsorted(times, settings.measure_from_ms))
    sessions = _Sessions(impressions, first)
    online = np.full((len(times), len(HEADS)), np.nan)
    at_start = np.full_like(online, np.nan)
    frozen = frozen_at_start = online[first:]
    waiting: deque[tuple[slice, Scored]] = deque()
    seconds = 0.0
    is_measuring = False

    for batch in batches_of(
        impressions.user,
        times,
        max_ms=settings.batch_ms,
        max_events=settings.batch_events,
        cuts_ms=(settings.measure_from_ms,),
    ):
        started = time.process_time()
        _learn_known(
            model,
            impressions,
            outcomes,
            waiting=waiting,
            before=times[batch.start],
            delay_ms=settings.delay_ms,
        )
        seconds += time.process_time() - started
        if batch.start >= first and not is_measuring:
            is_measuring = True
            frozen, frozen_at_start = _predict_frozen(model, impressions, first, sessions=sessions)
        begun = sessions.begun_in(batch)
        if len(begun):
            at_start[begun] = model.predict(
                impressions.take(begun), sessions.start_ms[begun]
            ).probabilities
        started = time.process_time()
        scored = model.predict(impressions.take(batch))
        online[batch] = scored.probabilities
        waiting.append((batch, scored))
        seconds += time.process_time() - started
        if progress is not None:
            progress(batch.stop, len(times))
    return Replayed(
        index=np.arange(first, len(times)),
        session=sessions.number[first:],
        online=online[first:],
        at_session_start=at_start[first:],
        frozen=frozen,
        frozen_at_session_start=frozen_at_start,
        seconds=seconds,
    )


class _Sessions:
    """Sessions of the events from the index `first` on.

    Attributes:
        number: `(n,)`; -1 before `first`.
        start_ms: `(n,)`, when each event's session began; its own time before `first`.
    """

    def __init__(self, impressions: Impressions, first: int) -> None:
        self.number = np.full(len(impressions), -1, np.int64)
        self.start_ms = impressions.time_ms.copy()
        measured = sessions_of(impressions.user[first:], impressions.time_ms[first:])
        self.number[first:] = measured
        num = int(measured.max()) + 1 if len(measured) else 0
        starts = np.full(num, np.iinfo(np.int64).max)
        np.minimum.at(starts, measured, impressions.time_ms[first:])
        self.start_ms[first:] = starts[measured]
        # Events by when their session began: each is scored in the batch which holds that moment.
        by_start = first + np.argsort(self.start_ms[first:], kind="stable")
        self._by_start, self._first = by_start, first
        self._times = impressions.time_ms

    def begun_in(self, batch: slice) -> np.ndarray:
        """Returns the indices of all events, later ones too, of sessions that begin in a batch."""
        if batch.start < self._first:
            return np.zeros(0, np.int64)
        starts = self.start_ms[self._by_start]
        low = np.searchsorted(starts, self._times[batch.start], side="left")
        high = np.searchsorted(starts, self._times[batch.stop - 1], side="right")
        return self._by_start[low:high]


def _learn_known(
    model: OnlineModel,
    impressions: Impressions,
    outcomes: Outcomes,
    *,
    waiting: "deque[tuple[slice, Scored]]",
    before: int,
    delay_ms: int,
) -> None:
    """Learns the batches whose outcomes are all known before a time."""
    while waiting and impressions.time_ms[waiting[0][0].stop - 1] + delay_ms < before:
        batch, scored = waiting.popleft()
        model.learn(scored, impressions.take(batch), outcomes=outcomes.take(batch))


def _predict_frozen(
    model: OnlineModel, impressions: Impressions, first: int, *, sessions: _Sessions
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the model as it is says of all later events, at their times and as of the start
    of their sessions."""
    frozen = copy.deepcopy(model)
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for begin in range(first, len(impressions), _FROZEN_BATCH):
        part = slice(begin, min(begin + _FROZEN_BATCH, len(impressions)))
        chunk = impressions.take(part)
        found[0].append(frozen.predict(chunk).probabilities)
        found[1].append(frozen.predict(chunk, sessions.start_ms[part]).probabilities)
    return np.concatenate(found[0]), np.concatenate(found[1])
