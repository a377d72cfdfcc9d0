"""Connects to a Ray cluster, or starts one of this machine alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from reelseek.indexing.store.manifest import Manifest

_MIN_STORE_BYTES = 256 << 20
_STORE_PER_FRAMES = 4  # embeddings and a second copy lie there too


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


@contextmanager
def connect(address: str | None, *, frames_bytes: int = 0) -> Iterator[None]:
    """Connects to a cluster while the block runs. A program that is connected already stays so.

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
        raise ValueError(
            f"ray.address={address}: no cluster answers there ({type(error).__name__}); start one "
            "with `ray start --head`, or leave ray.address out"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
