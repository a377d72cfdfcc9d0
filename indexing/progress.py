"""A progress bar on stderr that shows rate and time left; in a log file, a line now and then."""

import sys
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm


def progress_bar(*, total: int, desc: str, disable: bool = False) -> "tqdm[Any]":
    """A bar that counts videos."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=desc,
        unit="video",
        file=_BestEffortStream(sys.stderr),
        disable=disable,
        dynamic_ncols=is_terminal,
        mininterval=0.2 if is_terminal else 30.0,
    )


class _BestEffortStream:
    """Writes where that is possible: a closed terminal or pipe does not end the work it shows."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
