"""Impressions, clicks and watched seconds of the log -> one example for each impression.

    joiner = Joiner(JoinSettings(wait_seconds=1))
    for logged in log.read(after=position):
        joiner.add(logged)
    for joined in joiner.take(): ...

An example is complete `wait_seconds` after its impression: what has not happened by then counts as
not happening. Where it does later, a correction follows, which says by how much the labels that
were learned are wrong. Time is that at which the log received events, so a wrong clock of a phone
neither delays nor hastens anything, and a replay of the log gives the same examples.

A user gives at most `max_user_examples` an hour, corrections included, so that a robot moves the
model no further than a person could. What the schema would have refused is refused here again.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import (
    Click,
    Deletion,
    Impression,
    Like,
    Play,
    Search,
    VideoEvent,
)
from reelseek.recommendation.learning.faults import fault_of
from reelseek.recommendation.learning.namespaces import query_key
from reelseek.recommendation.learning.user_bound import UserBound

__all__ = ["JoinCounts", "JoinSettings", "Joined", "Joiner"]

_Key = tuple[str, str, str]  # user or session, request, video

_QUERY_SECONDS = 3600.0  # after a search, in which its hits are seen


@dataclass(frozen=True)
class JoinSettings:
    """How long is waited.

    Attributes:
        wait_seconds: after an impression, until its example is complete.
        correct_seconds: after an impression, until which outcomes correct its example.
        long_view_seconds: watched, from which a view is long.
        max_open: impressions that are remembered; the oldest are completed early.
        max_user_examples: of a user in an hour of the log, with their corrections.
    """

    wait_seconds: float = 1.0
    correct_seconds: float = 86_400.0
    long_view_seconds: float = 18.0
    max_open: int = 200_000
    max_user_examples: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.wait_seconds <= self.correct_seconds:
            raise ValueError(
                f"wait_seconds={self.wait_seconds}, correct_seconds={self.correct_seconds}: the "
                "wait must be 0 or more, and at most the time for corrections"
            )
        for name in ("max_open", "max_user_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")


class Joined(msgspec.Struct, kw_only=True):
    """An impression with its outcomes.

    Attributes:
        log_position: of the impression.
        user: or else its session.
        time_seconds: Unix time at which the log received the impression.
        position, propensity: as the impression says; they are kept for off-policy estimates.
        clicked, liked, long_view: labels.
        watched_seconds: the sum over its plays.
        query: whose answer the impression is of, see `query_key`; "" if it is none's, or came later
            than the example was complete.
        corrects: the labels (clicked, liked, long_view) and the seconds that were learned before;
            None for a first example.
    """

    log_position: int
    user: str
    video: str
    request_id: str
    time_seconds: float
    surface: str
    position: int
    propensity: float | None
    query: str = ""
    clicked: bool = False
    liked: bool = False
    long_view: bool = False
    watched_seconds: float = 0.0
    corrects: tuple[bool, bool, bool, float] | None = None

    @property
    def outcome(self) -> tuple[bool, bool, bool, float]:
        return self.clicked, self.liked, self.long_view, self.watched_seconds


@dataclass
class JoinCounts:
    """What became of events.

    Attributes:
        examples, corrections: that were given out.
        repeated: impressions of what the same answer had shown already.
        unmatched: outcomes without an impression, or of one that is no longer remembered.
        completed_early: impressions that did not wait to the end, as there were too many.
        limited: impressions and corrections of users beyond their bound.
        refused: events with numbers or ids that the schema would have refused.
    """

    examples: int = 0
    corrections: int = 0
    repeated: int = 0
    unmatched: int = 0
    completed_early: int = 0
    limited: int = 0
    refused: int = 0


class _Open(msgspec.Struct):
    """An impression that is remembered; `learned` is None until its example was given out."""

    joined: Joined
    learned: tuple[bool, bool, bool, float] | None = None


class _State(msgspec.Struct):
    now_seconds: float
    open: list[_Open]
    early: list[tuple[_Key, float, list[tuple[str, float]]]]
    users: tuple[int, dict[str, int]] = (-1, {})
    queries: list[tuple[str, str, float, str]] = []


@dataclass
class Joiner:
    """Joins the events of a log, given in its order.

    Attributes:
        now_seconds: Unix time of the latest event, by the clock of the log.
    """

    settings: JoinSettings = field(default_factory=JoinSettings)
    counts: JoinCounts = field(default_factory=JoinCounts)

    def __post_init__(self) -> None:
        self.now_seconds = float("-inf")
        # All in order of time. To find the first entry of a dict takes the longer, the more have
        # been deleted before it; of an OrderedDict it does not.
        self._waiting: OrderedDict[_Key, _Open] = OrderedDict()  # until their examples are out
        self._done: OrderedDict[_Key, _Open] = OrderedDict()  # until they are forgotten
        # Outcomes that came before their impressions: when, and what.
        self._early: OrderedDict[_Key, tuple[float, list[tuple[str, float]]]] = OrderedDict()
        # Queries by the user and the request.
        self._queries: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self._ready: list[Joined] = []
        self._bound = UserBound(self.settings.max_user_examples)

    @property
    def num_open(self) -> int:
        return len(self._waiting) + len(self._done)

    def add(self, logged: LoggedEvent) -> str:
        """Takes the next event of the log; returns why it is refused, or nothing."""
        if fault := fault_of(logged):
            self.counts.refused += 1
            return fault
        event = logged.event
        self.now_seconds = max(self.now_seconds, logged.received_seconds)
        self._complete()
        if isinstance(event, Deletion):
            self.forget(event.is_of)
        elif isinstance(event, Impression):
            self._add_impression(event, logged)
        elif isinstance(event, Search):
            self._add_query(event)
        elif isinstance(event, Click):
            self._add_outcome(_key_of(event), "clicked", 1.0)
        elif isinstance(event, Like):
            self._add_outcome(_key_of(event), "liked", float(event.liked))
        elif isinstance(event, Play):
            self._add_outcome(_key_of(event), "watched", event.watched_seconds)
        return ""

    def take(self) -> list[Joined]:
        """Returns the examples and corrections that became complete since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def state(self) -> msgspec.Struct:
        """Returns what is remembered, after `take`; to be encoded at once, as it is not copied."""
        if self._ready:
            raise ValueError("take what is ready before the state")
        return _State(
            now_seconds=self.now_seconds,
            open=[*self._done.values(), *self._waiting.values()],
            early=[(key, when, outcomes) for key, (when, outcomes) in self._early.items()],
            users=self._bound.state(),
            queries=[(*key, when, query) for key, (when, query) in self._queries.items()],
        )

    def restore(self, state: Any) -> None:
        """Takes over what `state` returned, once it has been decoded."""
        found = msgspec.convert(state, _State)
        self.now_seconds = found.now_seconds
        for each in found.open:
            kept = self._waiting if each.learned is None else self._done
            kept[_key_of_joined(each.joined)] = each
        self._early.update((key, (when, outcomes)) for key, when, outcomes in found.early)
        self._bound.restore(found.users)
        self._queries.update(
            ((user, request), (when, q)) for user, request, when, q in found.queries
        )

    def forget(self, is_deleted: Callable[[str], bool]) -> None:
        """Drops what is remembered of users."""
        every: list[dict[Any, Any]] = [self._waiting, self._done, self._early, self._queries]
        for kept in every:
            for key in [key for key in kept if is_deleted(key[0])]:
                del kept[key]
        self._bound.forget([user for user in self._bound.users() if is_deleted(user)])
        self._ready = [joined for joined in self._ready if not is_deleted(joined.user)]

    def _add_impression(self, event: Impression, logged: LoggedEvent) -> None:
        key = _key_of(event)
        if key in self._waiting or key in self._done:
            self.counts.repeated += 1
            return
        if not self._bound.admits(key[0], self.now_seconds):
            self.counts.limited += 1
            return
        while self.num_open >= self.settings.max_open:
            self._drop_oldest()
        joined = Joined(
            log_position=logged.log_position,
            user=key[0],
            video=event.video,
            request_id=key[1],
            time_seconds=logged.received_seconds,
            surface=event.surface or "",
            position=event.position,
            propensity=event.propensity,
        )
        self._waiting[key] = _Open(joined)
        _, outcomes = self._early.pop(key, (0.0, []))
        for kind, value in outcomes:
            self._add_outcome(key, kind, value)

    def _add_query(self, event: Search) -> None:
        if event.request_id:
            key = event.user or event.session or "", event.request_id
            self._queries.pop(key, None)
            self._queries[key] = self.now_seconds, query_key(event.query)

    def _add_outcome(self, key: _Key, kind: str, value: float) -> None:
        found = self._waiting.get(key) or self._done.get(key)
        if found is None:
            _, outcomes = self._early.setdefault(key, (self.now_seconds, []))
            outcomes.append((kind, value))
            return
        joined = found.joined
        if kind == "clicked":
            joined.clicked = True
        elif kind == "liked":
            joined.liked = bool(value)
        else:
            joined.watched_seconds += value
            joined.long_view = joined.watched_seconds >= self.settings.long_view_seconds
        if found.learned is not None and found.learned[:3] != joined.outcome[:3]:
            if self._bound.admits(key[0], self.now_seconds):
                self._give_out(found)
            else:
                self.counts.limited += 1

    def _complete(self) -> None:
        """Gives out the examples whose wait is over, and forgets what nothing corrects any more."""
        wait, correct = self.settings.wait_seconds, self.settings.correct_seconds
        max_open = self.settings.max_open
        for key in _older(self._waiting, self.now_seconds - wait):
            self._done[key] = self._waiting.pop(key)
            self._give_out(self._done[key])
        for key in _older(self._done, self.now_seconds - correct):
            del self._done[key]
        while self._early:
            key, (when, outcomes) = next(iter(self._early.items()))
            if when > self.now_seconds - wait and len(self._early) <= max_open:
                break
            del self._early[key]
            self.counts.unmatched += len(outcomes)
        while self._queries:
            search, (when, _) = next(iter(self._queries.items()))
            if when > self.now_seconds - _QUERY_SECONDS and len(self._queries) <= max_open:
                break
            del self._queries[search]

    def _give_out(self, found: _Open) -> None:
        is_first = found.learned is None
        if is_first:
            asked = found.joined.user, found.joined.request_id
            _, found.joined.query = self._queries.get(asked, (0.0, ""))
        self._ready.append(msgspec.structs.replace(found.joined, corrects=found.learned))
        found.learned = found.joined.outcome
        self.counts.examples += is_first
        self.counts.corrections += not is_first

    def _drop_oldest(self) -> None:
        if self._done:
            del self._done[next(iter(self._done))]
            return
        key = next(iter(self._waiting))
        self._give_out(self._waiting.pop(key))
        self.counts.completed_early += 1


def _older(kept: OrderedDict[_Key, _Open], limit_seconds: float) -> list[_Key]:
    """Returns the keys that stand before the first one that is younger."""
    found = []
    for key, each in kept.items():
        if each.joined.time_seconds > limit_seconds:
            break
        found.append(key)
    return found


def _key_of(event: VideoEvent) -> _Key:
    return event.user or event.session or "", event.request_id or "", event.video


def _key_of_joined(joined: Joined) -> _Key:
    return joined.user, joined.request_id, joined.video
