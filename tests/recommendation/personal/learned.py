"""A log of users who like one author each, and a learner of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Click, Deletion, Impression, Play, sha256_of
from reelseek.recommendation.learning.content_codes import content_codes
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.store import ModelStore

START = 1.78e9
NUM_USERS, NUM_VIDEOS, NUM_AUTHORS = 20, 60, 5
SETTINGS = ModelSettings(capacity=3000, max_candidates=300)
JOIN = JoinSettings(wait_seconds=5, correct_seconds=200)


def facts_of(video: str) -> VideoFacts:
    if not video.startswith("v"):
        return UNKNOWN_VIDEO
    number = int(video[1:])
    (code,) = content_codes(np.cos(np.arange(1, 17)[None] * (1 + number % NUM_AUTHORS)))
    return VideoFacts(
        f"author {number % NUM_AUTHORS}", f"tag {number % 7}", 7e3 * (1 + number), code=code
    )


def video_of(author: int, index: int = 0) -> str:
    return f"v{author + NUM_AUTHORS * index}"


class Events:
    """A log in memory: user N opens and watches nothing but videos of author N % NUM_AUTHORS."""

    def __init__(
        self,
        num: int,
        *,
        seed: int = 0,
        num_videos: int = NUM_VIDEOS,
        name_of: Callable[[int], str] = "v{}".format,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.events: list[LoggedEvent] = []
        for number in range(num):
            user, video = rng.integers(NUM_USERS), int(rng.integers(num_videos))
            at = START + 2.0 * number
            common = {"time_seconds": at, "user": f"u{user}", "video": name_of(video)}
            common |= {"request_id": f"r{number}"}
            self._add(Impression(event_id=f"i{number}", position=1, surface="search", **common), at)
            if user % NUM_AUTHORS == video % NUM_AUTHORS:
                self._add(Click(event_id=f"c{number}", **common), at + 0.5)
                self._add(Play(event_id=f"p{number}", watched_seconds=40.0, **common), at + 1)

    def delete(self, user: str) -> None:
        event = Deletion(event_id="d", time_seconds=START, pseudonym_sha256=sha256_of(user))
        self._add(event, self.events[-1].received_seconds)

    @property
    def now_seconds(self) -> float:
        return self.events[-1].received_seconds

    def _add(self, event, at: float) -> None:
        self.events.append(LoggedEvent(len(self.events) + 1, at, event))

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        return self.events[after : after + limit]

    def bounds(self) -> tuple[int, int]:
        return 0, len(self.events)


def open_learner(
    log, folder: Path, *, commit_events: int = 100, snapshot_every: int = 5
) -> tuple[ModelStore, Learner]:
    store = ModelStore(folder, snapshot_every=snapshot_every)
    learner = Learner(
        log,
        store,
        model=OnlineModel(SETTINGS),
        join=JOIN,
        facts_of=facts_of,
        commit_events=commit_events,
    )
    return store, learner


def learn(log, folder: Path, *, max_steps: int = 10**9, **options) -> Learner:
    store, learner = open_learner(log, folder, **options)
    with store:
        for _ in range(max_steps):
            if not learner.step():
                break
    return learner
