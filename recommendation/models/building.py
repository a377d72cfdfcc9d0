"""The log of events -> a model, for the videos of an index."""

import time
from collections.abc import Callable, Container

import numpy as np

from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.feed.factors import ItemFactors, train_factors
from reelseek.recommendation.live.follower import read_all
from reelseek.recommendation.live.history import HistoryLimits
from reelseek.recommendation.live.state import LogState
from reelseek.recommendation.models.folder import Learned, LearnedInfo
from reelseek.recommendation.related.co_watch import CoWatchSettings, co_watch_table

__all__ = ["BuildSettings", "build"]

_MIN_USERS = 10  # with two videos or more, for factors to say anything
_MAX_TRIES = 5  # where users are deleted while a model is being made

Progress = Callable[[float, str], None]


class BuildSettings:
    """
    Attributes:
        limits: of what one user counts.
        co_watch, factors: of what is learned; no factors where these are None.
        seed: of what is drawn at random.
    """

    def __init__(
        self,
        limits: HistoryLimits | None = None,
        co_watch: CoWatchSettings | None = None,
        factors: AlsSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.limits = limits or HistoryLimits()
        self.co_watch = co_watch or CoWatchSettings()
        self.factors = factors
        self.seed = seed


def build(
    log: EventLog,
    videos: Container[str],
    settings: BuildSettings,
    *,
    fingerprint: str,
    progress: Progress,
    clock: Callable[[], float] = time.time,
) -> Learned:
    """Learns from all events of the log about these videos.

    A user who is deleted meanwhile is in nothing that is returned: it is then learned again.

    Raises:
        EventsUnavailable: the log cannot be read.
        ValueError: users are being deleted faster than a model is made.
    """
    for _ in range(_MAX_TRIES):
        learned = _build_once(
            log, videos, settings, fingerprint=fingerprint, progress=progress, clock=clock
        )
        if not log.num_deletions(after=learned.info.position):
            return learned
        progress(0.0, "a user was deleted meanwhile: beginning anew")
    raise ValueError("users were deleted each time a model was made; build again later")


def _build_once(
    log: EventLog,
    videos: Container[str],
    settings: BuildSettings,
    *,
    fingerprint: str,
    progress: Progress,
    clock: Callable[[], float],
) -> Learned:
    progress(0.0, "reading events")
    state = LogState(settings.limits, settings.co_watch)
    read_all(log, state)
    histories = [
        [(time, video) for time, video in history if video in videos]
        for history in state.counted_histories()
    ]
    histories = [history for history in histories if history]
    progress(0.3, "counting what is watched together")
    table = co_watch_table(histories, settings.co_watch)
    factors = None
    telling = [history for history in histories if len(history) > 1]
    if settings.factors is not None and len(telling) >= _MIN_USERS:
        number_by_id = {video: number for number, video in enumerate(table.ids)}
        rows = train_factors(
            [np.array([number_by_id[video] for _, video in each], np.int32) for each in telling],
            len(table.ids),
            settings.factors,
            seed=settings.seed,
            progress=lambda fraction: progress(0.4 + 0.55 * fraction, "learning factors"),
        )
        factors = ItemFactors(rows, settings.factors)
    info = LearnedInfo(
        fingerprint=fingerprint,
        position=state.position,
        built_seconds=clock(),
        num_users=len(histories),
        num_items=len(table.ids),
        num_events=state.num_events,
        as_of_seconds=table.as_of_seconds,
        limits=settings.limits,
        co_watch=settings.co_watch,
        factors=None if factors is None else settings.factors,
    )
    return Learned(info, table, factors)
