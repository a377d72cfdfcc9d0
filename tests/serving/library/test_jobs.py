"""The order of jobs, and what becomes of runs that are stopped or fail."""

import threading
import time
from itertools import pairwise

import pytest

from reelseek.serving.library.errors import InvalidRequest
from reelseek.serving.library.jobs import Jobs
from tests.serving.library.conftest import wait_until


class FakeRun:
    """A run that ends when it is told to."""

    def __init__(self, videos, on_change):
        self.videos, self._on_change = tuple(videos), on_change
        self.progress, self.summary = {"done": 1, "total": 2}, {}
        self.has_ended, self.was_stopped = False, False
        self.exit_code, self.reason = 0, "no reason"

    def end(self, code=0):
        self.exit_code, self.has_ended = code, True
        self._on_change()

    def stop(self):
        self.was_stopped = True
        self.end(143)


class Runs:
    """All runs that a queue has started."""

    def __init__(self):
        self.started = []
        self.fails = False

    def start(self, videos, on_change):
        if self.fails:
            raise OSError("no memory")
        self.started.append(FakeRun(videos, on_change))
        return self.started[-1]

    def wait(self, number):
        wait_until(lambda: len(self.started) >= number, seconds=5)
        return self.started[number - 1]


@pytest.fixture
def runs():
    return Runs()


@pytest.fixture
def jobs(runs):
    jobs = Jobs(runs.start, quiet_seconds=0.05, first_pause_seconds=0.05, again_seconds=0.05)
    yield jobs
    jobs.close()


def state(jobs):
    return jobs.state()["state"]


def test_write_stops_a_run_which_goes_on_afterwards(jobs, runs):
    jobs.request_run()
    first = runs.wait(1)
    wait_until(lambda: state(jobs) == "running")
    assert jobs.state()["total"] == 2
    assert jobs.write(lambda: ("written", first.has_ended)) == ("written", True)
    second = runs.wait(2)
    assert first.was_stopped
    second.end()
    wait_until(lambda: state(jobs) == "idle")
    assert len(runs.started) == 2


def test_many_writes_stop_a_run_once(jobs, runs):
    jobs.request_run()
    runs.wait(1)
    for _ in range(20):
        jobs.write(lambda: None)
    runs.wait(2)
    assert len(runs.started) == 2


def test_write_that_fails_raises_to_its_caller_alone(jobs):
    with pytest.raises(ZeroDivisionError):
        jobs.write(lambda: 1 / 0)
    assert jobs.write(lambda: 1) == 1


def test_writes_are_one_at_a_time(jobs):
    running, most = [0], [0]

    def work():
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.01)
        running[0] -= 1

    threads = [threading.Thread(target=jobs.write, args=(work,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_changes_during_a_run_are_looked_at_after_it(jobs, runs):
    jobs.request_run()
    first = runs.wait(1)
    jobs.request_run()
    jobs.request_run()
    first.end()
    runs.wait(2).end()
    wait_until(lambda: state(jobs) == "idle")
    time.sleep(0.1)
    assert len(runs.started) == 2


def test_single_videos_come_first(jobs, runs):
    jobs.request_run()
    runs.wait(1)
    added = jobs.add(["a.mp4"])
    second = runs.wait(2)
    assert second.videos == ("a.mp4",)
    assert not added.done()
    jobs.write(lambda: None)  # stops it, too
    runs.wait(3).end(1)  # nothing is searchable: it was looked at
    added.result(timeout=5)
    assert runs.wait(4).videos == ()


def test_crash_is_tried_again_and_shown(jobs, runs):
    jobs.request_run()
    runs.wait(1).end(-9)
    wait_until(lambda: jobs.state()["reason"] == "no reason" or len(runs.started) > 1)
    runs.wait(2).end(0)
    wait_until(lambda: state(jobs) == "idle")
    assert jobs.state()["reason"] == ""


def test_machine_that_cannot_start_a_process_is_waited_for(jobs, runs):
    runs.fails = True
    jobs.request_run()
    wait_until(lambda: jobs.state()["reason"] == "no memory")
    runs.fails = False
    runs.wait(1)


def test_pauses_grow(runs):
    jobs = Jobs(runs.start, first_pause_seconds=0.1)
    jobs.request_run()
    times = []
    for number in range(1, 5):
        runs.wait(number).end(-9)
        times.append(time.monotonic())
    first, second, third = (b - a for a, b in pairwise(times))
    assert first >= 0.1 and second >= 0.2 and third >= 0.4
    jobs.close()


def test_videos_that_cannot_be_indexed_are_given_up(jobs, runs):
    added = jobs.add(["a.mp4"])
    runs.wait(1).end(2)
    with pytest.raises(InvalidRequest, match="no reason"):
        added.result(timeout=5)
    added = jobs.add(["a.mp4"])
    for number in (2, 3, 4):
        runs.wait(number).end(-9)
    with pytest.raises(InvalidRequest):
        added.result(timeout=5)


def test_files_that_are_being_written_are_looked_at_again(jobs, runs):
    jobs.request_run()
    first = runs.wait(1)
    first.summary = {"settling": 1}
    first.end()
    runs.wait(2)


def test_closing_stops_a_run_and_refuses_writes(runs):
    jobs = Jobs(runs.start)
    jobs.request_run()
    run = runs.wait(1)
    added = jobs.add(["a.mp4"])
    jobs.close()
    assert run.was_stopped
    with pytest.raises(RuntimeError):
        added.result(timeout=5)
    with pytest.raises(RuntimeError):
        jobs.write(lambda: None)
