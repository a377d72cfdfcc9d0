from itertools import pairwise

import numpy as np
import pytest
import torch

import reelseek.vision.decoding.frames
from reelseek.vision import (
    FrameSettings,
    IntervalSampler,
    Preprocessing,
    UncroppedFrame,
    UniformSampler,
    VideoDecodeError,
    iter_frames,
    open_video,
)
from reelseek.vision.sampling import Samples
from tests.conftest import COLOURS
from tests.vision.conftest import FakeReader

RED, GREEN, BLUE = COLOURS.values()
PREPROCESSING = Preprocessing(size=(24, 24), mean=(0.0,) * 3, std=(1.0,) * 3)
ALL = UniformSampler(1000)


def fail(reason):
    raise VideoDecodeError(reason)


def read(path, sampler=ALL, *, dedup_threshold=0.0, **options):
    settings = FrameSettings(sampler, PREPROCESSING, dedup_threshold=dedup_threshold)
    return list(iter_frames(path, settings, **options))


def read_with(*readers, **options):
    """Parts of a video that can be read in these ways, a string being why one cannot be."""
    ways = [
        (lambda r=reader: fail(r)) if isinstance(reader, str) else (lambda r=reader: r)
        for reader in readers
    ]
    return read("fake.mp4", openers=lambda path, decoders: ways, **options)


def times_of(parts):
    return np.concatenate([part.times_seconds for part in parts]).round(3).tolist()


def levels_of(parts):
    """The level of each frame that is to be encoded."""
    return torch.cat([part.pixels for part in parts])[:, 0, 0, 0].tolist()


def rows_of(parts):
    return np.concatenate([part.rows for part in parts]).tolist()


# What comes of a video.


@pytest.mark.parametrize(
    ("num_frames", "chunks"),
    [(1, [1]), (31, [31]), (32, [32, 0]), (33, [32, 1]), (64, [32, 32, 0]), (70, [32, 32, 6])],
)
def test_chunks_hold_32_frames_and_only_the_last_has_the_end(write_video, num_frames, chunks):
    parts = read(write_video("a.mp4", [RED] * num_frames))
    assert [len(part.pixels) for part in parts] == chunks
    assert [part.end is None for part in parts] == [True] * (len(chunks) - 1) + [False]
    assert rows_of(parts) == list(range(num_frames))


def test_slow_decoder_passes_on_what_it_has(monkeypatch):
    monkeypatch.setattr(reelseek.vision.decoding.frames, "_CHUNK_SECONDS", -1.0)
    parts = read_with(FakeReader(4))
    assert [len(part.pixels) for part in parts] == [1, 1, 1, 1, 0]


def test_frames_come_in_order_with_their_own_times(write_video):
    colours = [COLOURS[name] for name in ("red", "green", "blue") for _ in range(20)]
    times = np.concatenate([np.arange(20) / 10, 5 + np.arange(20) / 20, 8 + np.arange(20) / 10])
    parts = read(write_video("vfr.mp4", colours, times_seconds=times))
    np.testing.assert_allclose(times_of(parts), times, atol=0.002)
    pixels = torch.cat([part.pixels for part in parts])
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (60, 3, 24, 24)
    np.testing.assert_allclose(pixels.float().mean(dim=(2, 3)).numpy(), colours, atol=6)


def test_end_knows_the_whole_video(write_video):
    path = write_video("a.mp4", [GREEN] * 40)
    end = read(path, UniformSampler(3))[-1].end
    assert end.duration_seconds == open_video(path).duration_seconds
    assert end.duration_seconds == pytest.approx(4.0, abs=0.11)
    assert (end.decoder, end.reason, end.shot_spans) == ("pyav", "", None)


def test_sampler_decides_which_frames(write_video):
    path = write_video("a.mp4", [RED] * 10 + [BLUE] * 10)
    (part,) = read(path, IntervalSampler(every_seconds=1.0))
    np.testing.assert_allclose(part.times_seconds, [0.5, 1.5], atol=0.002)
    np.testing.assert_allclose(part.pixels.float().mean(dim=(2, 3)), [RED, BLUE], atol=6)


def test_shots_that_the_sampler_finds_come_with_the_end():
    spans = np.array([[0.0, 0.4], [0.4, 1.0]])
    (part,) = read_with(FakeReader(), sampler=lambda video: Samples(np.array([2, 7]), spans))
    assert part.times_seconds.tolist() == [0.2, 0.7]
    np.testing.assert_array_equal(part.end.shot_spans, spans)


def test_no_frame_is_decoded_before_it_is_asked_for():
    reader = FakeReader(70)
    settings = FrameSettings(ALL, PREPROCESSING)
    parts = iter_frames("fake.mp4", settings, openers=lambda path, decoders: [lambda: reader])
    assert reader.num_decoded == 0
    next(parts)
    assert reader.num_decoded == 32


