"""The log of events: what is stored, read, dropped and deleted, by one process."""

import math
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reelseek.recommendation.events.log import Appended, EventLog, EventsUnavailable, check_folder
from reelseek.recommendation.events.redis_store import RedisEvents
from reelseek.recommendation.events.schema import Deletion, Impression, Like, Play, Search
from reelseek.recommendation.events.store import FILE_NAME, EventStore
from reelseek.recommendation.redis_server import RedisServer, parse_address
from tests.recommendation.events.event_writer import NOW, make_event
from tests.recommendation.redis_servers import Pair, needs_redis

DAY_SECONDS = 86400.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def log(folder):
    log = EventLog(folder)
    yield log
    log.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("redis"))
    yield pair
    pair.close()


@pytest.fixture(params=["folder", pytest.param("redis", marks=needs_redis)])
def new_log(request, folder) -> Iterator[Callable[..., EventLog]]:
    """Makes logs of one place; closes them at the end."""
    place = folder
    if request.param == "redis":
        pair = request.getfixturevalue("pair")
        pair.master.call("FLUSHALL")
        place = RedisEvents(RedisServer(parse_address("events", pair.url)))
    logs = []

    def make(**options) -> EventLog:
        logs.append(EventLog(place, **options))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def ids(log: EventLog, **options) -> list[str]:
    """Of what users did."""
    found = [each.event for each in log.read(**options)]
    return [each.event_id for each in found if not isinstance(each, Deletion)]


def files_with(folder: Path, searched: str) -> list[str]:
    """Looks in another process: this one would lose SQLite's locks when it closes the files."""
    command = ["grep", "-rlaF", "--", searched, str(folder)]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def test_events_come_back_as_they_were(new_log):
    common = {"time_seconds": NOW + 0.123456, "user": "u\u00e9", "session": "s", "request_id": "r"}
    events = [
        Search(event_id="1", **common, query="", num_hits=0),
        Impression(event_id="2", **common, video="v", position=1, propensity=0.1, surface="search"),
        make_event("3", start_seconds=0.1, end_seconds=0.3),
        Play(event_id="4", time_seconds=NOW, session="s", video="v", watched_seconds=3.25),
        Like(event_id="5", **common, video="v", liked=False),
        Like(event_id="6", **common, video="v"),
    ]
    log = new_log(clock=lambda: NOW + 5)
    assert log.append(events) == Appended(accepted=6, duplicates=0)
    assert [each.event for each in log.read()] == events
    assert {each.received_seconds for each in log.read()} == {NOW + 5}


def test_only_this_user_may_read_the_files(log, folder):
    log.append([make_event("a")])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600


def test_an_id_is_stored_once(new_log):
    log = new_log()
    assert log.append([make_event("a"), make_event("b"), make_event("a", "other")]) == Appended(
        2, 1
    )
    log.close()
    log = new_log()
    assert log.append([make_event("b", "other"), make_event("c")]) == Appended(1, 1)
    assert [(each.event.event_id, each.event.user) for each in log.read()] == [
        ("a", "user-a"),
        ("b", "user-a"),
        ("c", "user-a"),
    ]


def test_readers_go_on_where_they_were(new_log):
    log = new_log()
    assert (log.read(), log.bounds()) == ([], (0, 0))
    log.append([make_event(f"{i}") for i in range(10)])
    first = log.read(limit=4)
    assert [each.event.event_id for each in first] == ["0", "1", "2", "3"]
    log.close()

    log = new_log()  # after a restart
    log.append([make_event(f"{i}") for i in range(8, 13)])
    rest = log.read(after=first[-1].log_position)
    assert [each.event.event_id for each in rest] == [f"{i}" for i in range(4, 13)]
    positions = [each.log_position for each in first + rest]
    assert positions == sorted(set(positions))
    assert log.bounds() == (0, positions[-1])
    assert log.read(after=positions[-1]) == []


