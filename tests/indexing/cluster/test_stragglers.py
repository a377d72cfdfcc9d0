"""Which jobs are tried a second time, and where: without Ray."""

import pytest

from reelseek.indexing.cluster.dispatching import Dispatcher
from reelseek.indexing.cluster.jobs import Attempt, Job
from reelseek.indexing.cluster.placement import Node
from reelseek.indexing.cluster.stragglers import UsualTimes


def attempt(size, started, **values):
    job = Job("x", size, **values)
    job.attempts.append(Attempt(job, None, "a", started))
    return job.attempts[0]


def measured(**options):
    """Nine jobs of a second for each byte, and one of a hundred."""
    usual = UsualTimes(**options)
    for seconds in [1.0] * 18 + [100.0]:
        usual.note(Job("x", 2), seconds=2 * seconds)
    return usual


def test_a_job_is_slow_beyond_what_nine_of_ten_take_for_its_size():
    usual = measured(min_seconds=5.0, factor=2.0)
    short, long = attempt(1, 100.0), attempt(10, 100.0)
    assert usual.slow([short, long], now=105.0) == []
    assert usual.slow([short, long], now=105.1) == [short]  # the least that is slow
    assert usual.slow([short, long], now=120.1) == [short, long]
    earlier = attempt(1, 99.0)
    assert usual.slow([short, earlier], now=200.0) == [earlier, short]


@pytest.mark.parametrize(
    "other",
    [
        attempt(1, 0.0),  # Ray has not begun it
        attempt(1, 1.0, kind="other"),  # nothing is known of its kind
        attempt(1, 1.0, needs_core=False),
        attempt(1, 1.0, has_declined=True),
    ],
)
def test_what_is_never_slow(other):
    usual = measured(min_seconds=5.0, factor=2.0)
    assert usual.slow([other], now=1000.0) == []
    assert usual.slow([attempt(1, 1.0)], now=1000.0)


def test_few_jobs_do_not_tell_what_is_usual():
    usual = UsualTimes(min_seconds=0.0)
    for _ in range(4):
        usual.note(Job("x", 1), seconds=1.0)
    assert usual.slow([attempt(1, 1.0)], now=1000.0) == []


@pytest.mark.parametrize(("num_jobs", "num_again"), [(6, 1), (3, 1), (2, 2)])
def test_slow_jobs_take_idle_cores_and_only_a_few_while_others_wait(num_jobs, num_again):
    """Four cores; two jobs are slow."""
    given = []

    def submit(job, avoid):
        given.append((job.value, avoid))
        return object(), dispatcher.least_busy(avoid) if avoid else ""

    nodes = [Node("head", 0), Node("a", 2), Node("b", 2)]
    usual = measured(min_seconds=5.0, factor=2.0)
    dispatcher = Dispatcher(submit, nodes=lambda: nodes, usual=usual)
    for number in range(num_jobs):
        dispatcher.put(Job(number, 1))
    dispatcher._fill()
    begun = [number for number, _ in given]
    assert begun == list(range(min(num_jobs, 5)))  # one more than cores
    given.clear()
    for running in list(dispatcher._running.values()):
        if running.job.value < 2:
            running.node_id, running.started = "a", -1000.0
    dispatcher._fill()
    assert given == [(number, frozenset("a")) for number in range(num_again)]
    targets = [a.node_id for a in dispatcher._running.values() if len(a.job.attempts) > 1]
    assert sorted(targets) == ["a"] * num_again + ["b"] * num_again


def test_least_busy_node_has_the_fewest_jobs_for_its_cores():
    nodes = [Node("head", 0), Node("a", 1), Node("b", 4)]
    placed = iter("abb")
    dispatcher = Dispatcher(lambda job, avoid: (object(), next(placed)), nodes=lambda: nodes)
    for _ in range(3):
        dispatcher.put(Job("x", 1))
    dispatcher._fill()
    assert dispatcher.least_busy(frozenset()) == "b"
    assert dispatcher.least_busy(frozenset("b")) == "a"
    assert dispatcher.least_busy(frozenset("ab")) == ""
