"""What people do to a service that is being killed: events, deletions and searches over HTTP.

Each thread remembers what it was told, so that it can be compared with the log afterwards.
"""

import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from benchmarks.learning_end_to_end import NUM_AUTHORS, SENTENCE, events_of
from benchmarks.serving import sentences
from benchmarks.serving_faults import TOKEN
from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.events.rows import LoggedEvent

QUERIES = [SENTENCE, *sentences(20, seed=5)]
_NUM_HITS = 60
_ANSWER_SECONDS = 60.0
_RETRY_SECONDS, _PAUSE_SECONDS = 0.2, 0.05
_NUM_USERS, _NUM_SHOWN, _NUM_LATER = 40, 8, 30
_RETIRES = 0.04  # probability that a user stops after an answer
_SCORE_ERROR = 1e-4  # sentences that are encoded together differ in the last bits


def ask(port: int, method: str, target: str, *, body: Any = None) -> tuple[str, bytes]:
    """Returns the status, or the name of the error in its place, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    headers = {"Authorization": f"Bearer {TOKEN}"} if method == "DELETE" else {}
    content = None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, target, content, headers)
        answer = connection.getresponse()
        return str(answer.status), answer.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__, b""
    finally:
        connection.close()


class Traffic:
    """A thread that does something again and again until it is stopped; what it raises is kept.

    Attributes:
        outcomes: of its requests, by status or error.
        faults: what it saw and should not have seen.
    """

    def __init__(self, port: int, *, seed: int, pause_seconds: float) -> None:
        self.port, self.draws = port, random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def act(self) -> None:
        raise NotImplementedError

    def ask(self, method: str, target: str, *, body: Any = None) -> tuple[str, bytes]:
        status, content = ask(self.port, method, target, body=body)
        self.outcomes[status] += 1
        return status, content

    def until_acknowledged(self, method: str, target: str, *, body: Any = None) -> dict[str, Any]:
        """Asks the same again until it is answered with 200."""
        while True:
            status, content = self.ask(method, target, body=body)
            if status == "200":
                return dict(json.loads(content))
            if status.startswith("4"):
                raise RuntimeError(f"{method} {target}: {status} {content!r}")
            time.sleep(_RETRY_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self.draws.uniform(0, 2 * self._pause_seconds)):
                self.act()
        except Exception as error:
            self.faults.append(f"{type(self).__name__}: {error!r}")


class Mirror(Traffic):
    """A reader that follows the log and keeps all that it was given, also what is deleted later."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(0, seed=0, pause_seconds=_PAUSE_SECONDS)
        self._log = log
        self.events: list[LoggedEvent] = []
        self.last_position: dict[str, int] = {}  # by user

    def act(self) -> None:
        while not self._stop.is_set():
            try:
                found = self._log.read(after=self.events[-1].log_position if self.events else 0)
            except EventsUnavailable as error:
                self.outcomes[type(error).__name__] += 1
                return
            if not found:
                return
            for each in found:
                if each.event.user is not None:
                    self.last_position[each.event.user] = each.log_position
            self.events += found

    def catch_up(self, position: int) -> None:
        """Reads on to a position, after it was stopped."""
        self._stop.clear()
        while not self.events or self.events[-1].log_position < position:
            self.act()


class MirroredLog:
    """What a mirror has kept, for a learner to read."""

    def __init__(self, events: list[LoggedEvent]) -> None:
        self._events = events
        self._begins = {0: 0} | {each.log_position: n for n, each in enumerate(events, 1)}

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        begin = self._begins[after]
        return self._events[begin : begin + limit]

    def bounds(self) -> tuple[int, int]:
        return 0, self._events[-1].log_position if self._events else 0


