"""The log in a Redis server: what is acknowledged, and what readers are told of, while servers
fail."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from reelseek.recommendation.events.log import Appended, EventsUnavailable, EventsUnreachable
from reelseek.recommendation.events.opening import check_place, check_readable, open_log
from reelseek.recommendation.events.redis_store import RedisEventStore
from reelseek.recommendation.redis_server import RedisServer, parse_address
from tests.command_lines import PROJECT
from tests.recommendation.events.event_writer import make_event
from tests.recommendation.redis_servers import Failover, Pair, needs_redis, wait_until

pytestmark = needs_redis
WRITER = [sys.executable, "-m", "tests.recommendation.events.event_writer"]


@pytest.fixture
def log(pair):
    log = open_log(pair.url)
    yield log
    log.close()


@pytest.fixture
def without_replica(monkeypatch):
    """Has the servers wait for no replica for long, while there is none."""
    wait_ms = [20_000]
    kept = property(lambda server: wait_ms[-1], lambda server, given: None)
    monkeypatch.setattr(RedisServer, "_wait_ms", kept, raising=False)

    @contextmanager
    def impatient():
        wait_ms.append(300)
        try:
            yield
        finally:
            wait_ms.pop()

    return impatient


def ids(log, **options) -> list[str]:
    return [each.event.event_id for each in log.read(**options)]


def store_of(pair) -> RedisEventStore:
    return RedisEventStore(RedisServer(parse_address("events", pair.url)))


def test_without_a_replica_nothing_is_acknowledged_nor_read(log, pair, without_replica):
    log.append([make_event("a")])
    assert ids(log) == ids(log) == ["a"]  # the second leaves word of what the first has found out
    pair.replica.kill()
    with without_replica():
        with pytest.raises(EventsUnreachable, match="no replica has confirmed"):
            log.append([make_event("b")])
        other = open_log(pair.url)  # knows of no position yet
        assert ids(other) == ["a"]
        assert ids(log) == ["a"]
        assert log.bounds() == other.bounds() == (0, 1)
    pair.start_replica()
    assert log.append([make_event("b"), make_event("c")]) == Appended(1, 1)
    wait_until(lambda: ids(other) == ["a", "b", "c"])
    other.close()


def test_a_repeat_is_not_acknowledged_before_a_replica_has_the_event(log, pair, without_replica):
    """The repeat itself writes nothing new, over a connection that has written nothing."""
    pair.replica.kill()
    with without_replica():
        for _ in range(2):
            with pytest.raises(EventsUnreachable):
                log.append([make_event("a")])
    pair.start_replica()
    assert log.append([make_event("a")]) == Appended(0, 1)


def test_a_frozen_replica_confirms_nothing(log, pair, without_replica):
    log.append([make_event("a")])
    assert ids(log) == ["a"]
    pair.replica.pause()
    try:
        with without_replica():
            with pytest.raises(EventsUnreachable):
                log.append([make_event("b")])
            assert ids(log) == ["a"]
    finally:
        pair.replica.go_on()
    assert log.append([make_event("b")]) == Appended(0, 1)


def test_readers_never_see_what_a_failed_master_alone_had(tmp_path, without_replica):
    """Its positions are given to other events."""
    pair = Pair(tmp_path)
    log = open_log(pair.url)
    log.append([make_event("a")])
    pair.replica.kill()
    with without_replica():
        with pytest.raises(EventsUnreachable):
            log.append([make_event("lost")])
        seen = ids(log)
    pair.master.kill()
    pair.master, pair.replica = pair.replica, pair.master
    pair.master.start()
    try:
        pair.start_replica()
        promoted = open_log(pair.url)
        promoted.append([make_event("b")])
        assert seen == []
        assert [(each.log_position, each.event.event_id) for each in promoted.read()] == [
            (1, "a"),
            (2, "b"),
        ]
        promoted.close()
        log.close()
    finally:
        pair.close()


def test_a_server_restored_from_an_older_copy_is_refused(log, pair):
    log.append([make_event("a")])
    assert ids(log) == ["a"]
    pair.master.call("FLUSHALL")
    with pytest.raises(EventsUnreachable, match="has 0 events where there were 1"):
        log.read(after=1)


def test_a_deleted_user_is_in_no_file_of_the_master(log, pair):
    secret = "b5c1-secret-pseudonym"
    for first in range(0, 2000, 100):
        log.append(
            [make_event(f"{i}", secret if i % 3 else "other") for i in range(first, first + 100)]
        )

    def is_kept() -> bool:
        command = ["grep", "-rlaF", secret, str(pair.master.folder)]
        return bool(subprocess.run(command, capture_output=True).stdout)

    assert is_kept()
    assert log.delete_user(secret) == 1333
    assert not is_kept()
    assert len(ids(log, limit=10**4)) == 668
    assert log.append([make_event("1")]).accepted == 1  # its id is no longer known
    assert set(pair.master.call("KEYS", "*")) == {
        *("reelseek:events", "reelseek:event_ids", "reelseek:events_state"),
        "reelseek:deletions",
    }
    assert pair.master.call("TTL", "reelseek:events") == -1


def test_events_that_come_during_a_deletion_are_kept(pair):
    log, store, is_done = open_log(pair.url), store_of(pair), threading.Event()
    log.append([make_event(f"{i}", f"user-{i % 2}") for i in range(3000)])
    acknowledged = [f"{i}" for i in range(0, 3000, 2)]

    def write() -> None:
        number = 3000
        while not is_done.is_set():
            log.append([make_event(f"{number}", "user-0"), make_event(f"{number}-", "user-1")])
            acknowledged.append(f"{number}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    deleters = [threading.Thread(target=log.delete_user, args=("user-1",)) for _ in range(2)]
    for each in deleters:
        each.start()
    for each in deleters:
        each.join()
    is_done.set()
    writer.join()
    found = [each for each in log.scan() if each.event.user == "user-0"]
    assert [each.event.event_id for each in found] == acknowledged
    assert log.num_deletions(after=0) == 2
    log.append([make_event("3000")])
    assert len(store.rows(after=0, limit=10**5)) == len(list(log.scan()))
    store.close()
    log.close()


def test_the_oldest_are_dropped_when_they_take_too_much_memory(pair):
    log, store = open_log(pair.url), store_of(pair)
    log.append([make_event(f"{i:06}") for i in range(1000)])
    while store.drop_oldest(before_seconds=0, max_bytes=80_000, limit=100):
        pass
    left = ids(log, limit=1000)
    assert 0 < len(left) < 900
    assert left == [f"{i:06}" for i in range(1000 - len(left), 1000)]
    assert log.bounds() == (1000 - len(left), 1000)
    assert pair.master.call("HLEN", "reelseek:event_ids") == len(left)
    store.close()
    log.close()


def test_a_full_server_refuses_events(log, pair):
    log.append([make_event("a")])
    pair.master.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(EventsUnavailable, match="maxmemory") as raised:
            log.append([make_event("b")])
        assert not isinstance(raised.value, EventsUnreachable)
    finally:
        pair.master.call("CONFIG", "SET", "maxmemory", "0")
    assert log.append([make_event("b")]) == Appended(1, 0)


def test_an_id_is_stored_once_by_several_processes(log, pair):
    writers = [
        subprocess.Popen(
            [*WRITER, pair.url, name, "10"], stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        for name in "ab"
    ]
    found: list[str] = []
    position = 0
    while any(writer.poll() is None for writer in writers):  # while they write
        for logged in log.read(after=position, limit=7):
            found.append(logged.event.event_id)
            position = logged.log_position
        time.sleep(0.005)
    found += [each.event.event_id for each in log.scan(after=position)]
    outputs = [writer.communicate(timeout=60)[0] for writer in writers]
    acknowledged = {
        each for output in outputs for line in output.split("\n")[:-1] for each in json.loads(line)
    }
    assert sorted(found) == sorted(acknowledged)
    assert sum(each.startswith("shared-") for each in found) == 10


def test_a_log_of_a_newer_format_is_refused(log, pair):
    pair.master.call("HSET", "reelseek:events_state", "format", 9)
    with pytest.raises(EventsUnavailable, match="has format 9"):
        log.append([make_event("a")])


def test_places(pair, tmp_path):
    for check in (check_readable, lambda place: check_place(place, index=None)):
        check(pair.url)
        with pytest.raises(ValueError, match=r"^events=redis://127\.0\.0\.1:1/0: "):
            check("redis://127.0.0.1:1")
    with pytest.raises(ValueError, match="no such folder"):
        check_readable(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="lies in the folder of the index"):
        check_place(str(tmp_path), index=tmp_path)


@pytest.mark.long
def test_after_a_failover_acknowledged_events_are_there(tmp_path, without_replica):
    servers = Failover(tmp_path)
    try:
        log = open_log(servers.url)
        acknowledged: list[str] = []
        number = 0
        for kill in (lambda server: server.kill(), lambda server: server.pause()):
            master = servers.master()
            for _ in range(20):
                log.append([make_event(f"{number}")])
                acknowledged.append(f"{number}")
                number += 1
            kill(master)
            wait_until(lambda old=master: servers.master() is not old)
            if master.process is None:
                master.start()
            else:
                master.go_on()

            def is_stored(event_id=f"{number}") -> bool:
                try:
                    return log.append([make_event(event_id)]) is not None
                except EventsUnavailable:
                    return False

            with without_replica():
                is_stored()  # beside a server that takes itself for the master
                servers.demote(master)
                wait_until(is_stored)
            acknowledged.append(f"{number}")
            number += 1
            wait_until(servers.is_whole)
        found = [each.event.event_id for each in log.scan()]
        assert found == acknowledged
        assert set(Counter(found).values()) == {1}
        log.close()
    finally:
        for each in servers.servers:
            if each.process is not None:
                each.go_on()
        servers.close()
