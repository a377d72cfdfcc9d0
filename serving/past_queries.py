"""A completion model in a folder, followed while it is served: new versions, and deleted users."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reelseek.recommendation.completion.completer import Source
from reelseek.recommendation.completion.model_files import (
    MANIFEST_NAME,
    CompletionModel,
    open_model,
)
from reelseek.recommendation.events.log import EventLog

logger = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class ServedQueries:
    """A model, and how many users were deleted since it was built: as `ranking.suggestions` asks.

    Each deleted user may have been one of those who asked for a query, so that many more must have.
    """

    model: CompletionModel
    num_deleted: int = 0

    def best(self, prefix: str, k: int) -> list[str]:
        return [text for text, source in self._complete(prefix, k) if source is not Source.words]

    def by_words(self, prefix: str, k: int) -> list[str]:
        return [text for text, source in self._complete(prefix, k) if source is Source.words]

    def after(self, query: str, k: int) -> list[str]:
        min_users = self.model.completer.min_users + self.num_deleted
        return self.model.also_searched.after(query, k, min_users=min_users)

    def blocks(self, text: str) -> bool:
        return self.model.completer.block_list.blocks(text)

    def _complete(self, prefix: str, k: int) -> list[tuple[str, Source]]:
        found = self.model.completer.complete(prefix, k, num_deleted=self.num_deleted)
        return [(each.text, each.source) for each in found]


class ServedCompletion:
    """Opens the model when it is there, and goes over to new versions; threads may share it.

    Args:
        folder: of the model.
        events: the log it was built from; None where nothing is kept.
    """

    def __init__(self, folder: Path, events: EventLog | None = None) -> None:
        self._folder, self._events = folder, events
        self._served: ServedQueries | None = None
        self._signature: tuple[int, ...] | None = None
        self._next_at = 0.0
        self._lock = threading.Lock()

    def current(self) -> ServedQueries | None:
        """Returns what holds now; None before a model is built. One caller a second looks whether
        that has changed, and waits for it; the others go on with what they have."""
        if time.monotonic() >= self._next_at and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._next_at = time.monotonic() + _LOOK_EVERY_SECONDS
                self._lock.release()
        return self._served

    def _look(self) -> None:
        try:
            found = (self._folder / MANIFEST_NAME).stat()
        except OSError:
            return
        signature = found.st_mtime_ns, found.st_ino, found.st_size
        try:
            if signature != self._signature:
                self._signature = signature
                model = open_model(self._folder)
                self._served = ServedQueries(model, self._num_deleted(model))
                logger.info("new completion", extra={"fields": {"version": model.version}})
            elif self._served is not None:
                model = self._served.model
                self._served = ServedQueries(model, self._num_deleted(model))
        except Exception:
            logger.exception("the new completion cannot be used; the last one goes on answering")

    def _num_deleted(self, model: CompletionModel) -> int:
        if self._events is None:
            return 0
        return self._events.num_deletions(after=model.log_position)
