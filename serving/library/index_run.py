"""A run of the indexer in a process of its own, and how far it is."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

_MAX_LINE_LETTERS = 2000
# A run that is stopped finishes what it has in hand; then it is told to stop at once.
_GRACE_SECONDS = 2.0
_KILL_SECONDS = 10.0


class IndexRun:
    """One run; starts at once.

    Args:
        options: of `python -m indexing`, each `name=value`.
        on_change: called in another thread when there is progress, and when the run has ended.
        command: what runs the indexer; options are appended.
    """

    def __init__(
        self,
        options: Sequence[str],
        *,
        on_change: Callable[[], None],
        command: Sequence[str] | None = None,
    ) -> None:
        if command is None:
            command = (sys.executable, "-m", "reelseek.serving.library.child", str(os.getpid()))
        self._on_change = on_change
        self._process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the service
        )
        self._ended = threading.Event()
        self.progress: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self._said: deque[str] = deque(maxlen=20)
        self._readers = [
            threading.Thread(target=self._read_progress, daemon=True),
            threading.Thread(target=self._read_summary, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._wait, daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    @property
    def exit_code(self) -> int:
        """Once it has ended; negative for a signal that killed it."""
        return self._process.wait()

    @property
    def reason(self) -> str:
        """Why it failed, as it said itself."""
        errors = [line for line in self._said if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        if self.exit_code < 0:
            with suppress(ValueError):
                return f"the indexer was killed by {signal.Signals(-self.exit_code).name}"
        return self._said[-1] if self._said else f"the indexer ended with {self.exit_code}"

    def stop(self, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Ends the run; what is done is kept, and the same options go on."""
        for wait_seconds in (grace_seconds, _KILL_SECONDS):
            self._process.terminate()
            if self._ended.wait(wait_seconds):
                return
        self._process.kill()
        self._ended.wait()

    def _read_progress(self) -> None:
        assert self._process.stderr is not None
        for data in self._process.stderr:
            line = data[:_MAX_LINE_LETTERS].decode(errors="replace").strip()
            if line.startswith("{"):
                with suppress(ValueError):
                    self.progress = json.loads(line)
                    self._on_change()
            elif line:
                self._said.append(line)

    def _read_summary(self) -> None:
        assert self._process.stdout is not None
        for data in self._process.stdout:
            with suppress(ValueError):
                value = json.loads(data)
                self.summary = value if isinstance(value, dict) else {}

    def _wait(self) -> None:
        self._process.wait()
        for reader in self._readers:
            reader.join(_KILL_SECONDS)  # a worker that hangs may hold the pipes
        self._ended.set()
        self._on_change()
