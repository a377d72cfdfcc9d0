"""A progress bar on stderr with rate and time left; in a log file, a line now and then."""

import math
import sys
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

_FIRST_SECONDS, _MAX_SECONDS = 10.0, 600.0


def progress_bar(
    *, total: int, desc: str, unit: str = "video", initial: int = 0, disable: bool = False
) -> "tqdm[Any]":
    """A bar that counts videos, or other units.

    Where stderr is no terminal, it writes a line after 10 s, and then after ever longer times, so
    that a log of days stays short.
    """
    is_terminal = sys.stderr.isatty()
    make = tqdm if is_terminal else _LogBar
    return make(
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        file=_BestEffortStream(sys.stderr) if is_terminal else _LineStream(sys.stderr),
        disable=disable,
        dynamic_ncols=is_terminal,
        **({"mininterval": 0.2} if is_terminal else _LOG_OPTIONS),
    )


# tqdm's own thread would write every ten seconds, and its estimate of how many updates may pass
# unseen would make a slow stretch silent.
_LOG_OPTIONS = {"mininterval": _FIRST_SECONDS, "maxinterval": math.inf, "miniters": 1}


class _LogBar(tqdm):
    """A bar whose lines come after 10, 20, 40, ... seconds."""

    mininterval: float

    def display(self, *arguments: Any, **options: Any) -> Any:
        shown = super().display(*arguments, **options)
        if self.n > self.initial:
            self.mininterval = min(_MAX_SECONDS, 2 * self.mininterval)
        return shown


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


class _LineStream(_BestEffortStream):
    """Writes lines, where a bar would go back to the start of its own."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            super().write(f"{line}\n")
