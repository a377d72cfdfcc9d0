"""The suggestions of a worker: made again for each generation of the index, beside its answers."""

import logging
import threading
import time

from reelseek.ranking.searcher import Searcher
from reelseek.ranking.suggestions import Suggester, Suggestion

logger = logging.getLogger(__name__)


_MIN_PAUSE_SECONDS = 5.0
_PAUSES = 20  # of the time that reading takes, to the next reading
_FIRST_SECONDS = 1.0  # that the first who types waits


class Suggestions:
    """Answers from the last state of the index that has been read.

    Past queries are not among them: a service that several use would tell each what the others
    asked.
    """

    def __init__(self) -> None:
        self._suggester: Suggester | None = None
        self._state: tuple[int, int] | None = None  # of the index, that was read last
        self._next_at = 0.0  # on the clock of `time.monotonic`
        self._lock = threading.Lock()
        self._making: threading.Thread | None = None

    def suggest(self, searcher: Searcher, prefix: str, k: int) -> list[Suggestion]:
        """Returns at most k suggestions; starts to read the index again, if it has changed."""
        making = self._follow(searcher)
        if self._suggester is None and making is not None:
            making.join(timeout=_FIRST_SECONDS)
        return [] if self._suggester is None else self._suggester.suggest(prefix, k)

    def _follow(self, searcher: Searcher) -> threading.Thread | None:
        """Returns the thread that reads the index, if one does."""
        state = searcher.generation, searcher.revision
        with self._lock:
            if self._making is not None and self._making.is_alive():
                return self._making
            if state == self._state or time.monotonic() < self._next_at:
                return None
            self._state = state
            self._making = threading.Thread(
                target=self._make, args=(searcher,), name="suggestions", daemon=True
            )
            self._making.start()
            return self._making

    def _make(self, searcher: Searcher) -> None:
        started = time.monotonic()
        try:
            self._suggester = Suggester.of(searcher.reader)
        except Exception:
            logger.exception("suggestions cannot be made; the last ones are used")
        took = time.monotonic() - started
        self._next_at = time.monotonic() + max(_MIN_PAUSE_SECONDS, _PAUSES * took)
