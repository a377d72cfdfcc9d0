"""The deployments of a service: replicas that read shards, and routers that ask them."""

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from reelseek.ranking.searcher import Searcher
from reelseek.serving.answers import Answer
from reelseek.serving.channel import Client
from reelseek.serving.cluster.fan_out import FanOut
from reelseek.serving.cluster.reader import ClusterReader, ShardsUnavailable
from reelseek.serving.cluster.shards import Reply, ShardGroup, StaleGeneration
from reelseek.serving.cluster.source import Generation, IndexSource, Location, description
from reelseek.serving.errors import ApiError
from reelseek.serving.remote_encoder import RemoteEncoder
from reelseek.serving.search_request import SearchRequest

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # between looks for a new generation in a folder
_LOOK_PUBLISHED_SECONDS = 10.0
_START_SECONDS = 30.0  # that a router waits for shards before it starts without some
_ATTEMPTS = 8  # at a query whose generation is gone
_PAUSE_SECONDS = 0.05
_UNANSWERED_SECONDS = 10.0
_UNANSWERED_PAUSE_SECONDS = 1.0  # after which absent shards are asked again


@dataclass(frozen=True)
class ServiceSettings:
    """What all replicas are told.

    Attributes:
        location: of the index.
        num_groups: of shards; each is a deployment.
        num_threads: that a replica works in.
        deadline_seconds: for each call of a shard.
        is_hedged: whether shards have several replicas, so that slow calls are sent twice.
        cache_mb: MiB of sentences' embeddings that a router keeps.
        shards_asked: see `IndexReader`.
    """

    location: Location
    num_groups: int
    num_threads: int = 4
    deadline_seconds: float = 1.0
    is_hedged: bool = True
    cache_mb: float = 64.0
    shards_asked: str = "auto"

    @property
    def look_seconds(self) -> float:
        return _LOOK_PUBLISHED_SECONDS if self.location.is_published else _LOOK_SECONDS


