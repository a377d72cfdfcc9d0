"""The log of events -> a model, for the videos of an index."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.feed.factors import ItemFactors, train_factors
from reelseek.recommendation.live.follower import read_all
from reelseek.recommendation.live.history import HistoryLimits
from reelseek.recommendation.live.state import LogState
from reelseek.recommendation.models.folder import Learned, LearnedInfo
from reelseek.recommendation.related.co_watch import CoWatchSettings, co_watch_table
from reelseek.recommendation.sequential.content import unit_length
from reelseek.recommendation.sequential.model import SequentialModel

__all__ = ["BuildSettings", "VideoContent", "build"]

_MIN_USERS = 10  # with two videos or more, for factors to say anything
_MIN_SEQUENCES = 100  # likewise, for a transformer
_MIN_STEPS = 500  # of its training, however few events there are
_MAX_UNWATCHED = 200_000  # videos that nobody has watched, which a sequential model has a place for
_MAX_TRIES = 5  # where users are deleted while a model is being made

Progress = Callable[[float, str], None]


class VideoContent(Protocol):
    """How the videos of an index look; they are named by rows."""

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        """`(n,)` -> `(n, D)` float32, L2-normalised."""
        ...


class BuildSettings:
    """
    Attributes:
        limits: of what one user counts.
        co_watch, factors: of what is learned; no factors where these are None.
        sequential: options in place of the configuration's of the sequential model, see
            `sequential.run.default_settings`; None for no such model.
        seed: of what is drawn at random.
    """

    def __init__(
        self,
        limits: HistoryLimits | None = None,
        co_watch: CoWatchSettings | None = None,
        factors: AlsSettings | None = None,
        sequential: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.limits = limits or HistoryLimits()
        self.co_watch = co_watch or CoWatchSettings()
        self.factors = factors
        self.sequential = sequential
        self.seed = seed


def build(
    log: EventLog,
    row_by_id: Mapping[str, int],
    content: VideoContent,
    settings: BuildSettings,
    *,
    fingerprint: str,
    progress: Progress,
    clock: Callable[[], float] = time.time,
) -> Learned:
    """Learns from all events of the log about the videos of an index.

    A user who is deleted meanwhile is in nothing that is returned: it is then learned again.

    Args:
        row_by_id: of the videos.
        content: of their rows.
        fingerprint: of the model whose embeddings `content` has.

    Raises:
        EventsUnavailable: the log cannot be read.
        ValueError: users are being deleted faster than a model is made.
    """
    for _ in range(_MAX_TRIES):
        learned = _build_once(
            log,
            row_by_id,
            content,
            settings,
            fingerprint=fingerprint,
            progress=progress,
            clock=clock,
        )
        if not log.num_deletions(after=learned.info.position):
            return learned
        progress(0.0, "a user was deleted meanwhile: beginning anew")
    raise ValueError("users were deleted each time a model was made; build again later")


def _build_once(
    log: EventLog,
    row_by_id: Mapping[str, int],
    content: VideoContent,
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
        [(time, video) for time, video in history if video in row_by_id]
        for history in state.counted_histories()
    ]
    histories = [history for history in histories if history]
    progress(0.1, "counting what is watched together")
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
            progress=lambda fraction: progress(0.15 + 0.15 * fraction, "learning factors"),
        )
        factors = ItemFactors(rows, settings.factors)
    sequential = None
    if settings.sequential is not None and len(telling) >= _MIN_SEQUENCES:
        sequential = _train_sequential(
            [[video for _, video in history] for history in telling],
            row_by_id,
            content,
            settings,
            fingerprint=fingerprint,
            progress=lambda fraction, text: progress(0.3 + 0.7 * fraction, f"sequences: {text}"),
        )
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
    return Learned(info, table, factors, sequential)


def _train_sequential(
    histories: list[list[str]],
    row_by_id: Mapping[str, int],
    content: VideoContent,
    settings: BuildSettings,
    *,
    fingerprint: str,
    progress: Progress,
) -> SequentialModel | None:
    """Trains on what was watched; other videos, the last ones of many, are placed by how they look.

    What the network is told of a video is how it differs from the mean of those that were watched.
    """
    from reelseek.recommendation.sequential.run import default_settings, train_model, with_steps
    from reelseek.training.processes import Processes
    from reelseek.vision import choose_device

    # Users have numbers here: nothing that is written may name one.
    training = Sequences.of((str(number), each) for number, each in enumerate(histories))
    watched = content.embeddings(_rows(training.items, row_by_id))
    mean = watched.mean(axis=0)
    model = train_model(
        training,
        with_steps(
            default_settings(settings.seed, **settings.sequential or {}),
            _MIN_STEPS,
            num_events=training.num_events,
        ),
        read_content=lambda _: (unit_length(watched - mean), fingerprint),
        processes=Processes(0, 1, choose_device("auto")),
        progress=progress,
    )
    assert model is not None, "nothing stops it"
    others = [video for video in row_by_id if video not in training.items][-_MAX_UNWATCHED:]
    if not others:
        return model
    return model.with_items(
        others, unit_length(content.embeddings(_rows(others, row_by_id)) - mean)
    )


def _rows(videos: Iterable[str], row_by_id: Mapping[str, int]) -> np.ndarray:
    return np.array([row_by_id[video] for video in videos], np.int64)
