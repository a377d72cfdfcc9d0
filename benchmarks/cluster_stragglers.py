"""A simulated run on ten nodes whose work is to sleep, some of it five times too long, beside the
ideal.

    python benchmarks/cluster_stragglers.py [nodes=10] [cores=2] [jobs=400] [seconds=2]
                                            [slow_fraction=0.02] [slow_times=5] [rounds=1]

Jobs sleep for `seconds` times a factor of 0.5 to 2, which is their size; an attempt at a job is
five times as slow with a probability of `slow_fraction`, as on a machine that others use. The nodes
are real Ray nodes on this machine, and what gives them the jobs is what indexes videos. The ideal
knows no stragglers: all sleep divided by all cores. `bound` has the slow attempts' extra sleep in
it, as far as it was slept. Prints a line of JSON for each round, with stragglers tried again and
without. Needs Ray: pip install 'reelseek[cluster]'.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing.cluster.dispatching import Dispatcher  # noqa: E402
from reelseek.indexing.cluster.jobs import Answer, Job  # noqa: E402
from reelseek.indexing.cluster.placement import on_node  # noqa: E402
from reelseek.indexing.cluster.stragglers import UsualTimes  # noqa: E402

_SIZE = 1000  # of a job that sleeps a second


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

    # With the default factor; the jobs are shorter than videos that are tried again.
    usual = UsualTimes(min_seconds=1.0) if tries_again else UsualTimes(factor=float("inf"))
    dispatcher: Dispatcher[int] = Dispatcher(submit, usual=usual)
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


def main() -> None:
    options = parse_options(
        __doc__,
        **{"nodes": "10", "cores": "2", "jobs": "400", "seconds": "2", "slow_fraction": "0.02"},
        **{"slow_times": "5", "rounds": "1"},
    )
    import ray
    from ray.cluster_utils import Cluster

    rng = Random(0)
    num_jobs, cores = int(options["jobs"]), int(options["cores"])
    sizes = [int(_SIZE * float(options["seconds"]) * rng.uniform(0.5, 2)) for _ in range(num_jobs)]
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
