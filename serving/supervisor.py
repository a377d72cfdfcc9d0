"""Starts the processes of the service, and replaces those that die."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.configs.schema import Engine, ServeConfig
from reelseek.serving.run_folder import run_folder
from reelseek.serving.services import Sockets
from reelseek.text.terminal import printable
from reelseek.vision.decoding.parent_death import die_with_parent

if TYPE_CHECKING:
    from reelseek.serving.cluster.deploying import Application

logger = logging.getLogger(__name__)

_BACKLOG = 1024
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.2, 30.0
_STEADY_SECONDS = 10.0  # a process that ran for so long is replaced at once when it dies
_TICK_SECONDS = 0.5


@dataclass
class Child:
    """A process that is kept running.

    Attributes:
        name: such as `worker 1`.
        target, arguments: what it runs.
        process: the one that runs now; None while it waits to be started.
        start_at: when to start it, on the clock of `time.monotonic`.
    """

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]
    process: Any = None
    start_at: float = 0.0
    _started_at: float = 0.0
    _pause_seconds: float = field(default=_FIRST_PAUSE_SECONDS)

    def start(self) -> None:
        self.process = get_context("spawn").Process(
            target=_run_child, args=(self.target, self.arguments), name=self.name
        )
        self.process.start()
        self._started_at = time.monotonic()
        logger.info("started", extra={"fields": {"process": self.name, "pid": self.process.pid}})

    def note_death(self) -> None:
        """Says so, and when to replace it: at once, unless it dies again and again."""
        died, self.process = self.process, None
        died.join()
        is_steady = time.monotonic() - self._started_at > _STEADY_SECONDS
        pause_seconds = 0.0 if is_steady else self._pause_seconds
        self._pause_seconds = (
            _FIRST_PAUSE_SECONDS if is_steady else min(2 * self._pause_seconds, _MAX_PAUSE_SECONDS)
        )
        self.start_at = time.monotonic() + pause_seconds
        reason = f"signal {-died.exitcode}" if died.exitcode < 0 else f"exit {died.exitcode}"
        fields = {"process": self.name, "pid": died.pid, "reason": reason}
        logger.error("died and is replaced", extra={"fields": fields})


def _run_child(target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """Runs in the child, which must not outlive this process."""
    parent = parent_process()
    assert parent is not None
    die_with_parent(parent.pid)
    target(*arguments)


class Supervisor:
    """Keeps the processes of a service running until SIGTERM or Ctrl-C.

    Args:
        helpers: of the workers; they are stopped after them.
        workers: that answer requests.
        drain_seconds: given to the workers to finish what they have in hand.
    """

    def __init__(self, helpers: list[Child], workers: list[Child], *, drain_seconds: float) -> None:
        self._helpers, self._workers = helpers, workers
        self._drain_seconds = drain_seconds
        self._is_stopping = False

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            self._keep_running([*self._helpers, *self._workers])
        finally:  # a failure of this process ends the others, too
            self._end(self._workers, self._drain_seconds + 2)
            self._end(self._helpers, 2.0)

    def _keep_running(self, children: list[Child]) -> None:
        while not self._is_stopping:
            for child in children:
                if child.process is None and time.monotonic() >= child.start_at:
                    child.start()
            running = {child.process.sentinel: child for child in children if child.process}
            for sentinel in connection.wait(list(running), timeout=_TICK_SECONDS):
                child = running[sentinel]
                if not self._is_stopping:
                    _forget_metrics(child.process.pid)
                    child.note_death()

    def _stop(self, number: int, _: Any) -> None:
        if self._is_stopping:
            os._exit(128 + number)
        self._is_stopping = True
        logger.info("stopping when the requests in hand are answered; again to stop at once")

    def _end(self, children: list[Child], seconds: float) -> None:
        running = [child.process for child in children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + seconds
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def listen(host: str, port: int) -> socket.socket:
    """A socket that workers share.

    Raises:
        ValueError: there is no such address, or another program listens there.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ValueError(
            f"host={host} port={port}: cannot be listened on ({error.strerror}); choose another"
        ) from error
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def serve(config: ServeConfig, *, url: str | None = None) -> None:
    """Runs the service until it is told to stop.

    Args:
        url: of the published index that `config.index` is a copy of; None for none.

    Raises:
        ValueError: what is to be served is not there, the settings are not safe, or nothing can
            listen at this address.
    """
    from reelseek.recommendation.events.opening import check_place, check_server
    from reelseek.recommendation.redis_server import is_redis
    from reelseek.serving.library.target import resolve_target
    from reelseek.serving.security import SecuritySettings, check_settings
    from reelseek.serving.telemetry import METRICS_FOLDER

    check_settings(SecuritySettings.from_config(config))
    target = resolve_target(config)
    config = replace(config, index=str(target.index), videos=list(target.videos))
    if config.events is not None:
        check_place(config.events, index=target.index)
    if config.personal.model is not None and is_redis(config.personal.model):
        check_server("personal.model", config.personal.model)
    listener = listen(config.host, config.port)
    with (
        _cluster(config, url or str(target.index)) as cluster,
        run_folder() as folder,
    ):
        metrics = folder / "metrics"
        metrics.mkdir()
        os.environ[METRICS_FOLDER] = str(metrics)
        helpers, workers = _children(config, listener, folder, cluster)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"index: {printable(str(target.index))}", file=sys.stderr)
        print(f"open http://{shown}:{port}/", file=sys.stderr, flush=True)
        Supervisor(helpers, workers, drain_seconds=config.drain_seconds).run()


