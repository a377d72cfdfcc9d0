import numpy as np
import pytest
import torch

from tests.conftest import COLOURS
from vision import (
    IntervalSampler,
    Preprocessing,
    UniformSampler,
    VideoDecodeError,
    iter_frames,
    open_video,
)

RED, GREEN, BLUE = COLOURS.values()
PREPROCESSING = Preprocessing(size=(24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)


def read(path, sampler):
    return list(iter_frames(path, sampler=sampler, preprocessing=PREPROCESSING))


@pytest.mark.parametrize(
    ("num_frames", "chunks"),
    [(1, [1]), (31, [31]), (32, [32]), (33, [32, 1]), (64, [32, 32]), (70, [32, 32, 6])],
)
def test_chunks_hold_32_frames_and_only_the_last_says_so(write_video, num_frames, chunks):
    path = write_video("a.mp4", [RED] * num_frames)
    parts = read(path, UniformSampler(num_frames))
    assert [len(part.pixels) for part in parts] == chunks
    assert [part.is_last for part in parts] == [False] * (len(chunks) - 1) + [True]


def test_frames_come_in_order_with_their_own_times(write_video):
    colours = [COLOURS[name] for name in ("red", "green", "blue") for _ in range(20)]
    times = np.concatenate([np.arange(20) / 10, 5 + np.arange(20) / 20, 8 + np.arange(20) / 10])
    parts = read(write_video("vfr.mp4", colours, times_seconds=times), UniformSampler(1000))
    np.testing.assert_allclose(
        np.concatenate([part.times_seconds for part in parts]), times, atol=0.002
    )
    pixels = torch.cat([part.pixels for part in parts])
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (60, 3, 24, 24)
    np.testing.assert_allclose(pixels.float().mean(dim=(2, 3)).numpy(), colours, atol=6)


def test_each_part_knows_the_duration_of_the_whole_video(write_video):
    path = write_video("a.mp4", [GREEN] * 40)
    parts = read(path, UniformSampler(40))
    assert [part.duration_seconds for part in parts] == [open_video(path).duration_seconds] * 2
    assert parts[0].duration_seconds == pytest.approx(4.0, abs=0.11)


def test_sampler_decides_which_frames(write_video):
    path = write_video("a.mp4", [RED] * 10 + [BLUE] * 10)
    (part,) = read(path, IntervalSampler(every_seconds=1.0))
    np.testing.assert_allclose(part.times_seconds, [0.5, 1.5], atol=0.002)
    np.testing.assert_allclose(part.pixels.float().mean(dim=(2, 3)), [RED, BLUE], atol=6)


def test_no_frame_is_decoded_before_it_is_asked_for(write_video, monkeypatch):
    path = write_video("a.mp4", [RED] * 70)
    reader = open_video(path)
    asked = []

    class Watched:
        times_seconds, duration_seconds = reader.times_seconds, reader.duration_seconds
        num_lost_frames = 0

        def read(self, frame_indices):
            asked.append(len(frame_indices))
            return reader.read(frame_indices)

    monkeypatch.setattr("vision.frames.reader_openers", lambda path: [Watched])
    parts = iter_frames(path, sampler=UniformSampler(70), preprocessing=PREPROCESSING)
    next(parts)
    assert asked == [32]


def test_unreadable_file_raises(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(VideoDecodeError):
        read(tmp_path / "a.mp4", UniformSampler(2))