def test_unreadable_file_raises(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 100)
    with pytest.raises(VideoDecodeError):
        read(tmp_path / "a.mp4", UniformSampler(2))


# What is missing.


@pytest.mark.parametrize("missing", [[0], [5], [9], [4, 5, 6], [0, 9]], ids=str)
def test_next_way_takes_over_where_a_frame_is_missing(missing):
    parts = read_with(FakeReader(missing=missing), FakeReader(decoder="second"))
    assert times_of(parts) == [i / 10 for i in range(10)]
    assert levels_of(parts) == list(range(10))
    assert (parts[-1].end.decoder, parts[-1].end.reason) == ("second", "")


def test_next_way_goes_on_from_where_the_last_one_has_come_to():
    second = FakeReader(levels=[100 + i for i in range(40)], decoder="second")
    parts = read_with(FakeReader(40, missing=[35]), second)
    assert levels_of(parts) == [*range(35), 135, 136, 137, 138, 139]
    assert second.num_decoded == 5
    assert rows_of(parts) == list(range(40))


@pytest.mark.parametrize("shift_seconds", [1e-7, -1e-7, 0.0004, -0.0004])
def test_rounding_makes_no_frame_come_twice(shift_seconds):
    """Two decoders may give the same frame's time with a small difference."""
    second = FakeReader(decoder="second", shift_seconds=shift_seconds)
    assert levels_of(read_with(FakeReader(missing=[5]), second)) == list(range(10))


def test_many_ways_give_each_frame_once_and_in_order():
    rng = np.random.default_rng(0)
    for _ in range(100):
        missing = [set(np.flatnonzero(rng.random(40) < 0.1)) for _ in range(3)]
        fails_at = [None if rng.random() < 0.7 else int(rng.integers(0, 40)) for _ in range(3)]
        readers = [
            FakeReader(40, missing=m, fails_at=f) for m, f in zip(missing, fails_at, strict=True)
        ]
        try:
            parts = read_with(*readers)
        except VideoDecodeError:
            assert 0 in fails_at or all(fails_at)
            continue
        levels = levels_of(parts)
        assert all(early < late for early, late in pairwise(levels))
        assert times_of(parts) == [level / 10 for level in levels]
        assert [part.end is None for part in parts[:-1]] == [True] * (len(parts) - 1)
        assert bool(parts[-1].end.reason) == (len(levels) < 40)


def test_gap_in_the_last_way_is_a_partial_video():
    (part,) = read_with(FakeReader(missing=[2, 3, 9]))
    assert levels_of([part]) == [0, 1, 4, 5, 6, 7, 8]
    assert part.end.reason == "3 of 10 sampled frames cannot be decoded"


def test_frames_that_the_file_has_lost_are_a_reason():
    (part,) = read_with(FakeReader(num_lost_frames=7))
    assert part.end.reason == "7 of the frames that the file lists are cut off or damaged"


def test_way_that_gives_out_leaves_a_partial_video():
    first, second = FakeReader(missing=[6]), FakeReader(fails_at=8, decoder="second")
    parts = read_with(first, second)
    assert levels_of(parts) == list(range(8))
    end = parts[-1].end
    assert (end.decoder, end.reason) == ("second", "second fails")
    assert end.duration_seconds == 1.0


@pytest.mark.parametrize(
    ("ways", "reason"),
    [
        (["it is encrypted"], "it is encrypted"),
        (["it is encrypted", "decord cannot open it"], "it is encrypted"),
        # That frames are missing says less than why the file does not open.
        ([FakeReader(missing=range(10)), "no such codec"], "no such codec"),
        ([FakeReader(fails_at=0), FakeReader(missing=range(10))], "first fails"),
        ([FakeReader(missing=range(10))], "none of the sampled frames"),
        ([], "no decoder can open it"),
    ],
    ids=range(6),
)
def test_failure_of_all_ways_has_the_most_telling_reason(ways, reason):
    with pytest.raises(VideoDecodeError, match=reason):
        read_with(*ways)


# A reader that does not know its times.


def test_repeated_frame_of_a_reader_without_times_is_not_believed():
    first = FakeReader(levels=[0, 1, 2, 2, 2, 5, 6, 7, 8, 9], knows_times=False)
    parts = read_with(first, FakeReader(decoder="second"))
    assert levels_of(parts) == list(range(10))
    assert parts[-1].end.decoder == "second"


def test_repeated_frame_is_missing_where_no_other_way_is_left():
    (part,) = read_with(FakeReader(levels=[0, 1, 2, 2, 2, 5], knows_times=False))
    assert times_of([part]) == [0.0, 0.1, 0.2, 0.5]
    assert levels_of([part]) == [0, 1, 2, 5]
    assert part.end.reason == "2 of 6 sampled frames cannot be decoded"


