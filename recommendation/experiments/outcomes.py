"""The log of events -> what each user saw and did."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Click, Deletion, Impression, Play, VideoEvent

__all__ = ["UserOutcomes", "outcomes_by_user"]


@dataclass
class UserOutcomes:
    """Of one user or session; what was shown in several answers counts for each."""

    shown: set[tuple[str, str]] = field(default_factory=set)  # request, video
    clicked: set[tuple[str, str]] = field(default_factory=set)
    watched: dict[tuple[str, str], float] = field(default_factory=dict)

    def num_clicked(self) -> int:
        return len(self.clicked & self.shown)

    def num_long(self, seconds: float) -> int:
        """Returns how many of the shown videos were watched for so long."""
        return sum(each >= seconds and key in self.shown for key, each in self.watched.items())

    def num_seconds(self) -> float:
        return sum(each for key, each in self.watched.items() if key in self.shown)


def outcomes_by_user(
    events: Iterable[LoggedEvent], *, surface: str | None, since: float, until: float
) -> dict[str, UserOutcomes]:
    """Collects events by their arrival in [since, until); outcomes only count where the video was
    shown then.

    Args:
        surface: of the impressions that count; None for all.
    """
    found: dict[str, UserOutcomes] = {}
    for logged in events:
        event = logged.event
        if isinstance(event, Deletion):
            for user in [user for user in found if event.is_of(user)]:
                del found[user]
        if not isinstance(event, VideoEvent) or not since <= logged.received_seconds < until:
            continue
        user, key = event.user or event.session or "", (event.request_id or "", event.video)
        outcomes = found.setdefault(user, UserOutcomes())
        if isinstance(event, Impression):
            if surface is None or event.surface == surface:
                outcomes.shown.add(key)
        elif isinstance(event, Click):
            outcomes.clicked.add(key)
        elif isinstance(event, Play):
            outcomes.watched[key] = outcomes.watched.get(key, 0.0) + event.watched_seconds
    return {user: outcomes for user, outcomes in found.items() if outcomes.shown}
