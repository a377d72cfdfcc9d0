"""Logs of searches for the tests."""

from collections.abc import Iterable

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Search

DAY_SECONDS = 86_400.0
NOW = 1_767_225_600.0  # 1 January 2026


def ask(log: EventLog, queries: Iterable[tuple[str, str]]) -> None:
    """Args: queries: users and what they ask, one after the other."""
    _, last = log.bounds()
    events = [
        Search(event_id=f"{last}-{number}", time_seconds=NOW, user=user, query=query)
        for number, (user, query) in enumerate(queries)
    ]
    log.append(events)


def many(query: str, num_users: int, *, name: str = "u") -> list[tuple[str, str]]:
    return [(f"{name}{number}", query) for number in range(num_users)]
