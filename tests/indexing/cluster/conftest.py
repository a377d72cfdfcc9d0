"""Ray on this machine, in several nodes of little memory."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.indexing.cluster.colour_runs import PROJECT, ColourRun, index_here, make_videos, rows_of

NUM_VIDEOS = 40
_STORE_BYTES = 80 << 20


class SmallCluster:
    """A head without cores, and nodes.

    Args:
        num_cpus: of each node.

    Attributes:
        address: for `ray.init`.
    """

    def __init__(self, num_nodes: int, *, num_cpus: int = 1) -> None:
        from ray.cluster_utils import Cluster

        os.environ["PYTHONPATH"] = str(PROJECT)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        options = {"object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self._ray = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
        self.address = self._ray.address
        self.nodes: list[Any] = []
        self._num_cpus = num_cpus
        for _ in range(num_nodes):
            self.add_node()

    def add_node(self, **options: Any) -> None:
        options = {"num_cpus": self._num_cpus, "object_store_memory": _STORE_BYTES, **options}
        node = self._ray.add_node(**options)
        self.nodes.append(node)

    def kill_node(self) -> None:
        """Kills a node with all its processes, as if its machine were gone."""
        self._ray.remove_node(self.nodes.pop(0), allow_graceful=False)

    def close(self) -> None:
        self._ray.shutdown()


def processes(title: str) -> list[psutil.Process]:
    """The processes of Ray that do this, such as `decode_video`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[0].startswith(f"ray::{title}") and _is_ours(process):
            found.append(process)
    return found


def _is_ours(process: psutil.Process) -> bool:
    """Whether this process started the cluster that a process belongs to."""
    try:
        return os.getpid() in {parent.pid for parent in process.parents()}
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="package")
def ray_nodes() -> Iterator[SmallCluster]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    nodes = SmallCluster(2)
    yield nodes
    nodes.close()


@pytest.fixture(scope="package")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"), NUM_VIDEOS)


@pytest.fixture(scope="package")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """The rows of the one-machine index of these videos."""
    index = tmp_path_factory.mktemp("one") / "index"
    index_here(videos, index)
    return rows_of(index)


@pytest.fixture
def run(ray_nodes: SmallCluster, videos: Path, tmp_path: Path) -> ColourRun:
    index, log = str(tmp_path / "index"), str(tmp_path / "log")
    return ColourRun(str(videos), index, ray_nodes.address, log)


def wait_until(holds: Any, *, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.05)