def test_positions_are_not_given_again(new_log):
    log = new_log()
    log.append([make_event("a"), make_event("b")])
    position = log.read()[-1].log_position
    assert log.delete_user("user-a") == 2
    assert log.bounds() == (0, position + 1)
    log.close()
    log.append([make_event("c")])  # opens the files again
    assert ids(log, after=position) == ["c"]


def test_callers_share_a_transaction(log, folder, monkeypatch):
    log.append([make_event("first")])
    groups = []
    append = EventStore.append
    is_waiting, go_on = threading.Event(), threading.Event()

    def slow_append(store, batches):
        is_waiting.set()
        assert go_on.wait(10)
        groups.append(len(batches))
        return append(store, batches)

    monkeypatch.setattr(EventStore, "append", slow_append)
    futures = [log.submit([make_event("a")])]
    assert is_waiting.wait(10)
    futures += [log.submit([make_event(name)]) for name in "abc"]
    go_on.set()
    assert [future.result(10) for future in futures] == [
        *[Appended(1, 0), Appended(0, 1), Appended(1, 0), Appended(1, 0)]
    ]
    assert groups == [1, 3]


def test_too_many_waiting_events_are_refused(log, monkeypatch):
    monkeypatch.setattr("reelseek.recommendation.events.writer._MAX_WAITING", 3)
    go_on = threading.Event()
    append = EventStore.append
    monkeypatch.setattr(
        EventStore, "append", lambda store, batches: go_on.wait(10) and append(store, batches)
    )
    first = log.submit([make_event("a"), make_event("b")])
    with pytest.raises(EventsUnavailable, match="2 events wait"):
        log.submit([make_event("c"), make_event("d")])
    go_on.set()
    assert first.result(10).accepted == 2
    assert log.append([make_event("c"), make_event("d")]).accepted == 2


def test_what_waits_is_written_before_the_end(new_log):
    log = new_log()
    futures = [log.submit([make_event(f"{i}")]) for i in range(100)]
    log.close()
    assert sum(future.result(0).accepted for future in futures) == 100


def test_a_deleted_user_is_in_no_file(log, folder):
    secret, other = "b5c1-secret-pseudonym", "another-pseudonym"
    log.append([make_event("before", "early")])
    for first in range(0, 3000, 100):
        log.append(
            [
                Search(
                    event_id=f"{i}-{secret if i % 3 else other}",
                    time_seconds=NOW,
                    user=secret if i % 3 == 1 else other if i % 3 == 0 else None,
                    session=secret if i % 3 == 2 else None,
                    query=f"what {secret if i % 3 else other} asked " * (i % 40),
                )
                for i in range(first, first + 100)
            ]
        )
    reader = EventLog(folder)
    assert len(reader.read(limit=10**4)) == 3001
    assert files_with(folder, secret)
    assert log.delete_user(secret) == 2000
    assert not files_with(folder, secret)
    assert files_with(folder, other)
    assert len(ids(reader, limit=10**4)) == 1001
    assert log.append([make_event("after")]).accepted == 1
    assert log.delete_user(secret) == 0
    reader.close()


def test_copies_outside_of_rows_are_wiped(log, folder):
    """A pseudonym that is anywhere in the file, here in a row of another user."""
    log.append([make_event("1", "user-1"), make_event("2", "user-12")])
    rewritten = []
    with sqlite3.connect(folder / FILE_NAME) as database:
        rewritten.append(database.execute("PRAGMA schema_version").fetchone())
    log.delete_user("user-1")
    with sqlite3.connect(folder / FILE_NAME) as database:
        rewritten.append(database.execute("PRAGMA schema_version").fetchone())
    assert rewritten[0] != rewritten[1]  # VACUUM counts it up
    assert ids(log) == ["2"]


