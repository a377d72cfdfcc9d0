"""The log of events -> who asked what on which day, and in which order.

An ask counts once a user, query and day, and only so many queries of a user count a day: a robot
that asks a million times weighs as much as one busy person. Days are by the server's clock, which
no client sets.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from reelseek.ranking.prefix_index import folded
from reelseek.recommendation.completion.phrases import MAX_USERS
from reelseek.recommendation.completion.query_files import MAX_QUERY_LETTERS
from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.events.schema import Search

_MAX_READS = 5  # of the whole log, where users are deleted meanwhile
_DAY_SECONDS = 86_400
_EPOCH_ORDINAL = 719_163  # 1 January 1970
_SESSION_GAP_SECONDS = 30 * 60
_MAX_SESSION = 50  # queries of a session that count


@dataclass
class AskedQuery:
    """A query, as users asked it.

    Attributes:
        by_day: users who asked it on each day, by the day's ordinal.
        users: hashes of those who did, up to `MAX_USERS`.
        last_seconds: when it was asked last.
    """

    by_day: Counter[int] = field(default_factory=Counter)
    users: set[int] = field(default_factory=set)
    last_seconds: float = 0.0


@dataclass
class SearchHistory:
    """What a log says of searches.

    Attributes:
        queries: by their folded form.
        sessions: of each user, in order: the hash of the user, the day it began, the queries.
        log_position: of the last event read.
        num_searches: read, whether they count or not.
    """

    queries: dict[str, AskedQuery] = field(default_factory=lambda: defaultdict(AskedQuery))
    sessions: list[tuple[int, int, list[str]]] = field(default_factory=list)
    log_position: int = 0
    num_searches: int = 0


def read_history(
    log: EventLog, *, max_queries_per_user: int, report: Callable[[str], None] = lambda _: None
) -> SearchHistory:
    """Reads the log up to its present end.

    Args:
        max_queries_per_user: a day, that count.
        report: told how far it is.

    Raises:
        EventsUnavailable: the log cannot be read, or users are being deleted all the time.
    """
    for _ in range(_MAX_READS):
        _, last = log.bounds()
        history = _read_once(log, last, max_queries_per_user, report)
        if not log.num_deletions(after=last):
            return history
        report("a user was deleted meanwhile: reading again")
    raise EventsUnavailable("users are being deleted all the time; try again later")


def _read_once(
    log: EventLog, last: int, max_queries_per_user: int, report: Callable[[str], None]
) -> SearchHistory:
    history = SearchHistory(log_position=last)
    counted: dict[tuple[int, int], set[str]] = defaultdict(set)  # by user and day
    open_sessions: dict[int, tuple[float, int, list[str]]] = {}
    for number, logged in enumerate(log.scan(), 1):
        if logged.log_position > last:
            break
        if number % 100_000 == 0:
            report(f"{number:,} events read")
        if not isinstance(logged.event, Search):
            continue
        history.num_searches += 1
        query = folded(logged.event.query)
        if not query or len(query) > MAX_QUERY_LETTERS:
            continue
        user = _hash(logged.event.user or logged.event.session or "")
        day = _EPOCH_ORDINAL + int(logged.received_seconds // _DAY_SECONDS)
        today = counted[user, day]
        if query not in today:
            if len(today) >= max_queries_per_user:
                continue
            today.add(query)
            asked = history.queries[query]
            asked.by_day[day] += 1
            if len(asked.users) < MAX_USERS:
                asked.users.add(user)
        history.queries[query].last_seconds = logged.received_seconds
        _continue_session(history, open_sessions, user, day, query, logged.received_seconds)
    history.sessions += [(user, day, asked) for user, (_, day, asked) in open_sessions.items()]
    return history


def _continue_session(
    history: SearchHistory,
    open_sessions: dict[int, tuple[float, int, list[str]]],
    user: int,
    day: int,
    query: str,
    now: float,
) -> None:
    last, began, asked = open_sessions.get(user, (now, day, []))
    if now - last > _SESSION_GAP_SECONDS or len(asked) >= _MAX_SESSION:
        history.sessions.append((user, began, asked))
        began, asked = day, []
    if not asked or asked[-1] != query:
        asked = [*asked, query]
    open_sessions[user] = now, began, asked


def _hash(pseudonym: str) -> int:
    return int.from_bytes(hashlib.blake2b(pseudonym.encode(), digest_size=8).digest(), "little")
