"""The options of a service -> its application on a Ray cluster, running."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from reelseek.configs.command_line import program_version
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.cluster.connection import connect
from reelseek.indexing.cluster.placement import live_nodes
from reelseek.indexing.store.manifest import Manifest
from reelseek.serving.cluster.replicas import (
    RouterReplica,
    ServiceSettings,
    ShardReplica,
    load_handlers,
)
from reelseek.serving.cluster.request_router import ELSEWHERE_ROUTER
from reelseek.serving.cluster.source import IndexSource, Location, description

logger = logging.getLogger(__name__)

_TARGET_ONGOING = 2  # calls of a replica beyond which Ray Serve adds another
_MAX_ONGOING = 64  # that a replica accepts; more wait at the caller
_HEALTH = {"health_check_period_s": 5, "health_check_timeout_s": 10}
_STOP = {"graceful_shutdown_timeout_s": 10, "graceful_shutdown_wait_loop_s": 0.5}

MakeHandlers = Callable[[str], dict[str, Callable[[Any], Any]]]


@dataclass(frozen=True)
class Application:
    """A service's application.

    Attributes:
        name: of the application; the same for all services of one index.
        address: of the cluster.
        index: folder or URL that it serves.
        num_groups: of shards.
    """

    name: str
    address: str
    index: str
    num_groups: int


@contextmanager
def application(
    config: ServeConfig,
    index: str,
    *,
    make_handlers: MakeHandlers | None = None,
    shard_class: type = ShardReplica,
) -> Iterator[Application]:
    """Runs the application of a service while the block runs. One that runs already for the same
    index and options is used, and left running.

    Args:
        index: folder that all nodes see, or URL.
        make_handlers: see `RouterReplica`; None loads the index's model.
        shard_class: of the replicas that read shards.

    Raises:
        ValueError: no cluster answers, there is no index, or nothing in it can be searched yet.
    """
    location = Location(index, config.index_cache, config.index_cache_gb)
    num_groups = _count_groups(location, config.ray.shards_per_replica)
    with connect(config.ray.address):
        import ray
        from ray import serve

        name = _name(config, index)
        serve.start(proxy_location="Disabled")
        # Deploying it again would restart its replicas.
        was_there = name in serve.status().applications
        if make_handlers is None:
            model = None if config.model is None else asdict(config.model)
            make_handlers = partial(load_handlers, model=model, device=config.device)
        if not was_there:
            target = _bind(config, location, num_groups, make_handlers, shard_class)
            _run(target, name)
        try:
            address = ray.get_runtime_context().gcs_address
            yield Application(name, address, index, num_groups)
        finally:
            if not was_there:
                serve.delete(name)


def shard_handles(app: Application) -> list[Any]:
    """Returns the handles of the deployments that read shards, by group."""
    from ray import serve

    names = map(_shard_name, range(app.num_groups))
    return [serve.get_deployment_handle(name, app_name=app.name) for name in names]


def router_handle(app: Application) -> Any:
    """Returns the handle of the routers."""
    from ray import serve

    return serve.get_app_handle(app.name)


def _run(target: Any, name: str) -> None:
    """Deploys an application, and waits until its replicas answer."""
    from ray import serve

    try:
        serve.run(target, name=name, route_prefix=None)
    except RuntimeError as error:
        serve.delete(name)
        reason = str(error).strip().rpartition("\n")[2]
        raise ValueError(
            f"engine=ray: the replicas do not start ({reason}); the nodes need the index, the "
            "model and this version of reelseek; Ray's logs say more"
        ) from error


def _bind(
    config: ServeConfig,
    location: Location,
    num_groups: int,
    make_handlers: MakeHandlers,
    shard_class: type,
) -> Any:
    from ray import serve
    from ray.serve.config import RequestRouterConfig

    options = config.ray
    settings = ServiceSettings(
        location,
        num_groups,
        num_threads=options.threads,
        deadline_seconds=options.deadline_ms / 1000,
        is_hedged=options.max_replicas > 1,
        cache_mb=config.cache_mb,
        shards_asked=config.shards,
    )
    shared = {
        **_HEALTH,
        **_STOP,
        "max_ongoing_requests": _MAX_ONGOING,
        "logging_config": {"enable_access_log": False},  # the HTTP worker logs requests
        "ray_actor_options": {"num_cpus": options.cores_per_replica},
    }
    elsewhere = RequestRouterConfig(request_router_class=ELSEWHERE_ROUTER)
    shards = [
        serve.deployment(
            shard_class,
            name=_shard_name(group),
            request_router_config=elsewhere,
            **_scaling(options.replicas, options.max_replicas),
            **shared,
        ).bind(settings, group)
        for group in range(num_groups)
    ]
    routers = serve.deployment(
        RouterReplica,
        name="router",
        request_router_config=elsewhere,
        **_scaling(options.routers, options.max_routers),
        **shared,
    )
    return routers.bind(settings, make_handlers, *shards)


def _scaling(least: int, most: int) -> dict[str, Any]:
    """How many replicas there are, on different nodes as far as there are so many."""
    spread = {"max_replicas_per_node": -(-most // len(live_nodes()))}
    if least == most:
        return {"num_replicas": least, **spread}
    return {
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": _TARGET_ONGOING,
        },
        **spread,
    }


def _name(config: ServeConfig, index: str) -> str:
    """The same for all services that want the same application."""
    options = replace(config.ray, address=None)
    wanted = (
        program_version(),
        index,
        config.model,
        config.device,
        config.cache_mb,
        config.shards,
        options,
    )
    digest = hashlib.sha256(repr(wanted).encode("utf-8", "surrogateescape")).hexdigest()
    return f"reelseek-{digest[:12]}"


def _shard_name(group: int) -> str:
    return f"shards-{group:04d}"


def _count_groups(location: Location, shards_per_replica: int) -> int:
    source = IndexSource(location, part=description())
    try:
        folder = source.folder()
        manifest = Manifest.read(folder)
        if not manifest.num_videos:
            raise ValueError(
                f"engine=ray: index={folder}: nothing in it can be searched yet; index first"
            )
        return -(-len(manifest.shard_manifests(folder)) // shards_per_replica)
    finally:
        source.close()
