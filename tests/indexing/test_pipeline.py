import threading

import numpy as np
import pytest
import torch

import reelseek.indexing.pipeline
from reelseek.indexing.pipeline import encode_videos
from reelseek.vision import (
    DECODERS,
    DecodePool,
    FrameEncoder,
    FrameSettings,
    UniformSampler,
    VideoDecodeError,
    VideoEnd,
    iter_frames,
)
from tests.conftest import COLOURS, InProcessPool
from tests.indexing.conftest import SAMPLER, WatchedEncoder

RED, GREEN, BLUE = COLOURS.values()


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name == "decode"]


def encode(paths, encoder, sampler=SAMPLER, *, dedup_threshold=0.0, iter_frames=iter_frames):
    """Encodes videos, decoded in this process, and gives the results in the order of the list."""
    settings = FrameSettings(sampler, encoder.preprocessing, dedup_threshold=dedup_threshold)
    pool = InProcessPool(settings, iter_frames=iter_frames)
    videos = encode_videos(enumerate(paths), encoder=encoder, pool=pool)
    return sorted(videos, key=lambda video: video.tag)


def colours_of(embeddings):
    """The strongest of red 0, green 1, blue 2 in each embedding."""
    return embeddings.argmax(dim=1).tolist()


@pytest.fixture
def paths(write_video):
    """Videos of 20, 1 and 80 frames at 10 a second; the last is longer than a chunk."""
    return [
        write_video("a.mp4", [RED] * 10 + [GREEN] * 10),
        write_video("b.mp4", [BLUE]),
        write_video("c.mp4", [GREEN] * 40 + [BLUE] * 40),
    ]


def test_videos_come_with_their_colours_at_their_times(paths, colour_encoder):
    a, b, c = encode(paths, colour_encoder)
    assert [video.tag for video in (a, b, c)] == [0, 1, 2]
    assert {video.outcome for video in (a, b, c)} == {"ok"}
    assert {video.reason for video in (a, b, c)} == {""}
    assert {video.decoder for video in (a, b, c)} == {"pyav"}
    assert [video.num_encoded for video in (a, b, c)] == [4, 1, 16]
    # Half-second steps from 0.25 s on; the frame on screen then is the one of 0.2 s, 0.7 s, ...
    assert colours_of(a.embeddings) == [0, 0, 1, 1]
    np.testing.assert_allclose(a.times_seconds, [0.2, 0.7, 1.2, 1.7], atol=0.002)
    assert colours_of(b.embeddings) == [2]
    assert colours_of(c.embeddings) == [1] * 8 + [2] * 8
    np.testing.assert_allclose(
        [a.duration_seconds, b.duration_seconds, c.duration_seconds], [2, 0.1, 8], atol=0.01
    )


def test_embeddings_equal_those_of_each_video_alone(paths, colour_encoder):
    together = encode(paths, colour_encoder, UniformSampler(50))  # c in two chunks
    for path, video in zip(paths, together, strict=True):
        settings = FrameSettings(UniformSampler(50), colour_encoder.preprocessing)
        chunks = list(iter_frames(path, settings))
        alone = colour_encoder.encode(torch.cat([frames.pixels for frames in chunks]))
        assert video.embeddings.shape == alone.shape
        assert video.embeddings.dtype == torch.float32
        torch.testing.assert_close(video.embeddings, alone)
        times = np.concatenate([frames.times_seconds for frames in chunks])
        np.testing.assert_array_equal(video.times_seconds, times)
    assert len(together[2].embeddings) == 50


def test_more_videos_than_the_queue_holds(write_video, colour_encoder):
    colours = [RED, GREEN, BLUE] * 10
    paths = [write_video(f"{i}.mp4", [colour]) for i, colour in enumerate(colours)]
    videos = encode(paths, colour_encoder)
    assert [video.tag for video in videos] == list(range(30))
    assert [colours_of(video.embeddings)[0] for video in videos] == [0, 1, 2] * 10


def test_broken_video_is_an_outcome_among_the_others(paths, tmp_path, colour_encoder):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    videos = encode([broken, paths[0], tmp_path / "none.mp4", paths[1], broken], colour_encoder)
    assert [video.outcome for video in videos] == ["failed", "ok", "failed", "ok", "failed"]
    for video in (videos[0], videos[2], videos[4]):
        assert video.embeddings.shape == (0, 3)
        assert video.times_seconds.shape == (0,)
        assert video.duration_seconds == 0.0
    assert videos[2].reason == "no such file"
    assert colours_of(videos[1].embeddings) == [0, 0, 1, 1]