class Sender(Traffic):
    """Sends what users see, and some answers later what they did with it, as the page does.

    Attributes:
        acknowledged: ids of events.
        users: that are active.
        retired: users of whom nothing will be sent any more.
    """

    def __init__(self, port: int, authors: dict[str, str], *, seed: int) -> None:
        super().__init__(port, seed=seed, pause_seconds=_PAUSE_SECONDS)
        self._authors, self._ids = authors, list(authors)
        self.acknowledged: set[str] = set()
        self.users = [self._new_user() for _ in range(_NUM_USERS)]
        self.retired: deque[str] = deque()
        self._later: dict[str, list[list[dict[str, Any]]]] = {user: [] for user in self.users}

    def act(self) -> None:
        number = self.draws.randrange(len(self.users))
        user = self.users[number]
        shown = self.draws.sample(self._ids, self.draws.randint(1, _NUM_SHOWN))
        events = events_of(user, shown, self._authors, int(user[5:7]) % NUM_AUTHORS)
        for click in [each for each in events if each["kind"] == "click"]:
            if self.draws.random() < 0.3:
                events.append({**click, "kind": "like", "event_id": uuid.uuid4().hex})
        self._send([each for each in events if each["kind"] == "impression"])
        self._later[user].append([each for each in events if each["kind"] != "impression"])
        if sum(map(len, self._later.values())) > _NUM_LATER:  # some outcomes come late
            waiting = self.draws.choice([each for each in self._later.values() if each])
            self._send(waiting.pop(self.draws.randrange(len(waiting))))
        if self.draws.random() < _RETIRES:
            for outcomes in self._later.pop(user):
                self._send(outcomes)
            self.retired.append(user)
            self.users[number] = self._new_user()
            self._later[self.users[number]] = []

    def _new_user(self) -> str:
        author = self.draws.randrange(NUM_AUTHORS)
        return f"user-{author:02d}-{self.draws.getrandbits(128):032x}"

    def _send(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        answer = self.until_acknowledged("POST", "/api/events", body={"events": events})
        self.acknowledged.update(each["event_id"] for each in events)
        if answer["accepted"] + answer["duplicates"] != len(events):
            self.faults.append(f"{len(events)} events were answered with {answer}")


class Deleter(Traffic):
    """Deletes users who have retired, once a whole state of the model holds all that they did.

    A learner that is started again reads the log after that state once more, and cannot find what
    was deleted since: only then do the deletions leave the bits of the model to be told.

    Args:
        is_held: says whether a whole state has the events up to a position.
    """

    def __init__(
        self, port: int, senders: list[Sender], mirror: Mirror, *, is_held: Callable[[int], bool]
    ) -> None:
        super().__init__(port, seed=1, pause_seconds=5.0)
        self._senders, self._mirror, self._is_held = senders, mirror, is_held
        self.deleted: list[str] = []

    def act(self) -> None:
        retired = self.draws.choice(self._senders).retired
        if not retired or not self._is_held(self._mirror.last_position.get(retired[0], 2**62)):
            return
        user = retired.popleft()
        self.until_acknowledged("DELETE", f"/api/events?{urlencode({'user': user})}")
        self.deleted.append(user)


class Reader(Traffic):
    """Searches for users, and compares the answers with those that nobody gets.

    Args:
        plain: the answer to each query before anything was killed.
        last_position: returns the last one of the log.
    """

    def __init__(
        self,
        port: int,
        plain: dict[str, dict[str, Any]],
        users: Callable[[], list[str]],
        *,
        seed: int,
        last_position: Callable[[], float],
    ) -> None:
        super().__init__(port, seed=seed, pause_seconds=4 * _PAUSE_SECONDS)
        self._plain, self._users, self._last_position = plain, users, last_position
        self.num_personal = 0

    def act(self) -> None:
        query, user = self.draws.choice(QUERIES), self.draws.choice(self._users())
        status, content = self.ask("GET", target_of(query, user))
        if status == "200":
            try:
                fault = self._fault(query, json.loads(content))
            except (ValueError, KeyError, TypeError) as error:
                fault = f"{error!r}: {content[:300]!r}"
            if fault:
                self.faults.append(f"{query!r} for {user}: {fault}")
        elif status.isdigit() and status != "503":
            self.faults.append(f"{query!r} for {user}: {status} {content[:300]!r}")

    def _fault(self, query: str, answer: dict[str, Any]) -> str:
        """Returns what is wrong with an answer, or nothing."""
        plain = {hit["id"]: hit["score"] for hit in self._plain[query]["hits"]}
        hits = answer["hits"]
        if {hit["id"] for hit in hits} != plain.keys() or len(hits) != len(plain):
            return "other hits than for nobody"
        if any(abs(hit["score"] - plain[hit["id"]]) > _SCORE_ERROR for hit in hits):
            return "other scores than for nobody"
        if [hit["rank"] for hit in hits] != list(range(1, len(hits) + 1)):
            return "ranks are not in order"
        if "learned_position" in answer:
            self.num_personal += 1
            hits = sorted(hits, key=lambda hit: hit["relevance_rank"])
            if [hit["relevance_rank"] for hit in hits] != list(range(1, len(hits) + 1)):
                return "relevance_rank is not a rank"
            if not all(-1 < hit["personal"] < 1 and "reasons" in hit for hit in hits):
                return "personal is out of bounds"
            if answer["learned_position"] > self._last_position():
                return "learned what is not in the log"
        scores = [hit["score"] for hit in hits]
        return "" if scores == sorted(scores, reverse=True) else "relevance is not in order"


def target_of(query: str, user: str = "") -> str:
    return f"/api/search?{urlencode({'q': query, 'k': _NUM_HITS, 'user': user})}"
