"""What a worker recommends by: the catalogue of the index, the log of events and the last model,
each followed as it changes, without a restart.

Nothing is read before it is asked for, or before `start`.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.configs.schema import Engine, ServeConfig
from reelseek.ranking.searcher import Searcher
from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import IndexContent
from reelseek.recommendation.diversity import DiversityRule
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.feed.candidates import FactorSource, SequenceSource, Source
from reelseek.recommendation.feed.feed import Feed, FeedSettings
from reelseek.recommendation.feed.personal import PersonalView
from reelseek.recommendation.feed.ranker import FeedWeights
from reelseek.recommendation.live.follower import read_all, read_new
from reelseek.recommendation.live.state import LogState
from reelseek.recommendation.models import folder as models
from reelseek.recommendation.models.folder import Learned
from reelseek.recommendation.redis_server import is_redis
from reelseek.recommendation.related.finder import RelatedFinder, RelatedSettings
from reelseek.serving.errors import ApiError

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_RETENTION_SECONDS = 60.0  # between two looks at what the log has dropped
_PAUSES = 20  # of the time that reading the catalogue takes, to the next reading
_FIRST_SECONDS = 10.0  # that the first request waits


@dataclass(frozen=True, eq=False)
class View:
    """All that an answer is made from; replaced as a whole.

    Attributes:
        version: of the model; 0 for none.
    """

    catalogue: ItemCatalogue
    content: IndexContent
    finder: RelatedFinder
    feed: Feed
    personal: PersonalView
    version: int


class Recommendations:
    """Threads may share it.

    Args:
        events: what users do; None where nothing is kept.
        searcher: returns what searches the index; None as long as there is none.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        events: EventLog | None,
        searcher: Callable[[], Searcher | None],
    ) -> None:
        self._events, self._searcher = events, searcher
        self._config, config_of_feed = config, config.recommend
        self._stop = threading.Event()
        self._has_view = threading.Event()
        self._view: View | None = None
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._feed_settings = FeedSettings(
            weights=FeedWeights(config_of_feed.weights),
            diversity=DiversityRule(relevance_share=config_of_feed.relevance_share),
            explore_probability=config_of_feed.explore_probability,
            explore_every=config_of_feed.explore_every,
        )
        self._related_settings = RelatedSettings(
            confidence_watchers=config_of_feed.confidence_watchers
        )
        self._index_state: tuple[int, int] | None = None
        self._catalogue: tuple[ItemCatalogue, IndexContent] | None = None
        self._next_catalogue_at = 0.0
        self._state: LogState | None = None
        self._learned: Learned | None = None
        self._model_signature: tuple[int, ...] = ()
        self._next_retention_at = 0.0
        self._dropped = 0

    @property
    def is_possible(self) -> bool:
        """Whether this process reads the index itself; a router of a cluster does not."""
        return self._config.engine is Engine.local

    @property
    def generation(self) -> int:
        """Of the index that is searched now."""
        searcher = self._searcher()
        return 0 if searcher is None else searcher.generation

    def start(self) -> None:
        """Begins to follow the index, the log and the models, if that has not begun."""
        with self._lock:
            if self._thread is None and self.is_possible:
                self._thread = threading.Thread(target=self._run, name="recommend", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def view(self, *, wait_seconds: float = _FIRST_SECONDS) -> View | None:
        """Returns the latest view; None where there is none in time."""
        self.start()
        if self._view is None:
            self._has_view.wait(wait_seconds)
        return self._view

    def up_to_date(self) -> View:
        """Returns the view once its state has all events that the log has now.

        Raises:
            ApiError: it is not ready yet.
            EventsUnavailable: the log cannot be read.
        """
        view = self.view()
        if view is None:
            raise ApiError(
                503,
                "not_ready",
                "nothing can be recommended yet: the index and the events are being read",
                retry_after_seconds=2,
            )
        if self._events is not None:
            with self._reading:
                read_new(self._events, view.personal.state)
        return view

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                searcher = self._searcher()
                if searcher is not None:
                    self._follow(searcher)
            except sqlite3.ProgrammingError:
                return  # the index has been closed: nothing is left to follow
            except Exception:
                logger.exception("recommendations are not brought up to date; the last go on")
                self._stop.wait(10 * _TICK_SECONDS)
            self._stop.wait(_TICK_SECONDS)

    def _follow(self, searcher: Searcher) -> None:
        has_new_catalogue = self._follow_index(searcher)
        has_new_state = self._follow_models(searcher.reader)
        if self._catalogue is None or self._state is None:
            return
        if self._events is not None:
            with self._reading:
                read_new(self._events, self._state)
            self._follow_retention(self._events)
        if has_new_catalogue or has_new_state:
            self._view = self._made(*self._catalogue, self._state)
            self._has_view.set()

    def _follow_index(self, searcher: Searcher) -> bool:
        reader: Any = searcher.reader
        state = searcher.generation, searcher.revision
        if state == self._index_state or time.monotonic() < self._next_catalogue_at:
            return False
        started = time.monotonic()
        with reader.one_generation():
            catalogue = ItemCatalogue.of(reader)
        self._catalogue = catalogue, IndexContent(catalogue)
        self._index_state = state
        took = time.monotonic() - started
        self._next_catalogue_at = time.monotonic() + _PAUSES * took
        return True

    def _follow_models(self, reader: Any) -> bool:
        """Reads the log anew where there is another model, which says how much of it is learned."""
        folder, log = self._models_folder(), self._events
        signature = () if folder is None else models.current_signature(folder)
        if self._state is not None and signature == self._model_signature:
            return False
        self._model_signature = signature
        fingerprint = reader.manifest.settings.fingerprint
        learned = None if folder is None else _read_model(folder, fingerprint)
        if (
            learned is not None
            and log is not None
            and log.num_deletions(after=learned.info.position)
        ):
            logger.warning("a user was deleted since the model was made: it waits to be made again")
            learned = None
        state = self._read_log(log, learned)
        # Whoever was deleted meanwhile may have been gone before the log was read that far.
        if learned and log and log.num_deletions(after=learned.info.position):
            learned, state = None, self._read_log(log, None)
        self._state, self._learned = state, learned
        return True

    def _read_log(self, log: EventLog | None, learned: Learned | None) -> LogState:
        state = LogState()
        if learned is not None:
            state = LogState(learned.info.limits, learned.info.co_watch)
        if log is None:
            state.count_from(None if learned is None else learned.table)
            return state
        if learned is None:
            read_all(log, state, stop=self._stop)
            state.count_from()
            return state
        read_all(log, state, until=learned.info.position, stop=self._stop)
        state.count_from(learned.table)
        read_all(log, state, stop=self._stop)
        return state

    def _follow_retention(self, log: EventLog) -> None:
        if time.monotonic() < self._next_retention_at or self._state is None:
            return
        self._next_retention_at = time.monotonic() + _RETENTION_SECONDS
        dropped, _ = log.bounds()
        if dropped > self._dropped:
            self._dropped = dropped
            self._state.drop_until(dropped)

    def _made(self, catalogue: ItemCatalogue, content: IndexContent, state: LogState) -> View:
        learned = self._learned
        sources: dict[str, Source] = {}
        if learned is not None and learned.factors is not None:
            sources["factors"] = FactorSource(learned.factors, learned.table.ids, catalogue)
        if learned is not None and learned.sequential is not None:
            sources["sequence"] = SequenceSource(
                learned.sequential, catalogue, learned.sequential_cells
            )
        days = self._config.recommend.seen_again_days
        return View(
            catalogue,
            content,
            RelatedFinder(catalogue, content, self._related_settings),
            Feed(catalogue, content, self._feed_settings, sources),
            PersonalView(state, catalogue, seen_again_days=days),
            0 if learned is None else learned.info.version,
        )

    def _models_folder(self) -> Path | None:
        config = self._config
        if config.recommend.models is not None:
            return Path(config.recommend.models)
        if config.events is None or is_redis(config.events):
            return None
        return models.default_folder(Path(config.events))


def new_draws() -> np.random.Generator:
    """What explores differently for each answer."""
    return np.random.default_rng()


def _read_model(folder: Path, fingerprint: str) -> Learned | None:
    try:
        return models.read(folder, fingerprint=fingerprint)
    except ValueError as error:
        logger.warning("the model is not used: %s", error)
        return None