class ShardReplica:
    """Reads a group of shards.

    Args:
        group: 0 to `settings.num_groups - 1`.
    """

    def __init__(self, settings: ServiceSettings, group: int) -> None:
        self._shards = ShardGroup(settings.location, group=group, num_groups=settings.num_groups)
        self._threads = ThreadPoolExecutor(settings.num_threads, thread_name_prefix="shards")
        gc.freeze()  # a full collection would hold up all searches; see `serving.worker`
        _every(settings.look_seconds, self._shards.look)

    async def answer(
        self, call: str, generation: Generation, arguments: Sequence[Any], *, attempt_of: str = ""
    ) -> Reply:
        """Does a call of `ShardGroup`.

        Args:
            attempt_of: the same for all attempts at one call, for the request router.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, self._shards.answer, call, generation, arguments
        )

    async def look(self) -> None:
        """Opens the newest generation now."""
        await asyncio.get_running_loop().run_in_executor(None, self._shards.look)

    def check_health(self) -> None:
        self._shards.check()


class RouterReplica:
    """Analyses queries, encodes them in batches, asks the shards and scores.

    Args:
        make_handlers: loads a model for the index in a folder, and returns what answers the calls
            of an encoder process (`serving.encoder.handlers`).
        shards: the deployments that read the shards, by group.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        make_handlers: Callable[[str], dict[str, Callable[[Any], Any]]],
        *shards: Any,
    ) -> None:
        source = IndexSource(settings.location, part=description())
        fan_out = FanOut(
            shards, deadline_seconds=settings.deadline_seconds, is_hedged=settings.is_hedged
        )
        reader = ClusterReader(source, fan_out, shards_asked=settings.shards_asked)
        encoder = RemoteEncoder(
            _InProcess(make_handlers(str(reader.folder))),
            max_cache_bytes=int(settings.cache_mb * 2**20),
        )
        encoder.connect(timeout_seconds=0)
        self._fan_out = fan_out
        self._searcher = Searcher(reader, encoder=encoder)
        self._wait_for_shards(reader)
        self._threads = ThreadPoolExecutor(settings.num_threads, thread_name_prefix="search")
        gc.freeze()
        _every(settings.look_seconds, self._searcher.refresh)

    async def search(
        self, asked: SearchRequest, at_least: int, *, attempt_of: str = ""
    ) -> "Answered":
        """Answers a search.

        Args:
            at_least: the number of the generation to read, or a later one.
            attempt_of: see `ShardReplica.answer`.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answered, asked, at_least)

    async def look(self) -> None:
        """Goes over to the newest generation now."""
        await asyncio.get_running_loop().run_in_executor(None, self._searcher.refresh)

    def check_health(self) -> None:
        """Is healthy as long as it answers: shards that do not are not its fault."""

    def _answered(self, asked: SearchRequest, at_least: int) -> "Answered":
        from reelseek.serving.routes.search import search_answer

        try:
            if self._searcher.generation < at_least:
                self._searcher.refresh()
            return Answered(self._search(lambda: search_answer(self._searcher, asked)))
        except ApiError as error:
            refusal = error.status, error.code, error.message, error.retry_after_seconds
            return Answered(None, refusal)

    def _search(self, work: Callable[[], Any]) -> Any:
        """Searches, again from the newest generation where the one in use is gone, and for some
        seconds where no shard has answered: it takes as long to notice that a node is gone."""
        give_up_at = time.monotonic() + _UNANSWERED_SECONDS
        for attempt in range(_ATTEMPTS):
            try:
                return work()
            except StaleGeneration:
                time.sleep(_PAUSE_SECONDS * attempt)
                self._searcher.refresh()
            except ShardsUnavailable as error:
                if time.monotonic() > give_up_at:
                    raise _unavailable("no shard of the index answers") from error
                time.sleep(_UNANSWERED_PAUSE_SECONDS)
        raise _unavailable("the index changes faster than it can be read")

    def _wait_for_shards(self, reader: ClusterReader) -> None:
        """Waits until the shards answer, and loads what the first queries would wait for."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._searcher.refresh()
                complete = reader.measure()
            except (ShardsUnavailable, StaleGeneration):
                complete = False
                time.sleep(_PAUSE_SECONDS)
                continue
            if complete or time.monotonic() > deadline:
                break
        self._search(self._searcher.warm_up)


@dataclass(frozen=True)
class Answered:
    """What a router answers: an answer, or the arguments of an `ApiError`."""

    answer: Answer | None
    refusal: tuple[int, str, str, float | None] | None = None

    def result(self) -> Answer:
        """Returns the answer.

        Raises:
            ApiError: the router refused.
        """
        if self.refusal is not None:
            status, code, message, retry_after_seconds = self.refusal
            raise ApiError(status, code, message, retry_after_seconds=retry_after_seconds)
        assert self.answer is not None
        return self.answer


class _InProcess(Client):
    """Calls handlers in this process, as a `Client` calls those of another."""

    def __init__(self, handlers: dict[str, Callable[[Any], Any]]) -> None:
        self._handlers = handlers

    def call(self, name: str, value: Any = None, *, timeout_seconds: float = 30.0) -> Any:
        return self._handlers[name](value)


def load_handlers(
    folder: str, *, model: dict[str, Any] | None = None, device: str = "auto"
) -> dict[str, Callable[[Any], Any]]:
    """Loads the index's model, whose sentences are encoded in batches; see `load_query_encoder`
    for the arguments."""
    import torch

    from reelseek.ranking.index_model import load_query_encoder
    from reelseek.serving.encoder import handlers

    torch.set_num_threads(1)  # replicas share the cores of a node
    return handlers(load_query_encoder(folder, model, device=device))


def _unavailable(message: str) -> ApiError:
    return ApiError(503, "unavailable", message, retry_after_seconds=2)


def _every(seconds: float, work: Callable[[], Any]) -> None:
    """Does work again and again in a thread; an error waits for the next time."""

    def run() -> None:
        while True:
            time.sleep(seconds)
            try:
                work()
            except Exception:
                logger.exception("the new generation cannot be read; the last one goes on")
                time.sleep(10 * seconds)

    threading.Thread(target=run, name="follow", daemon=True).start()