def test_nothing_but_broken_videos(tmp_path, colour_encoder):
    videos = encode([tmp_path / "a.mp4", tmp_path / "b.mp4"], colour_encoder)
    assert [(video.tag, video.outcome) for video in videos] == [(0, "failed"), (1, "failed")]


def test_no_videos(colour_encoder):
    assert encode([], colour_encoder) == []


def test_video_that_breaks_off_is_partial_and_keeps_what_came_before(paths, colour_encoder):
    def break_off(path, settings, **options):
        chunks = iter_frames(path, settings, **options)
        yield next(chunks)
        if path == paths[2]:
            raise VideoDecodeError("damaged here")

    videos = [paths[0], paths[2], paths[1]]
    a, c, b = encode(videos, colour_encoder, UniformSampler(50), iter_frames=break_off)
    assert (a.outcome, c.outcome, b.outcome) == ("ok", "partial", "ok")
    assert len(c.embeddings) == len(c.times_seconds) == 32  # the first chunk
    last = c.times_seconds[-1]
    assert c.reason == f"damaged here; 32 decode, the last at second {last:.1f}"
    assert (c.decoder, c.num_encoded, c.duration_seconds) == ("pyav", 32, last)


def test_video_with_gaps_is_partial_and_keeps_its_duration(paths, colour_encoder):
    def leave_out_the_rest(path, settings, **options):
        first = next(iter_frames(path, settings, **options))
        yield first
        nothing = first.pixels[:0], first.times_seconds[:0], first.rows[:0]
        yield type(first)(*nothing, VideoEnd(8.0, "decord", "some are damaged"))

    sampler = UniformSampler(50)
    (c,) = encode(paths[2:], colour_encoder, sampler, iter_frames=leave_out_the_rest)
    assert (c.outcome, c.decoder, c.duration_seconds) == ("partial", "decord", 8.0)
    assert c.reason.startswith("some are damaged; 32 decode, the last at second ")


def test_failed_video_has_no_decoder(tmp_path, colour_encoder):
    (video,) = encode([tmp_path / "none.mp4"], colour_encoder)
    assert (video.outcome, video.decoder, video.num_encoded) == ("failed", "", 0)


def test_worker_processes_give_what_this_process_gives(paths, tmp_path, colour_encoder):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    videos = [*paths, tmp_path / "broken.mp4", *paths]
    expected = encode(videos, colour_encoder)
    settings = FrameSettings(SAMPLER, colour_encoder.preprocessing)
    with DecodePool(settings, num_workers=2) as pool:
        arrived = list(encode_videos(enumerate(videos), encoder=colour_encoder, pool=pool))
    assert sorted(video.tag for video in arrived) == list(range(7))
    for video in arrived:
        alone = expected[video.tag]
        torch.testing.assert_close(video.embeddings, alone.embeddings)
        np.testing.assert_array_equal(video.times_seconds, alone.times_seconds)
        for name in ("duration_seconds", "outcome", "reason", "num_encoded"):
            assert getattr(video, name) == getattr(alone, name)
        # In this process decord, which may bring it down, is not asked.
        assert alone.decoder == ("" if alone.outcome == "failed" else "pyav")
        assert video.decoder in ("", *DECODERS)


# Frames that are alike


def test_similar_frames_are_encoded_once_and_have_the_embedding_of_the_first(paths, colour_encoder):
    all_encoded = encode(paths, colour_encoder, UniformSampler(50))
    videos = encode(paths, colour_encoder, UniformSampler(50), dedup_threshold=20.0)
    assert [video.num_encoded for video in videos] == [2, 1, 2]
    for video, full in zip(videos, all_encoded, strict=True):
        np.testing.assert_array_equal(video.times_seconds, full.times_seconds)
        assert colours_of(video.embeddings) == colours_of(full.embeddings)
        torch.testing.assert_close(video.embeddings, full.embeddings, rtol=0, atol=0.02)
        assert len(video.embeddings.unique(dim=0)) == video.num_encoded


# Batches


@pytest.fixture
def watched_encoder(colour_model):
    return WatchedEncoder(colour_model, device="cpu", precision="fp32")


def test_frames_of_many_videos_fill_the_batches(paths, watched_encoder, monkeypatch):
    monkeypatch.setattr(reelseek.indexing.pipeline, "_PATIENCE_SECONDS", 60)
    watched_encoder.batch_frames = 8
    sizes = []
    watched_encoder.before_encoding = lambda pixels: sizes.append(len(pixels))
    videos = encode(paths * 5, watched_encoder, UniformSampler(11))  # 11, 1 and 11 frames each
    assert sizes == [8] * 14 + [3]
    assert [len(video.embeddings) for video in videos] == [11, 1, 11] * 5
    assert colours_of(videos[-1].embeddings) == [1] * 5 + [2] * 6


