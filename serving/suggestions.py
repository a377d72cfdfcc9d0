"""The suggestions of a worker: made again for each generation of the index, beside its answers."""

import logging
import threading
import time
from pathlib import Path

from reelseek.ranking.prefix_index import folded
from reelseek.ranking.searcher import Searcher
from reelseek.ranking.suggestions import QUERY, Suggester, Suggestion
from reelseek.recommendation.events.log import EventLog
from reelseek.serving.past_queries import ServedCompletion

logger = logging.getLogger(__name__)


_MIN_PAUSE_SECONDS = 5.0
_PAUSES = 20  # of the time that reading takes, to the next reading
_FIRST_SECONDS = 1.0  # that the first who types waits


class Suggestions:
    """Answers from the last state of the index that has been read.

    Past queries are among them only as far as a completion model has them, which holds what enough
    users asked: a service that several use would else tell each what the others asked.

    Args:
        completion: the folder of the model, which may not be there yet; None for no past queries.
        events: the log it was built from, whose deletions take effect at once.
    """

    def __init__(self, completion: Path | None = None, events: EventLog | None = None) -> None:
        self._past = None if completion is None else ServedCompletion(completion, events)
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
        suggester = self._suggester
        if suggester is None:
            return []
        past = None if self._past is None else self._past.current()
        if past is None:
            return suggester.suggest(prefix, k)
        found = suggester.with_queries(past).suggest(prefix, k)
        return [each for each in found if not past.blocks(each.text)]

    def after(self, query: str, k: int) -> list[Suggestion]:
        """Returns at most k queries that are asked after one."""
        past = None if self._past is None else self._past.current()
        if past is None:
            return []
        return [Suggestion(text, QUERY) for text in past.after(folded(query), k)]

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
