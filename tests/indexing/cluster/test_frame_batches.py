"""Frames of several calls share batches, and each call gets its own embeddings back."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from reelseek.indexing.cluster.frame_batches import FrameBatches

BATCH = 4


class GatedEncoder:
    """Encodes a frame as its first two values; batches wait while the gate is shut."""

    embedding_dim, batch_frames, num_parallel = 2, BATCH, 2

    def __init__(self):
        self.gate = threading.Event()
        self.sizes = []

    def submit(self, pixels):
        self.gate.wait(10)
        self.sizes.append(len(pixels))
        encoded = Future()
        if (pixels == 255).any():
            encoded.set_exception(RuntimeError("a frame that no encoder can"))
        else:
            encoded.set_result(pixels.flatten(1)[:, :2].float())
        return encoded


def frames(call, num_frames):
    pixels = np.zeros((num_frames, 3, 1, 1), np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 1, 0, 0] = call, np.arange(num_frames)
    return pixels


def encode_at_once(batches, encoder, calls):
    """Sends all calls, and lets the encoder begin when all wait for it."""
    with ThreadPoolExecutor(len(calls)) as threads:
        futures = [threads.submit(batches.encode, each) for each in calls]
        num_frames = sum(map(len, calls))
        while len(batches._waiting) + encoder.num_parallel * BATCH < num_frames:
            pass
        encoder.gate.set()
        return futures


def test_calls_share_batches_and_get_their_own_embeddings():
    encoder = GatedEncoder()
    calls = [frames(number, 5 + number) for number in range(8)]

    futures = encode_at_once(FrameBatches(encoder), encoder, calls)

    for call, future in zip(calls, futures, strict=True):
        np.testing.assert_array_equal(future.result(), call[:, :2, 0, 0].astype(np.float32))
    num_frames = sum(map(len, calls))
    assert sum(encoder.sizes) == num_frames
    # Each call alone would have left a batch that is not full.
    assert len(encoder.sizes) <= -(-num_frames // BATCH) + encoder.num_parallel


def test_nobody_waits_for_a_batch_to_fill():
    encoder = GatedEncoder()
    encoder.gate.set()
    batches = FrameBatches(encoder)
    assert batches.encode(frames(3, 1)).tolist() == [[3, 0]]
    assert batches.encode(frames(3, 0)).shape == (0, 2)
    assert encoder.sizes == [1]


def test_an_error_is_that_of_the_calls_in_its_batch_alone():
    encoder = GatedEncoder()
    batches = FrameBatches(encoder)
    broken = frames(255, 9)
    with pytest.raises(RuntimeError, match="no encoder can"):
        encoder.gate.set()
        batches.encode(broken)
    assert batches.encode(frames(1, 6))[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert not batches._waiting


def test_memory_that_the_caller_may_not_write_is_left_alone():
    encoder = GatedEncoder()
    encoder.gate.set()
    pixels = frames(2, 3)
    pixels.flags.writeable = False
    assert torch.from_numpy(FrameBatches(encoder).encode(pixels)).shape == (3, 2)
