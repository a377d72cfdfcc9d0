"""What dies, hangs or changes under load fails no search: `make test-cluster`."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from reelseek.indexing.shards.opening import open_writer
from reelseek.serving.search_request import SearchRequest
from tests.indexing.cluster.conftest import SmallCluster, processes, wait_until
from tests.indexing.shards.collection import collection, make_index

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_failures]

NUM_VIDEOS = 24


@pytest.fixture(scope="module")
def nodes() -> Iterator[SmallCluster]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    pytest.importorskip("tantivy")
    started = SmallCluster(3, num_cpus=4)
    yield started
    started.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    held, texts = collection(num=NUM_VIDEOS)
    return make_index(tmp_path_factory.mktemp("served") / "index", held, texts, num_shards=2)


@pytest.fixture(scope="module")
def front(nodes, index):
    from tests.serving.cluster.ray_service import served

    options = (f"ray.address={nodes.address}", "ray.cores_per_replica=0.1", "ray.deadline_ms=3000")
    with served(str(index), *options) as (_, front, _):
        yield front


class Load:
    """Asks question after question in two threads until the block ends; each must be answered."""

    def __init__(self, front) -> None:
        self._front = front
        self._finished = threading.Event()
        self.answers: list[dict] = []
        self.seconds: list[float] = []

    def __enter__(self):
        self._threads = ThreadPoolExecutor(2)
        self._futures = [self._threads.submit(self._ask, n) for n in range(2)]
        return self

    def __exit__(self, *error):
        self._finished.set()
        for future in self._futures:
            future.result()
        self._threads.shutdown()

    def _ask(self, thread: int) -> None:
        for number in itertools.count():
            if self._finished.is_set():
                return
            started = time.monotonic()
            asked = SearchRequest(text=f"dog {thread} {number}", analyze=False, k=50)
            answer = self._front.search(self._front.searcher, asked)
            self.seconds.append(time.monotonic() - started)
            self.answers.append(msgspec.json.decode(answer.body))

    def wait(self, *, num: int = 30) -> None:
        """Waits for so many further answers."""
        end = len(self.answers) + num
        wait_until(lambda: len(self.answers) >= end or any(f.done() for f in self._futures))


def replicas(name: str):
    return [each for each in processes("ServeReplica") if name in " ".join(each.cmdline())]


@pytest.mark.parametrize("name", ["shards-0001", "router"])
def test_a_replica_that_is_killed_fails_no_search(front, name):
    wait_until(lambda: len(replicas(name)) == 2)
    with Load(front) as load:
        load.wait()
        os.kill(replicas(name)[0].pid, signal.SIGKILL)
        load.wait(num=100)
    assert all(answer["shards"] == {"answered": 2, "of": 2} for answer in load.answers)


def test_a_node_that_is_killed_fails_no_search(front, nodes):
    wait_until(lambda: len(replicas("shards-")) == 4 and len(replicas("router")) == 2)
    with Load(front) as load:
        load.wait()
        nodes.kill_node()
        load.wait(num=100)
        nodes.add_node()
    assert load.answers


def test_generations_that_are_published_fail_no_search_and_are_read(front, index):
    held, _ = collection(num=NUM_VIDEOS + 10)
    first = front.searcher.generation
    with Load(front) as load:
        for video, rows in held[NUM_VIDEOS : NUM_VIDEOS + 10]:
            with open_writer(index) as writer:
                writer.add(video, rows)
                writer.publish()
            assert front.refresh()
            load.wait(num=5)
    assert front.searcher.generation > first
    assert load.answers[-1]["generation"] == front.searcher.generation
    assert {answer["shards"]["answered"] for answer in load.answers} == {2}
    # A generation's number of videos, and so of hits, is its own.
    sizes: dict[int, set[int]] = {}
    for answer in load.answers:
        sizes.setdefault(answer["generation"], set()).add(len(answer["hits"]))
    assert all(len(each) == 1 for each in sizes.values()), sizes


def test_a_shard_that_hangs_is_missing_within_the_deadline(front):
    wait_until(lambda: len(replicas("shards-0000")) == 2)
    stopped = replicas("shards-0000")
    for process in stopped:
        process.suspend()
    try:
        with Load(front) as load:
            load.wait(num=12)
    finally:
        for process in stopped:
            process.resume()
    said = [answer["shards"] for answer in load.answers]
    assert {"answered": 1, "of": 2} in said
    assert all(answer["hits"] for answer in load.answers)
    assert max(load.seconds) < 2 * 3.0 + 5  # the deadline, and a busy machine
