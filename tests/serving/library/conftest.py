"""A library over coloured videos, whose runs of the indexer are threads of this process."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import IndexConfig, ServeConfig
from reelseek.indexing import StopRequest
from reelseek.serving.library.library import Library
from tests.conftest import COLOURS
from tests.indexing.conftest import ColourIndex, colour_index, colour_settings

__all__ = ["colour_index", "colour_settings"]


class ThreadRun:
    """A run of the indexer over an index of the colour model.

    Attributes:
        hold: while set, videos wait to be decoded.
    """

    hold = threading.Event()

    def __init__(
        self, options: Sequence[str], *, on_change: Callable[[], None], index: ColourIndex
    ) -> None:
        self.config = compose(IndexConfig, options)
        self.progress: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.exit_code, self.reason = 0, ""
        self._index, self._on_change = index, on_change
        self._stop = StopRequest()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stop.signal_number = 15
        self._thread.join()

    def _run(self) -> None:
        config = self.config
        self._index.encoder.before_encoding = lambda _: self._wait()
        try:
            summary = self._index.update(
                *config.videos,
                keep_edited=config.keep_edits,
                settle_seconds=config.settle_seconds,
                publish_every_seconds=0.01,
                stop=self._stop,
            )
            self.summary = vars(summary)
        except ValueError as error:
            self.exit_code, self.reason = 2, str(error)
        threading.Thread(target=self._notify).start()

    def _notify(self) -> None:
        self._thread.join()
        self._on_change()

    def _wait(self) -> None:
        while ThreadRun.hold.is_set() and not self._stop:
            time.sleep(0.01)


@pytest.fixture
def videos(tmp_path: Path, write_video: Callable[..., Path]) -> Path:
    """A folder of `red.mp4`, `sub/green.mp4` and `blue.mp4`."""
    folder = tmp_path / "films"
    for name, colour in zip(("red", "sub/green", "blue"), COLOURS.values(), strict=True):
        write_video(f"{name}.mp4", [colour] * 10, folder=folder)
    return folder


@pytest.fixture
def start(colour_index: ColourIndex) -> Iterator[Callable[..., Library]]:
    """Starts a library over some folders."""
    libraries = []

    def start_library(*videos: Path, **options: Any) -> Library:
        config = compose(
            ServeConfig,
            [f"index={colour_index.folder}", *(f"videos={folder}" for folder in videos)],
        )
        for name, value in options.items():
            setattr(config, name, value)

        def index_run(options: Sequence[str], *, on_change: Callable[[], None]) -> ThreadRun:
            return ThreadRun(options, on_change=on_change, index=colour_index)

        libraries.append(Library(config, index_run=index_run, settle_seconds=0.1))
        return libraries[-1]

    yield start_library
    ThreadRun.hold.clear()
    for library in libraries:
        library.close()


def wait_until(condition: Callable[[], Any], *, seconds: float = 30.0) -> Any:
    """Returns the first true value of a condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
    return value
