"""Frames of several calls at once -> full batches of an encoder -> the embeddings of each call.

A batch has one shape, so that a video's last frames alone would cost as much as a full batch: with
15 frames of a clip and batches of 4, a sixteenth of the work. As a frame's embedding does not
depend on those beside it, the frames of other videos fill the batch instead.
"""

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch

from reelseek.indexing.pipeline import Encoder


@dataclass(eq=False)
class _Call:
    """One call's frames, and its embeddings as far as they are there."""

    pixels: np.ndarray  # (T, 3, H, W) uint8
    embeddings: np.ndarray  # (T, D) float32
    num_left: int
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class FrameBatches:
    """Encodes the frames of many threads. Whenever one of the encoder's streams is free it takes
    what waits, up to a batch, the oldest first: nobody waits for a batch to fill.

    Args:
        encoder: encodes `num_parallel` batches at once.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._waiting: deque[tuple[_Call, int]] = deque()  # frames, by their call and place
        self._changed = threading.Condition()
        for _ in range(encoder.num_parallel):
            threading.Thread(target=self._run, name="batches", daemon=True).start()

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encodes frames, `(T, 3, H, W)` uint8 to `(T, D)` float32; threads may call at once.

        Raises:
            Exception: what the encoder raised for a batch with one of the frames.
        """
        num_frames = len(pixels)
        embeddings = np.empty((num_frames, self._encoder.embedding_dim), np.float32)
        if not num_frames:
            return embeddings
        call = _Call(pixels, embeddings, num_frames)
        with self._changed:
            self._waiting.extend((call, place) for place in range(num_frames))
            self._changed.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error
        return embeddings

    def _run(self) -> None:
        while True:
            frames = self._take()
            try:
                # Ray's arrays lie in memory that others read, too; this copies them.
                batch = np.stack([call.pixels[place] for call, place in frames])
                rows = self._encoder.submit(torch.from_numpy(batch)).result().numpy()
            except Exception as error:
                self._give_up(frames, error)
                continue
            self._deliver(frames, rows)

    def _take(self) -> list[tuple[_Call, int]]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            size = min(len(self._waiting), self._encoder.batch_frames)
            return [self._waiting.popleft() for _ in range(size)]

    def _deliver(self, frames: list[tuple[_Call, int]], rows: np.ndarray) -> None:
        for (call, place), row in zip(frames, rows, strict=True):
            call.embeddings[place] = row
        with self._changed:
            for call, _ in frames:
                call.num_left -= 1
                if not call.num_left:
                    call.done.set()

    def _give_up(self, frames: list[tuple[_Call, int]], error: Exception) -> None:
        """Ends the calls that had a frame in a failed batch; their other frames are not encoded."""
        failed = {id(call): call for call, _ in frames}
        with self._changed:
            self._waiting = deque(each for each in self._waiting if id(each[0]) not in failed)
            for call in failed.values():
                call.error = error
                call.done.set()
