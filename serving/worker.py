"""An HTTP worker: one process of several that answer on the same socket."""

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from reelseek.configs.schema import ServeConfig
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.opening import open_log
from reelseek.serving import telemetry
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client, Unavailable
from reelseek.serving.remote_encoder import RemoteEncoder
from reelseek.serving.security import http_protocol
from reelseek.serving.services import Services, Sockets

if TYPE_CHECKING:
    from reelseek.ranking.searcher import Searcher
    from reelseek.serving.cluster.deploying import Application

logger = logging.getLogger(__name__)

_LOOK_EVERY_SECONDS = 0.5  # for a new generation
_ENCODER_SECONDS = 600.0  # for it to have loaded the model


def main(
    config: ServeConfig,
    listener: socket.socket,
    sockets: Sockets,
    cluster: "Application | None" = None,
) -> None:
    """Runs the worker until SIGTERM, and then until the requests in hand are answered.

    Args:
        cluster: the application that answers its searches; None where it searches itself.
    """
    telemetry.log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    os.environ["OMP_NUM_THREADS"] = "1"
    services = Services(
        config=config,
        admission=Admission(
            num_running=config.threads,
            max_waiting=config.max_waiting,
            max_wait_seconds=config.max_wait_seconds,
        ),
        encoder=Client(sockets.encoder),
        media=None if sockets.media is None else Client(sockets.media),
        library=None if sockets.library is None else Client(sockets.library),
        upload_folder=sockets.encoder.parent,
        events=_event_log(config),
    )
    was_ready = sockets.encoder.with_name("was-ready")
    follow = threading.Thread(
        target=_follow, args=(services, was_ready, cluster), name="follow", daemon=True
    )
    follow.start()
    if was_ready.exists():
        # The others answer until this one, which replaces one that died, can do so, too.
        services.ready.wait()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(services),
            http=http_protocol(config),
            ws="none",
            proxy_headers=False,  # `trusted_proxies` says whom to believe
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.drain_seconds) or None,
            timeout_keep_alive=20,
        )
    )
    server.run(sockets=[listener])


def _freeze_long_lived_objects() -> None:
    """Keeps the garbage collector away from what exists now, which lives as long as the process.

    A full collection goes through some 400,000 objects of dictionaries and libraries, which takes
    almost half a second in which no thread of the process runs.
    """
    gc.collect()
    gc.freeze()


def _event_log(config: ServeConfig) -> EventLog | None:
    if config.events is None:
        return None
    max_bytes = config.events_gb * 2**30
    log = open_log(config.events, days=config.events_days, max_bytes=max_bytes)
    log.start()
    return log


def _open(
    services: Services, encoder: RemoteEncoder, cluster: "Application | None"
) -> tuple["Searcher", Callable[[], bool]]:
    """Returns what searches, ready to answer, and what makes it go over to a new generation."""
    from reelseek.ranking.searcher import Searcher

    config = services.config
    assert config.index is not None
    if cluster is None:
        searcher = Searcher.open(
            config.index, encoder=encoder, refresh="manual", shards=config.shards
        )
        searcher.warm_up()
        return searcher, searcher.refresh
    from reelseek.serving.cluster.front import Front

    front = Front.connect(cluster, config, encoder=encoder)
    services.search = front.search
    return front.searcher, front.refresh


def _follow(services: Services, was_ready: Path, cluster: "Application | None") -> None:
    """Opens the index when it can be searched, and goes over to each new generation, which is
    prepared while searches go on.

    Args:
        was_ready: a file that is made when the first worker can answer.
    """
    encoder = RemoteEncoder(services.encoder, max_cache_bytes=int(services.config.cache_mb * 2**20))
    reason = ""
    refresh: Callable[[], bool]
    while not services.ready.is_set():
        try:
            encoder.connect(timeout_seconds=_ENCODER_SECONDS)
            searcher, refresh = _open(services, encoder, cluster)
            _freeze_long_lived_objects()
            services.set_searcher(searcher)
            was_ready.touch()
        except (ValueError, Unavailable) as error:
            if str(error) != reason:
                reason = str(error)
                logger.info("not ready", extra={"fields": {"reason": reason}})
            time.sleep(2 * _LOOK_EVERY_SECONDS)
    logger.info("ready", extra={"fields": {"generation": services.searcher.generation}})
    while True:
        telemetry.note_index(services.searcher.reader.manifest)
        if services.events is not None and services.recommendations is not None:
            services.recommendations.start()  # there will be users to recommend to
        if services.personal is not None:
            services.personal.start()
            services.personal.note_position()
        services.look_now.wait(_LOOK_EVERY_SECONDS)
        services.look_now.clear()
        try:
            if refresh():
                generation = services.searcher.generation
                logger.info("new generation", extra={"fields": {"generation": generation}})
        except Exception:
            logger.exception("the new generation cannot be read; the last one goes on answering")
            time.sleep(10 * _LOOK_EVERY_SECONDS)
