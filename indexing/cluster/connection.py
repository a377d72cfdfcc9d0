"""Connects to a Ray cluster, or starts one of this machine alone."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from reelseek.indexing.store.manifest import Manifest

_MIN_STORE_BYTES = 256 << 20
_STORE_PER_FRAMES = 4  # embeddings and a second copy lie there too
_USAGE_STATISTICS = "RAY_USAGE_STATS_ENABLED"
_HOST_AND_PORT = re.compile(r"\[?([^\s/\[\]]+?)\]?:([0-9]{1,5})")
_KNOCK_SECONDS = 5.0
_PROBE_SECONDS = 60.0  # loading Ray included
# Ray itself waits for minutes, and then ends its process.
_PROBE = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
except Exception as error:
    sys.exit(next(iter(str(error).splitlines()), type(error).__name__))
"""


def require_ray() -> None:
    """Raises a ValueError that says what to install where Ray is missing."""
    if find_spec("ray") is None:
        raise ValueError("engine=ray: needs Ray, which is missing; pip install 'reelseek[cluster]'")


def check_cluster_can_write(folder: Path, num_shards: int | None) -> None:
    """Checks that `engine=ray` can make or change an index.

    Raises:
        ValueError: Ray is missing, or the index is or will be in one piece, or placed by cluster.
    """
    require_ray()
    if not Manifest.exists(folder):
        if num_shards is None or num_shards < 2:
            raise ValueError("engine=ray: needs an index in shards; give shards=N, 2 or more")
        return
    sharding = Manifest.read(folder).sharding
    if sharding is None:
        raise ValueError(
            f"engine=ray: index={folder} is in one piece; divide it: "
            f"reelseek shard --index {folder} --shards N"
        )
    if sharding.placement != "hash":
        raise ValueError(
            f"engine=ray: index={folder} is placed by {sharding.placement}, which one machine "
            "writes; leave engine out"
        )


def check_address(address: str | None) -> None:
    """Checks that a cluster answers at an address that a user gives.

    Raises:
        ValueError: it is no address, or no cluster of this version of Ray answers there.
    """
    if address is None:
        return
    if address != "auto":
        match = _HOST_AND_PORT.fullmatch(address)
        if match is None or int(match[2]) > 65535:
            raise ValueError(f"ray.address={address}: must be auto or HOST:PORT, such as head:6379")
        try:
            socket.create_connection((match[1], int(match[2])), _KNOCK_SECONDS).close()
        except OSError as error:
            raise _no_cluster(address, error.strerror or str(error)) from error
    command = [sys.executable, "-c", _PROBE, address]
    environment = {_USAGE_STATISTICS: "0"} | os.environ
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise _no_cluster(address, f"no answer in {_PROBE_SECONDS:.0f} seconds") from error
    if done.returncode:
        raise _no_cluster(address, (done.stderr.splitlines() or ["Ray ended"])[-1])


def _no_cluster(address: str, reason: str) -> ValueError:
    return ValueError(
        f"ray.address={address}: no cluster can be joined there ({reason}); start one with "
        "`ray start --head`, or leave ray.address out"
    )


@contextmanager
def connect(address: str | None, *, frames_bytes: int = 0) -> Iterator[None]:
    """Connects to a cluster while the block runs. A program that is connected already stays so.

    A Ray that is started here sends no usage statistics, unless RAY_USAGE_STATS_ENABLED=1 asks it
    to.

    Args:
        address: of the cluster, or `auto` for the one that this machine belongs to; None starts
            Ray on this machine, and ends it afterwards.
        frames_bytes: of decoded frames that each core may hold, by which the memory of a Ray that
            is started here is measured.

    Raises:
        ValueError: no cluster answers there.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault(_USAGE_STATISTICS, "0")
    # Lines of workers would stand among ours, and on stdout.
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            num_cores = torch.get_num_threads()
            store_bytes = max(_MIN_STORE_BYTES, _STORE_PER_FRAMES * frames_bytes * num_cores)
            ray.init(
                address="local",
                num_cpus=num_cores,
                object_store_memory=store_bytes,
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise _no_cluster(str(address), type(error).__name__) from error
    try:
        yield
    finally:
        ray.shutdown()
