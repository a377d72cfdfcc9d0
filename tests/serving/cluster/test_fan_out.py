"""Calls to several deployments: deadlines, hedged calls, and calls whose replica dies."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from reelseek.serving.cluster.fan_out import FanOut
from reelseek.serving.cluster.latencies import Absence, HedgeBudget, Latencies
from tests.serving.cluster.fakes import FakeHandle, FakeReplica


def echo(value):
    return value


def test_all_answer():
    handles = [FakeHandle([FakeReplica(lambda v, n=n: (n, v))]) for n in range(3)]
    with closing(FanOut(handles, deadline_seconds=5)) as fan_out:
        answers = fan_out.call("answer", {number: (f"to {number}",) for number in range(3)})
        assert answers == {0: (0, "to 0"), 1: (1, "to 1"), 2: (2, "to 2")}
        assert fan_out.call("answer", {2: ("y",)}) == {2: (2, "y")}


def test_who_is_late_is_missing_and_the_others_answer_within_the_deadline():
    away = FakeReplica(echo, seconds=60)
    handles = [FakeHandle([away]), FakeHandle([FakeReplica(echo)])]
    with closing(FanOut(handles, deadline_seconds=0.2)) as fan_out:
        started = time.monotonic()
        assert fan_out.call("answer", {0: (1,), 1: (1,)}) == {1: 1}
        assert 0.2 <= time.monotonic() - started < 10
        deadline = time.monotonic() + 10
        while not away.num_cancelled and time.monotonic() < deadline:
            time.sleep(0.01)
        assert away.num_cancelled == 1


def test_who_is_away_for_long_is_asked_now_and_then():
    away = FakeReplica(echo, seconds=60)
    with closing(FanOut([FakeHandle([away])], deadline_seconds=0.05)) as fan_out:
        for _ in range(20):
            assert fan_out.call("answer", {0: (1,)}) == {}
        assert away.num_calls < 20
        away.seconds = 0
        deadline = time.monotonic() + 10
        while fan_out.call("answer", {0: (1,)}) == {} and time.monotonic() < deadline:
            time.sleep(0.05)
        assert fan_out.call("answer", {0: (1,)}) == {0: 1}


def test_a_slow_replica_is_hedged_once_elsewhere():
    slow, fast = FakeReplica(echo, seconds=60), FakeReplica(echo)
    handle = FakeHandle([slow, fast])
    with closing(FanOut([handle], deadline_seconds=0.4, is_hedged=True)) as fan_out:
        started = time.monotonic()
        assert fan_out.call("answer", {0: (7,)}) == {0: 7}
        assert time.monotonic() - started >= 0.1  # a quarter, as no latencies are known
        assert (slow.num_calls, fast.num_calls, fan_out.num_hedged) == (1, 1, 1)
        assert len(set(handle.keys)) == 1


def test_without_a_second_replica_nothing_is_sent_twice():
    slow = FakeReplica(echo, seconds=0.3)
    with closing(FanOut([FakeHandle([slow])], deadline_seconds=5)) as fan_out:
        assert fan_out.call("answer", {0: (7,)}) == {0: 7}
        assert slow.num_calls == 1


def test_a_call_whose_replica_dies_is_sent_elsewhere():
    dead, fine = FakeReplica(echo, fails=True), FakeReplica(echo)
    with closing(FanOut([FakeHandle([dead, fine])], deadline_seconds=5)) as fan_out:
        assert fan_out.call("answer", {0: (7,)}) == {0: 7}
        assert (dead.num_calls, fine.num_calls) == (1, 1)


def test_a_deployment_whose_replicas_all_die_is_missing_at_the_deadline():
    dead = FakeReplica(echo, fails=True)
    with closing(FanOut([FakeHandle([dead])], deadline_seconds=0.3)) as fan_out:
        assert fan_out.call("answer", {0: (7,)}) == {}
        assert 2 <= dead.num_calls <= 6  # with growing pauses


def test_hedges_wait_for_the_95th_percentile_of_what_counted():
    latencies = Latencies()
    for _ in range(19):
        latencies.note(0.01)
    assert latencies.p95 is None
    for number in range(200):
        latencies.note(0.5 if number % 50 == 0 else 0.01)
    assert latencies.p95 == pytest.approx(0.01)
    for _ in range(300):
        latencies.note(0.2)
    assert latencies.p95 == pytest.approx(0.2)


def test_at_most_one_call_in_five_is_sent_twice():
    budget = HedgeBudget()
    sent = 0
    for _ in range(1000):
        budget.note_call()
        sent += budget.spend()
    assert 200 <= sent <= 210


def test_absence_begins_with_three_misses_and_ends_with_an_answer():
    absence = Absence()
    for now in (1.0, 1.1, 1.2):
        assert absence.may_ask(now)
        absence.note(answered=False, now=now)
    assert not absence.may_ask(1.3)
    assert absence.may_ask(2.3)  # one finds out
    assert not absence.may_ask(2.4)
    absence.note(answered=True, now=2.5)
    assert absence.may_ask(2.6)


def test_a_call_that_may_not_be_sent_twice_yet_is_sent_once_others_have_been_answered():
    slow, fast = FakeReplica(echo, seconds=60), FakeReplica(echo)
    handle = FakeHandle([slow, fast])
    with closing(FanOut([handle], deadline_seconds=8, is_hedged=True)) as fan_out:
        budget = fan_out._targets[0].budget
        budget._saved = 0.0
        with ThreadPoolExecutor() as threads:
            stuck = threads.submit(fan_out.call, "answer", {0: (7,)})
            time.sleep(2.5)  # past the time when it would be sent twice
            assert fan_out.num_hedged == 0
            slow.seconds = 0
            for _ in range(5):
                assert fan_out.call("answer", {0: (1,)}) == {0: 1}
            assert stuck.result() == {0: 7}
        assert (fan_out.num_hedged, fast.num_calls) == (1, 1)
