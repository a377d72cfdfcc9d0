"""The folder that a learner writes -> the model in memory, some tenths of a second later.

Each change is read and checked beside the requests, and applied between two of them, under a lock
that a request holds while it scores: all its scores are of one log position. A new learner's whole
state becomes another model, to which the requests that follow go over.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.recommendation.learning.examples import VideoFacts
from reelseek.recommendation.learning.files import StateFiles
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.state import prepare, restore
from reelseek.recommendation.learning.store import ModelReader
from reelseek.recommendation.personal.scorer import PersonalScorer, PersonalScores

__all__ = ["DEFAULT_FOLDER", "FollowedModel", "ModelFollower"]

logger = logging.getLogger(__name__)

DEFAULT_FOLDER = "learned"  # in the folder of events
_TICK_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # between two looks for a newer whole state


@dataclass(frozen=True, eq=False)
class FollowedModel:
    """A model, and what belongs to its state; replaced as a whole.

    Attributes:
        epoch: of the learner that wrote it.
        position: of the log, that it came from.
        frozen: since when it does not learn, and why, as its learner says; None if it learns.
    """

    model: OnlineModel
    scorer: PersonalScorer
    epoch: int
    position: int
    frozen: dict[str, Any] | None


class ModelFollower:
    """Follows the model of a learner, which need not be there yet. Threads may share it.

    Args:
        place: the folder that it writes, or the files that it publishes.
        loading: is entered while a whole state is read.
    """

    def __init__(
        self,
        place: Path | StateFiles,
        *,
        loading: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._place, self._loading = place, loading
        self._reader = ModelReader(place)
        self._current: FollowedModel | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._next_look_at = 0.0
        self._problem = ""

    @property
    def current(self) -> FollowedModel | None:
        """None as long as there is no model that can be read."""
        return self._current

    def score(
        self, user: str, videos: Sequence[VideoFacts], *, now_seconds: float | None = None
    ) -> PersonalScores:
        """Scores videos for a user; all by the same state. Nothing is known without a model.

        Args:
            now_seconds: Unix time; default: now.
        """
        now = time.time() if now_seconds is None else now_seconds
        with self._lock:
            if self._current is None or not user:
                return PersonalScores.nothing(len(videos))
            return self._current.scorer.score(user, videos, now_ms=1000 * now)

    def has_taste(self, user: str) -> bool:
        """Whether what videos show makes a difference to a user."""
        with self._lock:
            return self._current is not None and self._current.model.tastes.has(user)

    def start(self) -> None:
        """Begins to follow, in a thread, if that has not begun."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="personal", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def poll(self) -> bool:
        """Applies what is new; returns whether there was something."""
        has_changed = self._apply_changes()
        if not has_changed and time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + _LOOK_SECONDS
            has_changed = self._go_over()
        return has_changed

    def _apply_changes(self) -> bool:
        current, has_changed = self._current, False
        if current is None:
            return False
        for state in self._reader.changes():
            prepared = prepare(state["model"])
            with self._lock:
                restore(current.model, prepared)
                self._current = FollowedModel(
                    current.model,
                    current.scorer,
                    epoch=self._reader.epoch,
                    position=state["position"],
                    frozen=_frozen(state["extra"]),
                )
            has_changed = True
        return has_changed

    def _go_over(self) -> bool:
        """Takes over a whole state, where there is none yet, or where changes do not lead on."""
        if not self._reader.has_newer():
            return False
        if self._apply_changes():  # they were written since the last look
            return True
        reader = ModelReader(self._place)
        try:
            with self._loading():
                opened = reader.open()
            if opened is None:
                return False
            model, stored = opened
            scorer = PersonalScorer(model)
        except (ValueError, KeyError, TypeError) as error:  # DamagedState is one, too
            if str(error) != self._problem:
                self._problem = str(error)
                kept = "none is used" if self._current is None else "the last one goes on"
                logger.warning("the learned model cannot be read, %s: %s", kept, error)
            return False
        if (reader.epoch, reader.number) <= (self._reader.epoch, self._reader.number):
            return False  # the newer one is damaged, and what was found is what there is
        self._problem = ""
        followed = FollowedModel(
            model,
            scorer,
            epoch=reader.epoch,
            position=stored.position,
            frozen=_frozen(stored.extra),
        )
        with self._lock:
            self._reader, self._current = reader, followed
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:
                logger.exception("the learned model is not followed; the last one goes on")
                self._stop.wait(10 * _TICK_SECONDS)
            self._stop.wait(_TICK_SECONDS)


def _frozen(extra: Any) -> dict[str, Any] | None:
    found = extra.get("frozen") if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else None
