"""Which replicas calls go to when one of them is slow."""

import random

import pytest

from reelseek.serving.cluster.request_router import Lateness


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def send(lateness: Lateness, clock: Clock, late_share: dict[str, float], num: int) -> list[str]:
    """Sends calls a hundredth of a second apart; returns where each was sent first."""
    draws = random.Random(0)
    sent = []
    for _ in range(num):
        clock.seconds += 0.01
        replica = draws.choice(lateness.on_time(list(late_share)))
        sent.append(replica)
        lateness.note_sent(replica)
        if draws.random() < late_share[replica]:
            lateness.note_late(replica)
    return sent


def test_replicas_that_are_as_often_late_share_the_calls(clock: Clock) -> None:
    sent = send(Lateness(clock), clock, {"a": 0.05, "b": 0.05}, 2000)
    assert 0.4 < sent.count("a") / len(sent) < 0.6


def test_a_slow_replica_has_few_calls_and_all_again_once_it_is_fast(clock: Clock) -> None:
    lateness = Lateness(clock)
    slow = send(lateness, clock, {"a": 1.0, "b": 0.05}, 2000)
    assert slow[:20].count("a") > 3  # nothing was known
    assert 0 < slow[100:].count("a") / 1900 < 0.06
    clock.seconds += 60
    fast = send(lateness, clock, {"a": 0.05, "b": 0.05}, 2000)
    assert fast.count("a") / len(fast) > 0.4


def test_where_all_are_slow_all_are_asked(clock: Clock) -> None:
    sent = send(Lateness(clock), clock, {"a": 1.0, "b": 1.0}, 1000)
    assert 0.3 < sent.count("a") / len(sent) < 0.7


def test_replicas_that_are_gone_are_forgotten(clock: Clock) -> None:
    lateness = Lateness(clock)
    send(lateness, clock, {"a": 1.0, "b": 0.0}, 100)
    lateness.on_time(["b"])
    assert send(lateness, clock, {"a": 0.0, "b": 0.0}, 100).count("a") > 30
