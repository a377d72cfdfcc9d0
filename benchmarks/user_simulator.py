"""Users who search, click and watch, for what no public log has: all three of the same people.

    simulator = UserSimulator(SimulatorSettings(num_users=1000), seed=0)
    for visit in simulator.visits(3600.0):
        ranking = rank(visit.user, visit.query, visit.candidates)
        events = simulator.react(visit, ranking)

Never quoted as quality on people: it has in it what it was made with. Each user has tastes over
topics, which drift; a query names a topic, and many videos answer it; which of them is liked
depends on the user's taste for their styles. Clicks need a look, which falls with the position
(Craswell et al., WSDM 2008), and attraction. New videos come all the time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Reaction", "SimulatorSettings", "UserSimulator", "Visit"]


@dataclass(frozen=True)
class SimulatorSettings:
    """What the world is made of.

    Attributes:
        num_styles: of videos; tastes are for styles, queries for topics.
        taste: how far users differ; 0 for users without tastes.
        drift_per_day: share of a taste that is new after a day.
        look: probability that the hit at position r is looked at is `1 / r ** look`.
        seconds_between_visits: of all users together.
    """

    num_users: int = 1000
    num_videos: int = 2000
    num_topics: int = 40
    num_styles: int = 8
    taste: float = 1.5
    drift_per_day: float = 0.05
    new_videos_per_day: int = 100
    look: float = 0.7
    num_candidates: int = 50
    seconds_between_visits: float = 1.0


@dataclass(frozen=True)
class Visit:
    """A user asks.

    Attributes:
        relevant: `(num_candidates,)` of the candidates, those of the topic that was asked for.
    """

    request: str
    time_seconds: float
    user: int
    query: str
    candidates: np.ndarray
    relevant: np.ndarray


@dataclass(frozen=True)
class Reaction:
    """What became of one hit that was shown; position from 1."""

    video: int
    position: int
    clicked: bool
    watched_seconds: float


class UserSimulator:
    """Seeded: the same rankings give the same visits and reactions."""

    def __init__(self, settings: SimulatorSettings | None = None, *, seed: int = 0) -> None:
        self.settings = settings or SimulatorSettings()
        self._rng = np.random.default_rng(seed)
        s = self.settings
        self.tastes = self._rng.normal(0, s.taste, (s.num_users, s.num_styles))
        self._interests = self._rng.dirichlet(np.full(s.num_topics, 0.2), s.num_users)
        self.topic = self._rng.integers(s.num_topics, size=s.num_videos)
        self.style = self._rng.integers(s.num_styles, size=s.num_videos)
        self._quality = self._rng.normal(0, 0.5, s.num_videos)
        self.now_seconds = 0.0
        self._num_visits = 0

    def visits(self, seconds: float) -> Iterator[Visit]:
        """Yields the visits of a stretch of time, in order; between them the world changes."""
        s = self.settings
        end = self.now_seconds + seconds
        while True:
            passed = float(self._rng.exponential(s.seconds_between_visits))
            if self.now_seconds + passed >= end:
                self.now_seconds = end
                return
            self.now_seconds += passed
            self._change(passed / 86_400)
            self._num_visits += 1
            user = int(self._rng.integers(s.num_users))
            topic = int(self._rng.choice(s.num_topics, p=self._interests[user]))
            candidates = self._candidates(topic)
            yield Visit(
                f"request-{self._num_visits}",
                self.now_seconds,
                user,
                f"topic {topic}",
                candidates,
                self.topic[candidates] == topic,
            )

    def attraction(self, visit: Visit, video: int) -> float:
        """Returns the probability that the user clicks on a hit that is looked at."""
        if self.topic[video] != int(visit.query.split()[1]):
            return 0.01
        logit = self.tastes[visit.user, self.style[video]] + self._quality[video] - 1
        return float(1 / (1 + np.exp(-logit)))

    def react(self, visit: Visit, ranking: Sequence[int], *, shown: int = 10) -> list[Reaction]:
        """Returns what the user does with the first hits of a ranking."""
        found = []
        for position, video in enumerate(list(ranking)[:shown], 1):
            attraction = self.attraction(visit, int(video))
            looked, drawn = self._rng.random(2)
            clicked = bool(looked < position**-self.settings.look and drawn < attraction)
            seconds = float(self._rng.exponential(10 + 40 * attraction)) if clicked else 0.0
            found.append(Reaction(int(video), position, clicked, seconds))
        return found

    def _candidates(self, topic: int) -> np.ndarray:
        """Draws half of the topic, as far as it has so many, and the rest of others."""
        s = self.settings
        own = np.flatnonzero(self.topic == topic)
        others = np.flatnonzero(self.topic != topic)
        num_own = min(len(own), s.num_candidates // 2)
        own = self._rng.permutation(own)[:num_own]
        others = self._rng.permutation(others)[: s.num_candidates - num_own]
        return np.concatenate([own, others])

    def _change(self, days: float) -> None:
        s = self.settings
        kept = (1 - s.drift_per_day) ** days
        new = self._rng.normal(0, s.taste, self.tastes.shape)
        self.tastes = self.tastes * kept + new * np.sqrt(1 - kept**2)
        for _ in range(int(self._rng.poisson(s.new_videos_per_day * days))):
            self.topic = np.append(self.topic, self._rng.integers(s.num_topics))
            self.style = np.append(self.style, self._rng.integers(s.num_styles))
            self._quality = np.append(self._quality, self._rng.normal(0, 0.5))
