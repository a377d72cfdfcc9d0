"""Worker processes that load samples: what they return, and what becomes of those that die."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from reelseek.training.shards.pool import SamplePool
from reelseek.training.shards.table import scan
from reelseek.training.shards.worker import (
    BrokenSample,
    LoadedSample,
    SampleRequest,
    SampleSettings,
    load_sample,
)
from reelseek.vision import Preprocessing, UniformSampler, WorkerLimits
from tests.training.shards.generated import COLOURS, picture, video, write_shard

CRASHES, HANGS = 5, 6  # numbers of frames


@dataclass(frozen=True)
class FaultySampler(UniformSampler):
    """Kills its process for videos of five frames, and hangs for those of six."""

    def __call__(self, reader):
        if len(reader.times_seconds) == CRASHES:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(reader.times_seconds) == HANGS:
            time.sleep(600)
        return super().__call__(reader)


SETTINGS = SampleSettings(
    FaultySampler(2), Preprocessing((16, 16), mean=(0.5,) * 3, std=(0.5,) * 3), ("pyav",)
)
RED, BLUE = COLOURS["red"], COLOURS["blue"]


@pytest.fixture
def shard(tmp_path):
    files = [
        ("0.png", picture(RED)),
        ("0.txt", "red\none more"),
        ("1.mp4", video(tmp_path, BLUE)),
        ("1.txt", "blue"),
        ("2.jpg", b"no picture"),
        ("2.txt", "broken"),
        ("3.png", picture(RED)),
        ("3.json", "{"),
        ("4.png", picture(RED)),
        ("4.txt", " \n"),
    ]
    return write_shard(tmp_path / "0.tar", files)


def receive_all(pool, count, *, within_seconds=60.0):
    received = {}
    end = time.monotonic() + within_seconds
    while len(received) < count and time.monotonic() < end:
        received |= dict(pool.receive())
    assert len(received) == count
    return received


def test_pool_returns_frames_and_captions_and_reasons(shard):
    table = scan(shard)
    with SamplePool[int](SETTINGS, num_workers=1) as pool:
        for index in range(len(table)):
            pool.submit(index, SampleRequest(table.sample(index), seed=0))
        samples = receive_all(pool, len(table))
    assert isinstance(samples[0], LoadedSample)
    assert samples[0].caption in ("red", "one more")
    assert torch.equal(samples[0].frames, torch.tensor(RED)[:, None, None].expand(1, 3, 16, 16))
    assert samples[1].frames.shape == (2, 3, 16, 16)
    mean = samples[1].frames.float().mean(dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.tensor(BLUE).float(), atol=8, rtol=0)
    reasons = [samples[index].reason for index in (2, 3, 4)]
    assert "not a readable image" in reasons[0]
    assert "is not JSON" in reasons[1]
    assert "has no caption" in reasons[2]


def test_captions_are_all_chosen_in_time(shard, tmp_path):
    location = scan(shard).sample(0)
    captions = [
        load_sample(SampleRequest(location, seed), SETTINGS, tmp_path).caption for seed in range(20)
    ]
    assert set(captions) == {"red", "one more"}


def test_sample_that_kills_or_holds_its_worker_is_broken_and_others_are_not(tmp_path):
    lengths = [2, CRASHES, 2, HANGS, 2, 2]
    files = []
    for index, length in enumerate(lengths):
        files += [
            (f"{index}.mp4", video(tmp_path, RED, num_frames=length)),
            (f"{index}.txt", "red"),
        ]
    table = scan(write_shard(tmp_path / "0.tar", files))
    limits = WorkerLimits(timeout_seconds=2.0, max_videos_per_worker=2)
    with SamplePool[int](SETTINGS, num_workers=1, limits=limits) as pool:
        for index in range(len(lengths)):
            pool.submit(index, SampleRequest(table.sample(index), seed=0))
        samples = receive_all(pool, len(lengths))
        scratch = Path(pool._scratch.name)
    broken = {k: s.reason for k, s in samples.items() if isinstance(s, BrokenSample)}
    assert broken == {
        1: "its decoder crashed (SIGKILL)",
        3: "it gave no frame for 2 seconds",
    }
    assert not scratch.exists()


def test_shard_that_shrinks_later_breaks_its_samples(shard, tmp_path):
    table = scan(shard)
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(EOFError, match="the shard ends within"):
        load_sample(SampleRequest(table.sample(1), 0), SETTINGS, tmp_path)
    shard.unlink()
    with SamplePool[int](SETTINGS, num_workers=1) as pool:
        pool.submit(0, SampleRequest(table.sample(0), seed=0))
        assert "No such file" in receive_all(pool, 1)[0].reason
