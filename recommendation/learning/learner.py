"""The log of events -> a model, each event once.

    with ModelStore(folder) as store:
        learner = Learner(log, store, model)
        while learner.step(): ...

What is learned in one step depends on the log alone, not on when it was read: the state of the
model at a log position is the same to the last bit, however often the learner was stopped before.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import msgspec
import numpy as np

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Deletion
from reelseek.recommendation.learning.examples import (
    UNKNOWN_VIDEO,
    VideoFacts,
    changes_of,
    impressions_of,
    outcomes_of,
)
from reelseek.recommendation.learning.figures import calibration
from reelseek.recommendation.learning.inputs import LearnedInputs
from reelseek.recommendation.learning.joining import Joined, Joiner, JoinSettings
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.sessions import auc
from reelseek.recommendation.learning.store import ModelStore

__all__ = ["EventSource", "Learner", "RecentFigures"]

_BATCH_SECONDS = 1.0
_BATCH_EXAMPLES = 256
_READ = 2000  # events at once
_RECENT_SECONDS = 3600.0
_MAX_RECENT = 200_000


class EventSource(Protocol):
    """What a learner needs of a log."""

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]: ...

    def bounds(self) -> tuple[int, int]: ...


@dataclass
class RecentFigures:
    """Predictions of the last hour of event time, each made before its example was learned."""

    _rows: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=_MAX_RECENT)
    )

    def add(self, time_seconds: np.ndarray, labels: np.ndarray, *, predicted: np.ndarray) -> None:
        self._rows.extend(
            zip(time_seconds.tolist(), labels.tolist(), predicted.tolist(), strict=True)
        )
        while self._rows and self._rows[0][0] < time_seconds[-1] - _RECENT_SECONDS:
            self._rows.popleft()

    def summary(self) -> dict[str, Any]:
        """Returns the number of examples, AUC (None without both labels), and calibration."""
        if not self._rows:
            return {"num_examples": 0, "AUC": None}
        _, labels, predicted = np.array(self._rows).T
        value = auc(labels, predicted)
        return {
            "num_examples": len(labels),
            "AUC": None if math.isnan(value) else round(value, 4),
            "calibration": calibration(labels, predicted),
        }


class Learner:
    """Follows a log.

    Args:
        log: is read from where the store's model came from.
        store: opened for writing; the model is given its state.
        model: new.
        facts_of: what is known of a video besides its id; must not change while a model learns,
            for the same log to give the same bits.
        commit_events: after which the model is stored.

    Attributes:
        position: of the last event that was taken from the log.
        recent: figures of predictions before learning.
    """

    def __init__(
        self,
        log: EventSource,
        store: ModelStore,
        *,
        model: OnlineModel,
        join: JoinSettings | None = None,
        facts_of: Callable[[str], VideoFacts] = lambda video: UNKNOWN_VIDEO,
        commit_events: int = 2000,
    ) -> None:
        self._log, self._store, self.model = log, store, model
        self._facts_of, self._commit_events = facts_of, commit_events
        self.joiner = Joiner(join or JoinSettings())
        self.recent = RecentFigures()
        self._inputs = LearnedInputs(self.joiner.settings)
        self._pending: list[Joined] = []
        self._pending_since = -math.inf
        self._open()

    def step(self) -> int:
        """Takes the next events of the log, and commits what was learned; returns their number.

        Raises:
            ValueError: events that were not read yet are no longer in the log.
        """
        dropped, _ = self._log.bounds()
        if 0 < self.position < dropped:
            raise ValueError(
                f"the log lacks events {self.position + 1} to {dropped}, which were dropped before "
                "they were learned; keep events for longer, or begin with a new model"
            )
        events = self._log.read(after=self.position, limit=min(_READ, self._commit_events))
        for event in events:
            self._take(event)
        if events:
            self.commit()
        return len(events)

    @property
    def lag_events(self) -> int:
        """Events of the log that were not taken yet, at most."""
        return self._log.bounds()[1] - self.position

    def commit(self) -> None:
        pending = [msgspec.to_builtins(each) for each in self._pending]
        self._store.commit(
            self.model,
            self.position,
            extra={
                "pending": pending,
                "since": self._pending_since,
                "inputs": self._inputs.take_new(),
            },
            snapshot_extra=lambda: {
                "joiner": self.joiner.state(),
                "counts": asdict(self.joiner.counts),
                "inputs": self._inputs.state(),
            },
        )

    def _open(self) -> None:
        """Restores the model; and the joiner as of the last whole state, which then is given the
        events since."""
        found = self._store.open(self.model)
        self.position = found.position
        if found.snapshot_extra is not None:
            self.joiner.restore(found.snapshot_extra["joiner"])
            for name, value in found.snapshot_extra["counts"].items():
                setattr(self.joiner.counts, name, value)
            self._inputs.restore(found.snapshot_extra["inputs"])
        for extra in found.extras_since:
            self._inputs.restore(extra["inputs"])
        if found.extra is not None:
            self._pending = msgspec.convert(found.extra["pending"], list[Joined])
            self._pending_since = found.extra["since"]
        after = found.snapshot_position
        while after < self.position:
            limit = min(_READ, self.position - after)
            events = [
                e
                for e in self._log.read(after=after, limit=limit)
                if e.log_position <= self.position
            ]
            if not events:
                break
            for event in events:
                self.joiner.add(event)
                self.joiner.take()
            after = events[-1].log_position

    def _take(self, logged: LoggedEvent) -> None:
        self.joiner.add(logged)
        self.position = logged.log_position
        if isinstance(logged.event, Deletion):
            self._forget(logged.event)
        now_seconds = self.joiner.now_seconds
        if self._pending and now_seconds - self._pending_since >= _BATCH_SECONDS:
            self._learn()
        for joined in self.joiner.take():
            if not self._pending:
                self._pending_since = now_seconds
            self._pending.append(joined)
            if len(self._pending) >= _BATCH_EXAMPLES:
                self._learn()

    def _forget(self, deletion: Deletion) -> None:
        self._pending = [each for each in self._pending if not deletion.is_of(each.user)]
        self._inputs.forget(deletion.is_of)
        self.model.forget(lambda user: deletion.is_of(str(user)))

    def _learn(self) -> None:
        pending, self._pending = self._pending, []
        first = [each for each in pending if each.corrects is None]
        corrections = [each for each in pending if each.corrects is not None]
        if first:
            impressions, outcomes = impressions_of(first, self._facts_of), outcomes_of(first)
            scored = self.model.predict(impressions)
            self.recent.add(
                impressions.time_ms / 1000,
                outcomes.labels[:, 0],
                predicted=scored.probabilities[:, 0],
            )
            self.model.learn(scored, impressions, outcomes=outcomes)
            self._inputs.add(first, scored, now_seconds=self.joiner.now_seconds)
        corrections = [each for each in corrections if each.log_position in self._inputs]
        if corrections:
            self.model.correct(
                self._inputs.find(corrections),
                impressions_of(corrections, self._facts_of),
                change=changes_of(corrections),
            )