def test_a_deletion_that_was_cut_off_is_completed(log, folder, monkeypatch):
    secret = "b5c1-secret-pseudonym"
    log.append([make_event(f"{i}", secret) for i in range(100)])

    def cut_off(*_):
        raise EventsUnavailable("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "_empty_log", cut_off)
        with pytest.raises(EventsUnavailable):
            log.delete_user(secret)
    assert ids(log) == []
    assert files_with(folder, secret)
    next_log = EventLog(folder)
    next_log.start()
    next_log.close()  # ends after what it does at the start
    assert not files_with(folder, secret)


def test_old_events_are_dropped(new_log):
    now = NOW
    log = new_log(days=2, clock=lambda: now)
    for day in range(5):
        now = NOW + day * DAY_SECONDS
        log.append([make_event(f"{day}-{i}") for i in range(3)])
    log.close()
    now = NOW + 4.5 * DAY_SECONDS
    log = new_log(days=2, clock=lambda: now)
    log.start()
    log.close()
    assert ids(log) == [f"{day}-{i}" for day in (3, 4) for i in range(3)]
    assert log.bounds() == (9, 15)
    assert log.append([make_event("0-0")]).accepted == 1  # its id is no longer known


def test_the_oldest_are_dropped_when_there_are_too_many(folder):
    log = EventLog(folder)
    for first in range(0, 10_000, 1000):
        log.append([make_event(f"{i:06}") for i in range(first, first + 1000)])
    log.close()
    size_bytes = (folder / FILE_NAME).stat().st_size
    log = EventLog(folder, max_bytes=size_bytes / 2)
    log.start()
    deadline = time.monotonic() + 30
    while len(left := ids(log, limit=10**6)) > 5_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == [f"{i:06}" for i in range(10_000 - len(left), 10_000)]
    assert 0.4 < len(left) / 10_000 <= 0.5
    for first in range(10_000, 15_000, 1000):  # fills the space that is free now
        log.append([make_event(f"{i:06}") for i in range(first, first + 1000)])
    log.close()
    assert (folder / FILE_NAME).stat().st_size <= 1.05 * size_bytes


def test_readers_learn_of_a_deletion(new_log):
    log = new_log()
    log.append([make_event("1", "u"), make_event("2", "v")])
    log.append([make_event("3", "v", session="u")])
    position = log.read()[-1].log_position
    assert log.num_deletions(after=0) == 0
    assert log.delete_user("u") == 2
    assert (log.num_deletions(after=position), log.num_deletions(after=position + 1)) == (1, 0)
    log.append([make_event("4", "u")])  # sent after it, and so kept
    deletion, later = log.read(after=position)
    assert isinstance(deletion.event, Deletion)
    known = ["u", "v", "uu", None]
    assert [each for each in known if deletion.event.is_of(each)] == ["u"]
    assert "u" not in (deletion.event.user, deletion.event.session)
    assert later.event.event_id == "4"
    # Who begins now sees no deleted event, and who was before them has missed nothing.
    assert ids(log) == ["2", "4"]
    assert log.bounds() == (0, later.log_position)


def test_a_deletion_is_told_of_where_no_event_is_left(new_log):
    """What a reader made of events that retention has dropped since must go, too."""
    log = new_log()
    log.append([make_event("1", "v")])
    assert log.delete_user("u") == 0
    assert log.read()[-1].event.is_of("u")


class Follower:
    """What a reader makes of the log: the user of each event it knows of."""

    def __init__(self) -> None:
        self.position = 0
        self.users: dict[str, str | None] = {}

    def follow(self, log: EventLog) -> None:
        if self.position < log.bounds()[0]:
            self.__init__()
        for logged in log.read(after=self.position, limit=10**6):
            self.position, event = logged.log_position, logged.event
            if isinstance(event, Deletion):
                self.users = {each: u for each, u in self.users.items() if not event.is_of(u)}
            else:
                self.users[event.event_id] = event.user


def test_a_random_history_is_as_in_a_model(new_log, folder):
    draws = random.Random(7)
    follower = Follower()
    model: list[tuple[str, str]] = []  # id and user, in order; of a deletion an empty id
    positions: dict[str, int] = {}

    def row_of(event) -> tuple[str, str]:
        if not isinstance(event, Deletion):
            return event.event_id, event.user
        (user,) = [f"user-{number}" for number in range(8) if event.is_of(f"user-{number}")]
        return "", user

    logs = [new_log(), new_log()]
    for step in range(150):
        log = draws.choice(logs)
        kind = draws.choices(["append", "read", "delete", "drop", "reopen"], [10, 6, 2, 1, 2])[0]
        if kind == "append":
            batch = [
                (f"{draws.randrange(step // 2 + 5)}", f"user-{draws.randrange(8)}")
                for _ in range(draws.choice([0, 1, 2, 30]))
            ]
            known = {each: user for each, user in model if each}
            new = {each: user for each, user in reversed(batch) if each not in known}
            new = {each: new[each] for each, _ in batch if each in new}
            events = [make_event(each, user) for each, user in batch]
            assert log.append(events) == Appended(len(new), len(batch) - len(new))
            model += new.items()
        elif kind == "read":
            before = draws.randrange(len(model) + 1)
            after = positions.get(model[before - 1][0], 0) if before and positions else 0
            found = log.read(after=after, limit=draws.choice([1, 5, 1000]))
            expected = model[before if after else 0 :][: len(found)]
            assert [row_of(each.event) for each in found] == expected
            follower.follow(log)
            assert follower.users == {each: user for each, user in model if each}
        elif kind == "delete":
            user = f"user-{draws.randrange(8)}"
            kept = [each for each in model if each[1] != user or not each[0]]
            assert log.delete_user(user) == len(model) - len(kept)
            assert not files_with(folder, user)
            model = [*kept, ("", user)]
        elif kind == "drop":
            store = log._open_store()
            num = draws.randrange(1, 10)
            dropped = store.drop_oldest(before_seconds=math.inf, max_bytes=math.inf, limit=num)
            store.close()
            assert dropped == min(num, len(model))
            for each, _ in model[:num]:
                follower.users.pop(each, None)  # it may keep what is only too old
            model = model[num:]
        else:
            log.close()
        everything = draws.choice(logs).read(limit=10**6)
        assert [row_of(each.event) for each in everything] == model
        for each in everything:
            # The event keeps its position; if it was deleted and came again, it has a later one.
            last = positions.get(each.event.event_id, 0)
            assert each.log_position >= last
            positions[each.event.event_id] = each.log_position


def test_folders_that_are_refused(tmp_path):
    index = tmp_path / "index"
    index.mkdir()
    (tmp_path / "link").symlink_to(index)
    for folder in (index, index / "events", tmp_path / "link/a/b", index / ".." / "index"):
        with pytest.raises(
            ValueError, match=r"^events=.*: lies in the folder of the index"
        ) as raised:
            check_folder(folder, index=index)
        assert "\n" not in str(raised.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^events=.*is not a folder"):
        check_folder(tmp_path / "file", index=index)
    check_folder(tmp_path / "index-events", index=index)
    check_folder(tmp_path / "events", index=None)
    assert sorted(os.listdir(tmp_path)) == ["file", "index", "link"]


def test_files_that_cannot_be_used(log, folder):
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(b"no database " * 1000)
    with pytest.raises(EventsUnavailable, match=r"events\.sqlite cannot be used"):
        log.append([make_event("a")])
    with pytest.raises(EventsUnavailable):
        log.read()
    with pytest.raises(EventsUnavailable):
        log.delete_user("user-a")
    (folder / FILE_NAME).unlink()
    assert log.append([make_event("a")]).accepted == 1  # it tries again
    log.close()
    with sqlite3.connect(folder / FILE_NAME) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(EventsUnavailable, match="format 99"):
        log.append([make_event("b")])


def test_the_log_needs_no_model():
    script = "import sys; import reelseek.recommendation.events.log; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
