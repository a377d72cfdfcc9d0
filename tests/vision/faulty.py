"""Readers that hang, crash or swell, for worker processes, which import them by name.

A file's name says what its readers do: `sleep.mp4` before the first frame, `sleep-late.mp4` from
frame 40 on, `good.mp4` never. Each notes the process that opens it in a file beside it. A frame's
pixels are all of one level, its index.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch

from reelseek.vision import VideoDecodeError, VideoReader
from reelseek.vision.decoding.orientation import square
from reelseek.vision.decoding.reader import Resize

NUM_FRAMES = 100
FPS = 10
LATE = 40  # the first frame that a late fault spoils
_MEGABYTE = 1 << 20

_kept: list[bytes] = []


def sleep() -> None:
    while True:
        time.sleep(1)


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep()


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def grow() -> None:
    while True:
        _kept.append(b"x" * (50 * _MEGABYTE))
        time.sleep(0.03)


def burst() -> None:
    _kept.append(b"x" * (64 << 30))


def error() -> None:
    raise ZeroDivisionError("of the decoder")


def refuse() -> None:
    raise VideoDecodeError("damaged beyond repair")


def leak() -> None:
    _kept.append(b"x" * (100 * _MEGABYTE))


def start_slowly() -> None:
    time.sleep(0.3)


FAULTS = {
    function.__name__: function
    for function in (sleep, deaf, segfault, leave, grow, burst, error, refuse, leak, start_slowly)
}


class FakeReader:
    """A hundred frames at ten a second, read by a decoder that may be at fault."""

    num_lost_frames = 0

    def __init__(self, path: Path, decoder: str, *, is_faulty: bool) -> None:
        self.decoder = decoder
        name, _, when = path.stem.partition("-")
        self._name = name if is_faulty else "good"
        self._from = LATE if when == "late" else 0
        self.knows_times = self._name != "repeat"
        self.times_seconds = np.arange(NUM_FRAMES) / FPS
        self.duration_seconds = NUM_FRAMES / FPS
        self.is_key_frame = np.ones(NUM_FRAMES, dtype=bool)
        note(path, decoder, os.getpid())

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        has_happened = False
        for index in frame_indices:
            if index >= self._from and not has_happened and self._name in FAULTS:
                FAULTS[self._name]()
                has_happened = True
            if self._name == "slow":
                time.sleep(0.03)
            shown = min(index, LATE - 1) if self._name == "repeat" else index
            yield index, resize(torch.full((3, 16, 16), shown, dtype=torch.uint8), 1.0)


def note(path: Path, decoder: str, pid: int) -> None:
    """Writes which process opens a file, and its memory then."""
    memory = psutil.Process(pid).memory_info().rss
    making = path.with_suffix(".tmp")
    making.write_text(f"{pid} {memory}")
    making.rename(noted(path, decoder))


def noted(path: Path, decoder: str) -> Path:
    return path.with_suffix(f".{decoder}")


def all_good(path: Path, decoders: Sequence[str]) -> list[Callable[[], VideoReader]]:
    """`openers` of decoders that do as they should."""
    return _openers(path, decoders, faulty=())


def first_faulty(path: Path, decoders: Sequence[str]) -> list[Callable[[], VideoReader]]:
    """`openers` of which decord is at fault, and PyAV is not."""
    return _openers(path, decoders, faulty=("decord",))


def all_faulty(path: Path, decoders: Sequence[str]) -> list[Callable[[], VideoReader]]:
    """`openers` that are all at fault."""
    return _openers(path, decoders, faulty=decoders)


def _openers(
    path: Path, decoders: Sequence[str], *, faulty: Sequence[str]
) -> list[Callable[[], VideoReader]]:
    def opener(decoder: str) -> Callable[[], VideoReader]:
        return lambda: FakeReader(path, decoder, is_faulty=decoder in faulty)

    return [opener(decoder) for decoder in decoders]
