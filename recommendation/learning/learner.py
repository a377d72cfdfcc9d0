"""The log of events -> a model, each event once.

    with ModelStore(folder) as store:
        learner = Learner(log, store, model)
        while learner.step(): ...

What is learned in one step depends on the log alone, not on when it was read: the state of the
model at a log position is the same to the last bit, however often the learner was stopped before.

A guard compares predictions with what happened. Where they no longer fit, the model goes back to
the state before the examples that show it: an earlier state is read from the store, and the log is
learned from there up to that position. Then nothing is learned until the stream is sound again;
what came in between is skipped.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
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
from reelseek.recommendation.learning.faults import DeadLetters
from reelseek.recommendation.learning.figures import calibration
from reelseek.recommendation.learning.guard import Guard, GuardSettings
from reelseek.recommendation.learning.impressions import HEADS
from reelseek.recommendation.learning.inputs import LearnedInputs
from reelseek.recommendation.learning.joining import Joined, Joiner, JoinSettings
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.sessions import auc
from reelseek.recommendation.learning.store import Stored, WholeState

__all__ = ["EventSource", "Learner", "RecentFigures", "StateStore"]

logger = logging.getLogger(__name__)

_BATCH_SECONDS = 1.0
_BATCH_EXAMPLES = 256
_READ = 2000  # events at once
_RECENT_SECONDS = 3600.0
_MAX_RECENT = 200_000


class EventSource(Protocol):
    """What a learner needs of a log."""

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]: ...

    def bounds(self) -> tuple[int, int]: ...


class StateStore(Protocol):
    """What a learner needs of a store."""

    @property
    def must_forget(self) -> bool: ...

    def open(self, model: OnlineModel) -> Stored: ...

    def open_past(self, model: OnlineModel, *, up_to: int) -> Stored: ...

    def commit(
        self,
        model: OnlineModel,
        position: int,
        *,
        extra: Any = None,
        snapshot_extra: Callable[[], Any] = lambda: None,
        keep_from: float = math.inf,
        has_forgotten: bool = False,
        past: Callable[[], WholeState | None] = lambda: None,
    ) -> None: ...


@dataclass(frozen=True)
class _PastStore:
    """Gives a learner an earlier state; what it learns from there is not stored."""

    store: StateStore
    position: int
    must_forget: bool = False

    def open(self, model: OnlineModel) -> Stored:
        return self.store.open_past(model, up_to=self.position)

    def open_past(self, model: OnlineModel, *, up_to: int) -> Stored:
        return self.store.open_past(model, up_to=up_to)

    def commit(self, *_: Any, **__: Any) -> None:
        pass


@dataclass
class RecentFigures:
    """Predictions of the last hour of event time, each made before its example was learned, with
    its labels as they were when the guard judged it."""

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
        guard: bounds beyond which the model is frozen.
        dead_letters: where the positions of refused events are written.

    Attributes:
        position: of the last event that was taken from the log.
        recent: figures of predictions before learning.
        num_skipped: examples and corrections that came while the model was frozen.
    """

    def __init__(
        self,
        log: EventSource,
        store: StateStore,
        *,
        model: OnlineModel,
        join: JoinSettings | None = None,
        facts_of: Callable[[str], VideoFacts] = lambda video: UNKNOWN_VIDEO,
        commit_events: int = 2000,
        guard: GuardSettings | None = None,
        dead_letters: DeadLetters | None = None,
    ) -> None:
        self._log, self._store, self.model = log, store, model
        self._facts_of, self._commit_events = facts_of, commit_events
        model.code_of = lambda video: facts_of(str(video)).code
        self._dead_letters = dead_letters
        self.joiner = Joiner(join or JoinSettings())
        self.guard = Guard(guard, wait_seconds=self.joiner.settings.wait_seconds)
        self.num_skipped = 0
        self._unlearned: list[int] = []  # since the last commit
        self._must_commit = False
        self._has_forgotten = False  # a user, since the last commit
        self._past_learner: Learner | None = None  # while it learns the log again
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
            if self._must_commit:
                self.commit()
        if events or self._store.must_forget:
            self.commit()
        return len(events)

    @property
    def frozen(self) -> dict[str, Any] | None:
        """Since when, by the clock of the log, and why it is frozen; None while it learns."""
        return self.guard.frozen.as_dict() if self.guard.frozen else None

    @property
    def is_repeating(self) -> bool:
        """Whether what is being learned was learned before, as an earlier state is needed."""
        return self._past_learner is not None

    @property
    def learned_position(self) -> int:
        """Position of the event that is being learned."""
        past = self._past_learner
        return self.position if past is None else past.learned_position

    @property
    def lag_events(self) -> int:
        """Events of the log that were not taken yet, at most."""
        return self._log.bounds()[1] - self.position

    def commit(self) -> None:
        self._must_commit = False
        has_forgotten, self._has_forgotten = self._has_forgotten, False
        self._store.commit(
            self.model,
            self.position,
            extra=self._take_extra(),
            snapshot_extra=self._snapshot_extra,
            keep_from=self.guard.keep_from,
            has_forgotten=has_forgotten,
            past=self._past_to_keep,
        )

    def _take_extra(self) -> dict[str, Any]:
        unlearned, self._unlearned = self._unlearned, []
        return {
            "pending": [msgspec.to_builtins(each) for each in self._pending],
            "since": self._pending_since,
            "unlearned": unlearned,
            "inputs": self._inputs.take_new(),
            "frozen": self.frozen,
            "guard": self.guard.state(),
            "skipped": self.num_skipped,
        }

    def _snapshot_extra(self) -> dict[str, Any]:
        return {
            "joiner": self.joiner.state(),
            "counts": asdict(self.joiner.counts),
            "inputs": self._inputs.state(),
        }

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
            self._inputs.unlearn(extra["unlearned"])
            self._inputs.restore(extra["inputs"])
        if found.extra is not None:
            self.guard.restore(found.extra["guard"])
            self.num_skipped = found.extra["skipped"]
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
                if isinstance(event.event, Deletion):
                    known = self._inputs.positions_of(event.event.is_of)
                    self._inputs.unlearn([each for each in known if each < event.log_position])
            after = events[-1].log_position

    def _take(self, logged: LoggedEvent) -> None:
        self.position = logged.log_position
        if fault := self.joiner.add(logged):
            if self._dead_letters is not None:
                self._dead_letters.add(self.position, fault)
            return
        if isinstance(logged.event, Deletion):
            self._forget(logged.event)
            self._has_forgotten = True
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
        self.guard.forget(self._inputs.positions_of(deletion.is_of))
        self._inputs.forget(deletion.is_of)
        self.model.forget(lambda user: deletion.is_of(str(user)))

    def _learn(self) -> None:
        pending, self._pending = self._pending, []
        first = [each for each in pending if each.corrects is None]
        corrections = [each for each in pending if each.corrects is not None]
        self._relabel(corrections)
        self._judge()
        if first:
            self._learn_first(first)
            self._relabel(corrections)  # some may be of these
        if self.guard.frozen is not None:
            self.num_skipped += len(pending)
            return
        corrections = [each for each in corrections if each.log_position in self._inputs]
        if corrections:
            self.model.correct(
                self._inputs.find(corrections),
                impressions_of(corrections, self._facts_of),
                change=changes_of(corrections),
            )

    def _relabel(self, corrections: Sequence[Joined]) -> None:
        if corrections:
            self.guard.relabel(
                [each.log_position for each in corrections], outcomes_of(corrections).labels
            )

    def _learn_first(self, first: Sequence[Joined]) -> None:
        impressions, outcomes = impressions_of(first, self._facts_of), outcomes_of(first)
        scored = self.model.predict(impressions)
        if self.guard.frozen is None and not np.isfinite(scored.probabilities).all():
            self.guard.freeze("a prediction is no number", self.joiner.now_seconds)
            self._go_back()
            scored = self.model.predict(impressions)
        self.guard.add(
            [each.log_position for each in first],
            [each.time_seconds for each in first],
            predicted=scored.probabilities,
            labels=outcomes.labels,
        )
        if self.guard.frozen is None:
            self.model.learn(scored, impressions, outcomes=outcomes)
            self._inputs.add(first, scored, now_seconds=self.joiner.now_seconds)

    def _judge(self) -> None:
        """Freezes the model, or lets it go on."""
        before = self.guard.frozen
        judged = self.guard.judge(self.joiner.now_seconds, self.position)
        if len(judged):
            self.recent.add(judged[:, 1], judged[:, 2 + len(HEADS)], predicted=judged[:, 2])
        now = self.guard.frozen
        if now is before:
            return
        if now is None:
            self._must_commit = True
            logger.warning(
                "the model learns again from event %d on; %d examples were skipped",
                self.position,
                self.num_skipped,
            )
        else:
            self._go_back()

    def _go_back(self) -> None:
        """Gives the model the last good state."""
        frozen = self.guard.frozen
        if frozen is None:
            return
        logger.warning(
            "the model is frozen at event %d, with its state at event %d: %s",
            self.position,
            frozen.good_position,
            frozen.reason,
        )
        self._must_commit = True
        past = self._past(frozen.good_position)
        if past is None:
            logger.warning("that state cannot be had, as events are missing; it stays as it is")
            return
        kept = set(past._inputs.positions())
        self._unlearned = [each for each in self._inputs.positions() if each not in kept]
        self._inputs.unlearn(self._unlearned)
        self.model.become(past.model)

    def _past(self, position: int) -> "Learner | None":
        """Returns one with the state at an earlier position, but that users who were deleted since
        are not in it; None where events are missing."""
        past = Learner(
            self._log,
            _PastStore(self._store, position),
            model=self.model.new(),
            join=self.joiner.settings,
            facts_of=self._facts_of,
            guard=self.guard.settings,
        )
        dropped, _ = self._log.bounds()
        if past.position < dropped:
            return None
        self._past_learner = past
        try:
            past._repeat(position, self.position)
        finally:
            self._past_learner = None
        return past

    def _past_to_keep(self) -> WholeState | None:
        """Returns the oldest state that may be gone back to; None where that is the beginning, or
        the state of now: a frozen model has gone back, and goes on from here."""
        position = self.guard.keep_from
        past = None if self.frozen or not position else self._past(position)
        if past is None:
            return None
        return WholeState(past.model, position, past._take_extra(), past._snapshot_extra())

    def _repeat(self, good_position: int, position: int) -> None:
        """Learns the log up to a position; up to another one, forgets users who were deleted."""
        while self.position < position:
            limit = min(_READ, position - self.position)
            events = self._log.read(after=self.position, limit=limit)
            if not events:
                return
            for event in events:
                if event.log_position <= good_position:
                    self._take(event)
                elif isinstance(event.event, Deletion) and event.log_position <= position:
                    self.joiner.forget(event.event.is_of)
                    self._forget(event.event)
            self.position = max(self.position, events[-1].log_position)
