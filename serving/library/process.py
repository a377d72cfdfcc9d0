"""The library process: answers `status`, `add`, `patch` and `delete` over a socket, and keeps the
index up to date with the watched folders."""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelseek.configs.schema import ServeConfig
from reelseek.serving import telemetry
from reelseek.serving.channel import Server
from reelseek.serving.library.errors import Busy, InvalidRequest, NotFound
from reelseek.serving.library.library import Library

logger = logging.getLogger(__name__)


def handlers(library: Library) -> dict[str, Callable[[Any], Any]]:
    """Returns what the process answers."""
    calls = (library.status, library.add, library.patch, library.delete)
    return {call.__name__: _guarded(call) for call in calls}


def main(config: ServeConfig, socket: str) -> None:
    """Runs the process until SIGTERM.

    Args:
        config: with the folder of the index, and the videos to index and watch.
        socket: its path.
    """
    telemetry.log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(0))
    library = Library(config)
    try:
        Server(Path(socket), handlers(library)).serve_forever()
    finally:
        library.close()


def _guarded(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Lets only the messages through that were written for the caller: others name paths."""

    def guarded(value: Any) -> Any:
        try:
            return call(value)
        except (InvalidRequest, NotFound, Busy):
            raise
        except ValueError as error:
            raise RuntimeError("the index cannot be written") from error

    return guarded