def test_frames_do_not_wait_for_a_batch_that_is_slow_to_fill(paths, colour_encoder):
    first_is_done = threading.Event()

    def videos():
        yield 0, paths[1]  # one frame
        assert first_is_done.wait(timeout=60)
        yield 1, paths[0]

    settings = FrameSettings(SAMPLER, colour_encoder.preprocessing)
    encoded = encode_videos(videos(), encoder=colour_encoder, pool=InProcessPool(settings))
    assert next(encoded).tag == 0
    first_is_done.set()
    assert [video.tag for video in encoded] == [1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("bad_alloc"),
        MemoryError(),
    ],
)
def test_batches_are_halved_until_they_fit_into_memory(paths, colour_encoder, error):
    expected = encode(paths, colour_encoder, UniformSampler(50))
    tower = colour_encoder._tower
    fitted = []

    def small_tower(pixels):
        if len(pixels) > 3:
            raise error
        fitted.append(len(pixels))
        return tower(pixels)

    colour_encoder._tower = small_tower
    colour_encoder.batch_frames = 16
    videos = encode(paths, colour_encoder, UniformSampler(50))
    for video, whole in zip(videos, expected, strict=True):
        torch.testing.assert_close(video.embeddings, whole.embeddings)
    assert max(fitted) <= 3
    assert 1 <= colour_encoder.batch_frames <= 3


def test_batches_that_run_out_of_memory_at_the_same_time(colour_model, monkeypatch):
    """As many threads as a big machine has, each of which would halve the batch."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    encoder = FrameEncoder(colour_model, device="cpu", precision="fp32")
    tower, together = encoder._tower, threading.Barrier(6)

    def small_tower(pixels):
        if len(pixels) > 4:
            together.wait(timeout=60)
            raise MemoryError
        return tower(pixels)

    encoder._tower = small_tower
    encoder.batch_frames = 8
    pixels = torch.randint(0, 256, (48, 3, 16, 16), dtype=torch.uint8)
    futures = [encoder.submit(batch) for batch in pixels.split(8)]
    embeddings = torch.cat([future.result() for future in futures])
    encoder._tower = tower
    torch.testing.assert_close(embeddings, encoder.encode(pixels))
    assert encoder.batch_frames == 4


def test_frame_that_does_not_fit_into_memory_alone_is_an_error(paths, colour_encoder):
    def no_room(pixels):
        raise torch.OutOfMemoryError("CUDA out of memory")

    colour_encoder._tower = no_room
    with pytest.raises(torch.OutOfMemoryError):
        encode(paths, colour_encoder)
    assert decode_threads() == []


# What goes wrong


def test_exception_of_the_callers_iterator_reaches_the_caller(paths, colour_encoder):
    def videos():
        yield "first", paths[0]
        raise LookupError("of the caller")

    pool = InProcessPool(FrameSettings(SAMPLER, colour_encoder.preprocessing))
    encoded = encode_videos(videos(), encoder=colour_encoder, pool=pool)
    assert next(encoded).tag == "first"
    with pytest.raises(LookupError, match="of the caller"):
        next(encoded)
    assert decode_threads() == []


def test_exception_of_the_decoder_that_is_no_verdict_on_the_video_reaches_the_caller(
    paths, colour_encoder
):
    def sampler(video):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encode(paths, colour_encoder, sampler)
    assert decode_threads() == []


@pytest.mark.parametrize("error", [ValueError("no such kernel"), RuntimeError("of another kind")])
def test_exception_of_the_encoder_reaches_the_caller_and_ends_the_thread(
    paths, colour_encoder, error
):
    def broken(pixels):
        raise error

    colour_encoder._tower = broken
    with pytest.raises(type(error), match=str(error)):
        encode(paths * 20, colour_encoder)
    assert decode_threads() == []


def test_exception_while_submitting_ends_the_thread(paths, colour_encoder):
    def interrupted(pixels):
        raise KeyboardInterrupt

    colour_encoder.submit = interrupted
    with pytest.raises(KeyboardInterrupt):
        encode(paths * 20, colour_encoder)
    assert decode_threads() == []


def test_abandoned_generator_ends_the_decoding(paths, colour_encoder):
    asked = []

    def videos():
        for i in range(10_000):
            asked.append(i)
            yield i, paths[1]

    pool = InProcessPool(FrameSettings(SAMPLER, colour_encoder.preprocessing))
    encoded = encode_videos(videos(), encoder=colour_encoder, pool=pool)
    assert next(encoded).tag == 0
    assert len(decode_threads()) == 1
    encoded.close()
    assert decode_threads() == []
    assert len(asked) < 1000
