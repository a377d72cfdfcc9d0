import pytest

from reelseek.recommendation.completion.search_history import read_history
from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.events.schema import Click, Search
from tests.recommendation.completion.asked_events import DAY_SECONDS, NOW, ask, many


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path, clock):
    log = EventLog(tmp_path / "events", clock=clock)
    yield log
    log.close()


def read(log, max_queries_per_user=100):
    return read_history(log, max_queries_per_user=max_queries_per_user)


def test_an_empty_log(log):
    history = read(log)
    assert (dict(history.queries), history.sessions, history.log_position) == ({}, [], 0)


def test_a_user_counts_once_a_day(log, clock):
    ask(log, [("u1", "Dog "), ("u1", "dog"), ("u2", "dog"), ("u1", "cat")])
    clock.now += DAY_SECONDS
    ask(log, [("u1", "dog"), ("u3", "x" * 500), ("u3", "\u200b")])
    history = read(log)
    first, second = sorted(history.queries["dog"].by_day)
    assert second == first + 1
    assert history.queries["dog"].by_day == {first: 2, second: 1}
    assert len(history.queries["dog"].users) == 2
    assert set(history.queries) == {"dog", "cat"}
    assert (history.num_searches, history.log_position) == (7, 7)


def test_a_robot_has_the_weight_of_one(log):
    ask(log, [("robot", f"buy {number}") for number in range(900)])
    ask(log, [("robot", "buy now")] * 100 + many("dog", 3))
    history = read(log, max_queries_per_user=10)
    assert sum(each.by_day.total() for each in history.queries.values()) == 10 + 3
    assert max(len(each.users) for q, each in history.queries.items() if q != "dog") == 1


def test_sessions_end_with_a_pause(log, clock):
    ask(log, [("u1", "a"), ("u1", "b"), ("u1", "b"), ("u2", "c")])
    clock.now += 31 * 60
    ask(log, [("u1", "d")])
    sessions = sorted(queries for _, _, queries in read(log).sessions)
    assert sessions == [["a", "b"], ["c"], ["d"]]


def test_sessions_stand_for_users_who_have_no_name(log):
    log.append(
        [
            Search(event_id="1", time_seconds=NOW, session="s", query="dog"),
            Click(event_id="2", time_seconds=NOW, session="s", video="v"),
        ]
    )
    history = read(log)
    assert len(history.queries["dog"].users) == 1
    assert history.num_searches == 1


def test_a_deleted_user_is_not_there(log):
    ask(log, [*many("dog", 3), ("u1", "my secret")])
    assert log.num_deletions(after=0) == 0
    log.delete_user("u1")
    history = read(log)
    assert len(history.queries["dog"].users) == 2
    assert "my secret" not in history.queries
    assert log.num_deletions(after=0) == 1
    assert log.num_deletions(after=history.log_position) == 0


def test_a_deletion_while_reading_begins_again(log, monkeypatch):
    ask(log, many("dog", 3))
    read_batch, calls = log.read, []

    def read_and_delete(**options):
        found = read_batch(**options)
        if not calls:
            calls.append(log.delete_user("u0"))
        return found

    monkeypatch.setattr(log, "read", read_and_delete)
    assert len(read(log).queries["dog"].users) == 2

    monkeypatch.setattr(log, "num_deletions", lambda after: 1)
    with pytest.raises(EventsUnavailable, match="all the time"):
        read(log)