@contextmanager
def _cluster(config: ServeConfig, index: str) -> Iterator["Application | None"]:
    """Runs what `engine=ray` runs on a cluster."""
    if config.engine is not Engine.ray:
        yield None
        return
    from reelseek.serving.cluster.deploying import application

    with application(config, index) as cluster:
        yield cluster


def _children(
    config: ServeConfig, listener: socket.socket, folder: Path, cluster: "Application | None"
) -> tuple[list[Child], list[Child]]:
    """The helpers and the workers."""
    is_changed = bool(config.videos or config.token or config.write_token)
    sockets = Sockets(
        encoder=folder / "encoder",
        media=folder / "media",
        library=folder / "library" if is_changed else None,
    )
    helpers = [
        Child("encoder", _encode, (config, str(sockets.encoder))),
        Child("media", _cut_media, (config, str(sockets.media))),
    ]
    if sockets.library is not None:
        helpers.append(Child("library", _keep_library, (config, str(sockets.library))))
    if config.learn:
        helpers.append(Child("learner", _learn, (config,)))
    num_workers = config.workers or max(1, (os.cpu_count() or 2) - 1)
    workers = [
        Child(f"worker {number}", _work, (config, listener, sockets, cluster))
        for number in range(1, num_workers + 1)
    ]
    return helpers, workers


# What the processes run is imported by them: the supervisor stays small.


def _encode(config: ServeConfig, socket: str) -> None:
    from reelseek.serving.encoder import main

    main(config, socket)


def _cut_media(config: ServeConfig, socket: str) -> None:
    from reelseek.serving.media.process import main

    main(config, socket)


def _keep_library(config: ServeConfig, socket: str) -> None:
    from reelseek.serving.library.process import main

    main(config, socket)


def _learn(config: ServeConfig) -> None:
    from reelseek.serving.learner import main

    main(config)


def _work(
    config: ServeConfig,
    listener: socket.socket,
    sockets: Sockets,
    cluster: "Application | None",
) -> None:
    from reelseek.serving.worker import main

    main(config, listener, sockets, cluster)


def _forget_metrics(pid: int) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    from reelseek.serving.telemetry import METRICS_FOLDER

    with suppress(OSError):
        if METRICS_FOLDER in os.environ:
            mark_process_dead(pid)
