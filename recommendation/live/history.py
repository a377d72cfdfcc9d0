"""What one user did with videos: what was seen, liked and skipped, in the order of time."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from reelseek.recommendation.events.schema import Click, Impression, Like, Play, Skip, VideoEvent

__all__ = ["HistoryLimits", "UserHistory", "Watched"]

_MAX_SHOWN = 2_000  # items of a user whose impressions are counted


@dataclass(frozen=True)
class HistoryLimits:
    """Bounds how much one user counts, whatever the user does.

    Attributes:
        max_items: that are remembered of a user; the oldest are forgotten.
        max_items_per_day: of a user that count for others, by the day they arrived; more are
            remembered as seen, but teach nothing.
        min_watched_seconds: plays of less do not say that a video was liked.
    """

    max_items: int = 2_000
    max_items_per_day: int = 100
    min_watched_seconds: float = 3.0


@dataclass
class Watched:
    """A video that a user has seen.

    Attributes:
        first_seconds, last_seconds: Unix time of the first and the last event about it.
        position, first_position: of the last and the first event in the log.
        is_positive: whether the user chose it, and did not leave it at once.
        is_liked: whether it has the user's heart.
        is_counted: whether it counts for others.
        sessions: pseudonyms of the visits in which it was seen.
    """

    first_seconds: float
    last_seconds: float
    position: int
    first_position: int
    is_positive: bool = False
    is_liked: bool = False
    is_counted: bool = True
    sessions: tuple[str, ...] = ()


@dataclass
class UserHistory:
    """
    Attributes:
        watched: what the user has seen, by video.
        shown: how often each video was shown to the user in a list.
    """

    watched: dict[str, Watched] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    _day: int = -1  # of the last new video, by arrival
    _num_today: int = 0
    _counted: list[tuple[float, str]] | None = None  # until something of it changes

    def add(
        self,
        event: VideoEvent,
        *,
        time_seconds: float,
        position: int,
        day: int,
        limits: HistoryLimits,
    ) -> None:
        """Takes in an event of this user.

        Args:
            time_seconds: when it happened, not later than it arrived.
            position: in the log.
            day: of its arrival, as a number.
        """
        if isinstance(event, Impression):
            if event.video in self.shown or len(self.shown) < _MAX_SHOWN:
                self.shown[event.video] = self.shown.get(event.video, 0) + 1
            return
        if isinstance(event, Like) and not event.liked and event.video not in self.watched:
            return
        entry = self.watched.get(event.video)
        if entry is None:
            is_counted = self._may_count(day, limits)
            entry = Watched(time_seconds, time_seconds, position, position, is_counted=is_counted)
            self._make_room(limits.max_items)
            self.watched[event.video] = entry
        before = entry.is_positive, entry.first_seconds
        entry.first_seconds = min(entry.first_seconds, time_seconds)
        entry.last_seconds = max(entry.last_seconds, time_seconds)
        entry.position = position
        if event.session is not None and event.session not in entry.sessions:
            entry.sessions = (*entry.sessions, event.session)
        _judge(entry, event, limits.min_watched_seconds)
        if entry.is_counted and before != (entry.is_positive, entry.first_seconds):
            self._counted = None

    def counted(self) -> list[tuple[float, str]]:
        """Returns time and id of what counts for others, the oldest first; not to be changed."""
        if self._counted is None:
            self._counted = sorted(
                (each.first_seconds, video)
                for video, each in self.watched.items()
                if each.is_positive and each.is_counted
            )
        return self._counted

    def recent(self, num: int) -> list[tuple[str, Watched]]:
        """Returns what the user chose last, the latest first."""
        chosen = [(v, each) for v, each in self.watched.items() if each.is_positive]
        chosen.sort(key=lambda pair: (pair[1].last_seconds, pair[1].position), reverse=True)
        return chosen[:num]

    def forget(self, videos: Iterable[str]) -> None:
        for video in videos:
            self.watched.pop(video, None)
        self._counted = None

    def _may_count(self, day: int, limits: HistoryLimits) -> bool:
        if day != self._day:
            self._day, self._num_today = day, 0
        self._num_today += 1
        return self._num_today <= limits.max_items_per_day

    def _make_room(self, max_items: int) -> None:
        """Forgets the oldest tenth where there is no room: looking for one each time takes long."""
        if len(self.watched) >= max_items:
            by_age = sorted(self.watched, key=lambda v: (self.watched[v].last_seconds, v))
            self.forget(by_age[: max(1, max_items // 10)])


def _judge(entry: Watched, event: VideoEvent, min_watched_seconds: float) -> None:
    """Whether the user chose the video, as of the last that is known."""
    match event:
        case Like(liked=liked):
            entry.is_liked = liked
            entry.is_positive = entry.is_positive or liked
        case Play(watched_seconds=seconds):
            entry.is_positive = entry.is_positive or seconds >= min_watched_seconds
        case Click():
            entry.is_positive = True
        case Skip():
            entry.is_positive = entry.is_liked
