"""What an HTTP worker needs of a service's application: searches, and what the index holds."""

import logging

from reelseek.configs.schema import ServeConfig
from reelseek.ranking.searcher import Searcher
from reelseek.serving import telemetry
from reelseek.serving.answers import Answer
from reelseek.serving.cluster.deploying import Application, router_handle, shard_handles
from reelseek.serving.cluster.fan_out import FanOut
from reelseek.serving.cluster.reader import ClusterReader
from reelseek.serving.cluster.source import IndexSource, Location, description
from reelseek.serving.errors import ApiError
from reelseek.serving.remote_encoder import RemoteEncoder
from reelseek.serving.search_request import SearchRequest

logger = logging.getLogger(__name__)

_SEARCH_SECONDS = 60.0  # for an answer, while routers die and are replaced


class Front:
    """Has searches answered by the routers of an application.

    Args:
        app: that runs.
        encoder: of the encoder process, for what is searched by files.
    """

    def __init__(self, app: Application, config: ServeConfig, *, encoder: RemoteEncoder) -> None:
        location = Location(app.index, config.index_cache, config.index_cache_gb)
        self._routers = FanOut(
            [router_handle(app)],
            deadline_seconds=_SEARCH_SECONDS,
            is_hedged=config.ray.max_routers > 1,
        )
        shards = FanOut(
            shard_handles(app),
            deadline_seconds=config.ray.deadline_ms / 1000,
            is_hedged=config.ray.max_replicas > 1,
        )
        self._reader = ClusterReader(
            IndexSource(location, part=description()), shards, shards_asked=config.shards
        )
        self.searcher = Searcher(self._reader, encoder=encoder)

    @classmethod
    def connect(cls, app: Application, config: ServeConfig, *, encoder: RemoteEncoder) -> "Front":
        """Connects this process to the cluster that an application runs on."""
        import ray

        if not ray.is_initialized():
            ray.init(
                address=app.address,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
        return cls(app, config, encoder=encoder)

    def refresh(self) -> bool:
        """Has all routers go over to the newest generation, then goes over, too; returns whether
        there was one."""
        return self._reader.refresh(lambda: self._routers.broadcast("look"))

    def search(self, searcher: Searcher, asked: SearchRequest) -> Answer:
        """Has a router answer a search; again by another, where one dies.

        Raises:
            ApiError: the request is wrong, or nothing can answer it.
        """
        # An answer is kept under the generation that this worker reads, so it must not be older.
        replies = self._routers.call("search", {0: (asked, searcher.generation)})
        if 0 not in replies:
            raise ApiError(503, "unavailable", "no router answers", retry_after_seconds=2)
        answer: Answer = replies[0].result()
        for stage, seconds in answer.stage_seconds.items():
            telemetry.STAGE_SECONDS.labels(stage).observe(seconds)
        return answer
