"""A proxy on loopback before an HTTP server: some answers fail, are cut in the middle or stall."""

import http.client
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

FAULTS = ("fail", "cut", "slow")


class FaultyProxy:
    """Hands requests on, and answers a fraction of them badly; a context manager.

    Args:
        backend: address and port of the server.
        fraction: of the requests that are answered badly.
        slow_seconds: how long a slow answer stalls before it is dropped.
        seed: of which requests.

    Attributes:
        requests: how many came, by method.
        faults: how many were answered badly, by kind.
        before_answer: called with method and path; returns a kind of fault, or an empty string.
    """

    def __init__(
        self,
        backend: tuple[str, int],
        *,
        fraction: float = 0.0,
        slow_seconds: float = 2.0,
        seed: int = 0,
    ) -> None:
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._backend, self._slow_seconds = backend, slow_seconds
        self._random, self._drawing = random.Random(seed), threading.Lock()
        self._fraction = fraction
        self.before_answer = self._drawn
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                proxy._answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyProxy":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _drawn(self, method: str, path: str) -> str:
        with self._drawing:
            is_bad = self._random.random() < self._fraction
            return self._random.choice(FAULTS) if is_bad else ""

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        fault = self.before_answer(handler.command, handler.path)
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._drawing:
            self.requests[handler.command] += 1
            self.faults[fault] += bool(fault)
        if fault == "fail":
            handler.send_response(500)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if fault == "slow":
            time.sleep(self._slow_seconds)
            handler.close_connection = True
            return
        connection = http.client.HTTPConnection(*self._backend, timeout=30)
        connection.request(handler.command, handler.path, body, dict(handler.headers))
        answer = connection.getresponse()
        content = answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date"):
                handler.send_header(name, value)
        # The answer to HEAD tells the length of a body that it has not.
        length = answer.getheader("Content-Length") or str(len(content))
        handler.send_header("Content-Length", length)
        handler.end_headers()
        connection.close()
        if fault == "cut":
            content = content[: len(content) // 2]
            handler.close_connection = True
        if handler.command != "HEAD":
            handler.wfile.write(content)
