"""A simulated run on ten nodes whose work is to sleep, some of it five times too long, beside the
ideal.

    python benchmarks/cluster_stragglers.py [nodes=10] [cores=2] [jobs=400] [seconds=4]
                                            [slow_fraction=0.02] [slow_times=5] [rounds=1]
                                            [virtual=0]

Jobs sleep for `seconds` times a factor of 0.5 to 2, which is their size; an attempt at a job is
five times as slow with a probability of `slow_fraction`, as on a machine that others use. The nodes
are real Ray nodes on this machine, and what gives them the jobs is what indexes videos. The ideal
knows no stragglers: all sleep divided by all cores. `bound` has the slow attempts' extra sleep in
it, as far as it was slept. Prints a line of JSON for each round, with stragglers tried again and
without. With `virtual=N` nothing sleeps and no Ray is started: prints how far N rounds are beyond
the ideal by the rule alone, on machines without delays. Needs Ray: pip install 'reelseek[cluster]'.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing.cluster.dispatching import AGAIN_SHARE, Dispatcher  # noqa: E402
from reelseek.indexing.cluster.jobs import Answer, Attempt, Job  # noqa: E402
from reelseek.indexing.cluster.placement import on_node  # noqa: E402
from reelseek.indexing.cluster.stragglers import UsualTimes  # noqa: E402

_SIZE = 1000  # of a job that sleeps a second
_STEP_SECONDS = 0.02  # of the virtual clock


def sleep(seconds: float) -> Iterator[object]:
    """A task: yields the id of its node, and what it slept."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    time.sleep(seconds)
    yield seconds


def simulate(sizes: list[int], slow: list[bool], *, slow_times: float, tries_again: bool) -> dict:
    """Has the cluster do all jobs, and returns what it took."""
    import ray

    task = ray.remote(sleep)

    def submit(job: Job[int], avoid: frozenset[str]) -> tuple[object, str]:
        options: dict = {"num_cpus": 1, "max_retries": 0}
        node_id = dispatcher.least_busy(avoid) if avoid else ""
        if node_id:
            options["scheduling_strategy"] = on_node(node_id)
        is_slow = slow[job.value] and not avoid
        seconds = job.size / _SIZE * (slow_times if is_slow else 1)
        return task.options(**options).remote(seconds), node_id

    dispatcher: Dispatcher[int] = Dispatcher(submit, usual=usual_times(tries_again))
    for number, size in enumerate(sizes):
        dispatcher.put(Job(number, size))
    started = time.monotonic()
    slept = 0.0
    while len(dispatcher):
        for _, answer in dispatcher.poll():
            assert isinstance(answer, Answer)
            slept += answer.value
    return {
        "tries_again": tries_again,
        "seconds": round(time.monotonic() - started, 2),
        "ideal": round(sum(sizes) / _SIZE / dispatcher.num_slots, 2),
        "bound": round(slept / dispatcher.num_slots, 2),
        "repeated": dispatcher.num_repeated,
        "utilisation": round(dispatcher.utilisation, 3),
    }


def draw_sizes(rng: Random, options: dict[str, str]) -> list[int]:
    scale = _SIZE * float(options["seconds"])
    return [int(scale * rng.uniform(0.5, 2)) for _ in range(int(options["jobs"]))]


def print_virtual(options: dict[str, str], num_rounds: int) -> None:
    """Prints how far beyond the ideal rounds are that take no time."""
    num_slots = int(options["nodes"]) * int(options["cores"])
    for tries_again in (True, False):
        beyond = []
        for seed in range(num_rounds):
            rng = Random(seed)
            sizes = draw_sizes(rng, options)
            slow = [rng.random() < float(options["slow_fraction"]) for _ in sizes]
            seconds = virtual_seconds(
                sizes, slow, float(options["slow_times"]), num_slots, usual_times(tries_again)
            )
            beyond.append(seconds / (sum(sizes) / _SIZE / num_slots) - 1)
        found = {"mean": round(mean(beyond), 3), "max": round(max(beyond), 3)}
        print(json.dumps({"virtual": num_rounds, "tries_again": tries_again, "beyond": found}))


def virtual_seconds(
    sizes: list[int], slow: list[bool], slow_times: float, num_slots: int, usual: UsualTimes
) -> float:
    """Returns how long jobs take on machines without delays: a clock that goes on by steps stands
    for the sleeping and for Ray, and the rule is that of the dispatcher."""
    waiting = sorted(range(len(sizes)), key=sizes.__getitem__)
    running: dict[Attempt, float] = {}  # with the time at which each ends
    now = 1.0
    while waiting or running:
        for attempt in [a for a, end in running.items() if end <= now]:
            if attempt in running:  # else the other attempt has just ended, too
                usual.note(attempt.job, seconds=now - attempt.started)
                for each in attempt.job.attempts:
                    running.pop(each, None)
        num_free = num_slots - len(running)
        num_again = sum(len(a.job.attempts) > 1 for a in running) // 2
        most = max(1, int(AGAIN_SHARE * num_slots)) - num_again if waiting else num_free
        again = usual.slow(running, now=now)[: max(0, min(most, num_free))]
        first = waiting[len(waiting) - max(0, num_free - len(again)) :]
        del waiting[len(waiting) - len(first) :]
        for job in [a.job for a in again] + [Job(number, sizes[number]) for number in first]:
            is_slow = slow[job.value] and not job.attempts
            attempt = Attempt(job, None, started=now)
            job.attempts.append(attempt)
            running[attempt] = now + job.size / _SIZE * (slow_times if is_slow else 1)
        now += _STEP_SECONDS
    return now - 1.0


def usual_times(tries_again: bool) -> UsualTimes:
    """The default rule, but for its minimum: the jobs are shorter than videos that are tried
    again."""
    return UsualTimes(min_seconds=1.0) if tries_again else UsualTimes(factor=float("inf"))


def main() -> None:
    options = parse_options(
        __doc__,
        **{"nodes": "10", "cores": "2", "jobs": "400", "seconds": "4", "slow_fraction": "0.02"},
        **{"slow_times": "5", "rounds": "1", "virtual": "0"},
    )
    cores = int(options["cores"])
    if num_rounds := int(options["virtual"]):
        print_virtual(options, num_rounds)
        return
    import ray
    from ray.cluster_utils import Cluster

    rng = Random(0)
    sizes = draw_sizes(rng, options)
    own = {"object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **own})
    try:
        for _ in range(int(options["nodes"])):
            cluster.add_node(num_cpus=cores, object_store_memory=80 << 20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        quick = [_SIZE // 10] * (4 * cores * int(options["nodes"]))
        simulate(quick, [False] * len(quick), slow_times=1, tries_again=False)  # starts processes
        for _ in range(int(options["rounds"])):
            slow = [rng.random() < float(options["slow_fraction"]) for _ in sizes]
            for tries_again in (True, False):
                times = float(options["slow_times"])
                found = simulate(sizes, slow, slow_times=times, tries_again=tries_again)
                print(json.dumps({"slow_jobs": sum(slow), **found}), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