def test_repeated_frame_of_a_reader_that_knows_its_times_stands_still():
    parts = read_with(FakeReader(levels=[3] * 10), FakeReader(decoder="second"))
    assert levels_of(parts) == [3] * 10
    assert (parts[-1].end.decoder, parts[-1].end.reason) == ("first", "")


# Going on with a video.


@pytest.mark.parametrize("num_done", [0, 1, 31, 32, 69])
def test_reading_goes_on_after_what_is_done(write_video, num_done):
    colours = [(3 * i, 200 - 2 * i, 60) for i in range(70)]
    path = write_video("a.mp4", colours)
    whole = read(path)
    after = times_of(whole)[num_done - 1] if num_done else -1.0
    rest = read(path, after_seconds=after, num_before=num_done)
    assert times_of(rest) == times_of(whole)[num_done:]
    assert rows_of(rest) == rows_of(whole)[num_done:]
    assert torch.equal(
        torch.cat([part.pixels for part in rest]),
        torch.cat([part.pixels for part in whole])[num_done:],
    )
    assert rest[-1].end == whole[-1].end


def test_nothing_is_left_of_a_video_that_is_done():
    (part,) = read_with(FakeReader(), after_seconds=0.9, num_before=10)
    assert len(part.pixels) == len(part.times_seconds) == len(part.rows) == 0
    assert part.pixels.shape == (0, 3, 24, 24)
    assert part.end.reason == ""


def test_reason_counts_only_what_was_missing_after_what_is_done():
    (part,) = read_with(FakeReader(missing=[2, 8]), after_seconds=0.5, num_before=5)
    assert levels_of([part]) == [6, 7, 9]
    assert rows_of([part]) == [5, 6, 7]
    assert part.end.reason == "1 of 10 sampled frames cannot be decoded"


# What is similar.


def test_picture_that_stands_still_is_encoded_once(write_video):
    path = write_video("a.mp4", [RED] * 40 + [BLUE] * 20 + [RED] * 10)
    parts = read(path, dedup_threshold=10.0)
    assert len(times_of(parts)) == 70
    assert rows_of(parts) == [0] * 40 + [1] * 20 + [2] * 10
    pixels = torch.cat([part.pixels for part in parts])
    np.testing.assert_allclose(pixels.float().mean(dim=(2, 3)), [RED, BLUE, RED], atol=6)
    assert [len(part.pixels) for part in parts] == [1, 2, 0]


def test_slow_change_is_measured_from_the_last_frame_that_is_encoded():
    parts = read_with(FakeReader(20), dedup_threshold=5.0)
    assert levels_of(parts) == [0, 5, 10, 15]
    assert rows_of(parts) == [i // 5 for i in range(20)]


def test_change_in_one_cell_is_a_change():
    still = torch.full((3, 24, 24), 100, dtype=torch.uint8)
    changed = still.clone()
    changed[:, -2:, -2:] = 200
    parts = read_with(FakeReader(levels=[still, still, changed, changed]), dedup_threshold=20.0)
    assert rows_of(parts) == [0, 0, 1, 1]


def test_nothing_is_similar_unless_asked():
    assert rows_of(read_with(FakeReader(levels=[7] * 5))) == list(range(5))


def test_similar_frames_go_on_in_the_next_way():
    first = FakeReader(levels=[10] * 5 + [90] * 15, missing=[3])
    second = FakeReader(levels=[10] * 5 + [90] * 15, decoder="second")
    parts = read_with(first, second, dedup_threshold=5.0)
    assert rows_of(parts) == [0] * 5 + [1] * 15
    assert levels_of(parts) == [10, 90]


def test_whole_pictures_may_change_their_size():
    sizes = [(24, 24), (24, 24), (30, 40), (24, 24)]
    levels = [torch.full((3, *size), i, dtype=torch.uint8) for i, size in enumerate(sizes)]
    settings = FrameSettings(ALL, UncroppedFrame())
    way = FakeReader(levels=levels)
    parts = list(iter_frames("fake.mp4", settings, openers=lambda path, decoders: [lambda: way]))
    assert [tuple(part.pixels.shape) for part in parts] == [
        (2, 3, 24, 24),
        (1, 3, 30, 40),
        (1, 3, 24, 24),
    ]
    assert [int(pixels.flatten()[0]) for part in parts for pixels in part.pixels] == [0, 1, 2, 3]
    assert (rows_of(parts), times_of(parts)) == ([0, 1, 2, 3], [0.0, 0.1, 0.2, 0.3])
    assert [part.end is None for part in parts] == [True, True, False]
