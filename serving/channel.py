"""Calls between the processes of the service, through Unix sockets in a folder of its own.

Values are what MessagePack knows: dictionaries, lists, bytes, text and numbers.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Client as connect
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.02
_BACKLOG = 128


class RemoteError(Exception):
    """The other process refused a call.

    Attributes:
        code: such as `ValueError`, the class of what it raised.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unavailable(Exception):
    """The other process did not answer in time, or died before it answered."""


class Died(Unavailable):
    """The other process died before it answered; its successor can be asked the same."""


class Server:
    """Answers calls, each connection in a thread of its own.

    Args:
        path: of the socket; made.
        handlers: by name; each takes a value and returns one. A ValueError of theirs reaches the
            caller with its message, any other error without.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Callable[[Any], Any]]) -> None:
        self._handlers = dict(handlers)
        path.unlink(missing_ok=True)
        self._listener = Listener(str(path), family="AF_UNIX", backlog=_BACKLOG)

    def serve_forever(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # a caller that went away at once
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection, suppress(EOFError, OSError):
            while True:
                name, value = msgspec.msgpack.decode(connection.recv_bytes())
                connection.send_bytes(msgspec.msgpack.encode(self._answer(name, value)))

    def _answer(self, name: str, value: Any) -> tuple[bool, Any]:
        try:
            return True, self._handlers[name](value)
        except ValueError as error:
            return False, [type(error).__name__, str(error)]
        except Exception as error:
            logger.exception("%s failed", name)
            return False, [type(error).__name__, "it failed; the log says why"]


class Client:
    """Calls a `Server`. Threads may share it; each call has a connection to itself.

    Args:
        path: of the server's socket, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: LifoQueue[Connection] = LifoQueue()

    def call(self, name: str, value: Any = None, *, timeout_seconds: float = 30.0) -> Any:
        """Returns the handler's answer.

        Raises:
            RemoteError: the handler raised an error.
            Unavailable: there was no answer in time; `Died` where that process died.
        """
        deadline = time.monotonic() + timeout_seconds
        request = msgspec.msgpack.encode((name, value))
        connection = self._send(request, deadline)
        try:
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                raise Unavailable(f"{name}: no answer within {timeout_seconds:g} seconds")
            succeeded, answer = msgspec.msgpack.decode(connection.recv_bytes())
        except (EOFError, OSError) as error:
            connection.close()
            raise Died(f"{name}: the process that was to answer has died") from error
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)
        if not succeeded:
            raise RemoteError(*answer)
        return answer

    def _send(self, request: bytes, deadline: float) -> Connection:
        """Sends through an idle connection, or a new one; waits for a server that starts."""
        while True:
            connection: Connection | None = None
            try:
                try:
                    connection = self._idle.get_nowait()
                    if connection.poll():  # its server has died since
                        raise EOFError
                except Empty:
                    connection = connect(str(self._path), family="AF_UNIX")
                connection.send_bytes(request)
                return connection
            except (EOFError, OSError) as error:
                if connection is not None:
                    connection.close()
                if time.monotonic() + _RETRY_SECONDS > deadline:
                    raise Unavailable("the process that was to answer is not there") from error
                if connection is None:
                    time.sleep(_RETRY_SECONDS)
