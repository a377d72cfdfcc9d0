"""The progress of a run on stderr: a bar with rate and time left, in a log file a line now and
then, or JSON lines for programs."""

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm

from reelseek.text import strict_json

_FIRST_SECONDS, _MAX_SECONDS = 10.0, 600.0
_JSON_SECONDS = 0.5  # between two lines of JSON


class VideoProgress:
    """Shows how many of a run's videos are done; a context manager.

    Args:
        total: videos.
        show: whether to draw the bar.
        may_grow: whether more videos may come while it runs.
    """

    def __init__(self, total: int, *, show: bool = True, may_grow: bool = False) -> None:
        self._bar = progress_bar(
            total=total, desc="indexing", disable=not (show and (total or may_grow))
        )
        self._values: dict[str, Any] = {}  # beside the bar

    def __enter__(self) -> "VideoProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def count(self, video: str, *, failed: int, size_bytes: int, was_encoded: bool) -> None:
        """Counts a video that outlives this process.

        Args:
            video: its key.
            failed: videos of the run that have failed so far.
            size_bytes: of its file.
            was_encoded: whether it took the time that an encoded video takes.
        """
        self._values["failed"] = failed
        self._bar.set_postfix(self._values, refresh=False)
        self._bar.update()

    def grow(self, num_videos: int, size_bytes: int) -> None:
        """Adds videos that were found while others were worked on."""
        self._bar.total += num_videos

    def show_use(self, fraction: float) -> None:
        """Shows how busy the cores of a cluster are."""
        self._values["busy"] = f"{fraction:.0%}"


class JsonProgress(VideoProgress):
    """Writes lines with `done`, `total`, `failed`, `seconds_left` and `video`, the last one done.

    A cluster adds `busy`, the fraction of its cores that work.

    `seconds_left` follows from the bytes of the videos that were encoded so far, and is null before
    the first of them: videos that need no encoding say nothing about the others.

    Args:
        total_bytes: of the files of all videos.
    """

    def __init__(
        self, total: int, *, total_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(total, show=False)
        self._stream = _LineStream(sys.stderr)
        self._clock = clock
        self._started = clock()
        self._said_at = -math.inf
        self._state: dict[str, Any] = {"done": 0, "total": total, "failed": 0, "video": ""}
        self._bytes_left = total_bytes
        self._bytes_encoded = 0

    def __enter__(self) -> "JsonProgress":
        self._say()
        return self

    def __exit__(self, *error: object) -> None:
        self._say()

    def count(self, video: str, *, failed: int, size_bytes: int, was_encoded: bool) -> None:
        self._state |= {"done": self._state["done"] + 1, "failed": failed, "video": video}
        self._bytes_left -= size_bytes
        self._bytes_encoded += size_bytes if was_encoded else 0
        if self._clock() - self._said_at >= _JSON_SECONDS:
            self._say()

    def grow(self, num_videos: int, size_bytes: int) -> None:
        self._state["total"] += num_videos
        self._bytes_left += size_bytes

    def show_use(self, fraction: float) -> None:
        self._state["busy"] = round(fraction, 2)

    def _say(self) -> None:
        self._said_at = self._clock()
        line = self._state | {"seconds_left": self._seconds_left()}
        self._stream.write(strict_json.dumps(line) + "\n")
        self._stream.flush()

    def _seconds_left(self) -> float | None:
        if self._state["done"] >= self._state["total"]:
            return 0.0
        if not self._bytes_encoded:
            return None
        elapsed = self._clock() - self._started
        return round(max(0, self._bytes_left) * elapsed / self._bytes_encoded, 1)


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
