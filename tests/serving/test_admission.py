"""Who waits, who is turned away, and what a deadline does."""

import asyncio
import time

import pytest

from reelseek.serving.admission import Admission
from reelseek.serving.errors import ApiError


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 10))


async def hold(admission: Admission, release: asyncio.Event, **options) -> None:
    async with admission.enter(**options):
        await release.wait()


async def started(*coroutines):
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.sleep(0.01)
    return tasks


@pytest.mark.parametrize(("num_running", "max_waiting"), [(1, 0), (1, 3), (2, 2)])
def test_as_many_wait_as_may(num_running, max_waiting):
    async def scenario():
        admission = Admission(num_running=num_running, max_waiting=max_waiting, max_wait_seconds=60)
        release = asyncio.Event()
        total = num_running + max_waiting
        tasks = await started(*(hold(admission, release) for _ in range(total)))
        assert admission.num_waiting == max_waiting
        with pytest.raises(ApiError) as raised:
            await hold(admission, release)
        assert (raised.value.status, raised.value.code) == (503, "overloaded")
        assert int(raised.value.headers["Retry-After"]) >= 1
        release.set()
        await asyncio.gather(*tasks)
        assert admission.num_waiting == 0
        assert admission.num_shed == 1
        await hold(admission, release)  # there is room again

    run(scenario())


def test_a_long_wait_is_refused_before_it_begins():
    async def scenario():
        admission = Admission(num_running=1, max_waiting=100, max_wait_seconds=0.05)
        for _ in range(60):  # teach it that a search takes some 10 ms
            async with admission.enter():
                await asyncio.sleep(0.01)
        assert 0.005 < admission.expected_wait_seconds() < 0.05
        release = asyncio.Event()
        tasks = await started(*(hold(admission, release) for _ in range(12)))
        shed = [task for task in tasks if task.done()]
        assert 5 <= len(shed) <= 9
        assert all(task.exception().code == "overloaded" for task in shed)
        release.set()
        await asyncio.gather(*(task for task in tasks if task not in shed))

    run(scenario())


def test_deadline_passes_while_waiting():
    async def scenario():
        admission = Admission(num_running=1, max_waiting=5, max_wait_seconds=60)
        release = asyncio.Event()
        (first,) = await started(hold(admission, release))
        with pytest.raises(ApiError) as raised:
            await hold(admission, release, deadline=time.monotonic() + 0.05)
        assert (raised.value.status, raised.value.code) == (504, "deadline_exceeded")
        assert admission.num_waiting == 0
        release.set()
        await first
        await hold(admission, release)  # the turn was not lost

    run(scenario())


def test_a_caller_that_goes_away_gives_its_turn_back():
    async def scenario():
        admission = Admission(num_running=1, max_waiting=5, max_wait_seconds=60)
        release = asyncio.Event()
        running, waiting = await started(hold(admission, release), hold(admission, release))
        waiting.cancel()
        running.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        assert admission.num_waiting == 0
        release.set()
        await hold(admission, release)

    run(scenario())
