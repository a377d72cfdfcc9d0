"""Streams of events of users with tastes, in memory, sound or poisoned."""

import numpy as np

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Impression, Play
from reelseek.recommendation.learning.guard import GuardSettings

SECONDS = 60.0  # between answers
SHOWN = 15  # in an answer
GUARD = GuardSettings(windows=(150, 600), warm_examples=600, mature_seconds=90, sound_seconds=120)


class Stream:
    """A log. Positions are numbered from 1."""

    def __init__(self, *, num_users: int = 40, num_videos: int = 60, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._robot = np.random.default_rng(seed + 1)  # so that people do the same beside it
        self._user = self._rng.normal(0, 1.0, num_users)
        self._video = self._rng.normal(0, 1.5, num_videos)
        self.events: list[LoggedEvent] = []
        self.now = 999_997_200.0  # the beginning of an hour

    def add(self, event, at=None):
        self.events.append(LoggedEvent(len(self.events) + 1, self.now if at is None else at, event))

    def show(self, user, video, *, request, watched):
        number = len(self.events)
        common = {"time_seconds": 1e9, "user": user, "video": video, "request_id": request}
        self.add(
            Impression(event_id=f"i{number}", position=1, surface="search", **common), self.now
        )
        if watched:
            self.add(Play(event_id=f"p{number}", watched_seconds=30.0, **common), self.now + 1)

    def answers(self, seconds, *, flipped=False, robot_share=0.0, positive=None):
        """Adds answers of a stretch of time.

        Args:
            flipped: all labels are the opposite.
            robot_share: of the impressions, that one robot has; it watches nothing that is good.
            positive: share of long views; default as users like it.
        """
        end = self.now + seconds
        while self.now < end:
            self.now += SECONDS
            request = f"r{self.now}"
            videos = self._rng.choice(len(self._video), SHOWN, replace=False)
            user = int(self._rng.integers(len(self._user)))
            for video in videos.tolist():
                logit = self._user[user] + self._video[video]
                share = 1 / (1 + np.exp(-logit)) * 0.6
                watched = self._rng.random() < (share if positive is None else positive)
                self.show(f"u{user}", f"v{video}", request=request, watched=watched != flipped)
            if robot_share:
                num = round(SHOWN * robot_share / (1 - robot_share))
                for copy in range(num):
                    video = int(self._robot.integers(len(self._video)))
                    bad = self._video[video] < 0
                    self.show("robot", f"v{video}", request=f"{request}-{copy}", watched=bad)
        return self

    def read(self, *, after=0, limit=1000):
        return self.events[after : after + limit]

    def bounds(self):
        return 0, len(self.events)
