import threading

import numpy as np
import pytest
import torch

import indexing.pipeline
from indexing.pipeline import encode_videos
from tests.conftest import COLOURS
from tests.indexing.conftest import SAMPLER
from vision import UniformSampler, VideoDecodeError, iter_frames

RED, GREEN, BLUE = COLOURS.values()


def decode_threads():
    return [thread for thread in threading.enumerate() if thread.name == "decode"]


def encode(paths, encoder, sampler=SAMPLER):
    """Encodes videos that are tagged with their place in the list."""
    return list(encode_videos(enumerate(paths), encoder=encoder, sampler=sampler))


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


def test_videos_come_in_order_with_their_colours_at_their_times(paths, colour_encoder):
    a, b, c = encode(paths, colour_encoder)
    assert [video.tag for video in (a, b, c)] == [0, 1, 2]
    assert {video.outcome for video in (a, b, c)} == {"ok"}
    assert {video.reason for video in (a, b, c)} == {""}
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
        chunks = list(
            iter_frames(
                path, sampler=UniformSampler(50), preprocessing=colour_encoder.preprocessing
            )
        )
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


def test_video_that_breaks_off_is_partial_and_keeps_what_came_before(
    paths, colour_encoder, monkeypatch
):
    def break_off(path, **options):
        chunks = iter_frames(path, **options)
        yield next(chunks)
        if path == paths[2]:
            raise VideoDecodeError("damaged here")

    monkeypatch.setattr(indexing.pipeline, "iter_frames", break_off)
    a, c, b = encode([paths[0], paths[2], paths[1]], colour_encoder, UniformSampler(50))
    assert (a.outcome, c.outcome, b.outcome) == ("ok", "partial", "ok")
    assert len(c.embeddings) == len(c.times_seconds) == 32  # the first chunk
    last = c.times_seconds[-1]
    assert c.reason == f"damaged here; 32 decode, the last at second {last:.1f}"
    assert c.duration_seconds == pytest.approx(8, abs=0.01)


def test_exception_of_the_callers_iterator_reaches_the_caller(paths, colour_encoder):
    def videos():
        yield "first", paths[0]
        raise LookupError("of the caller")

    encoded = encode_videos(videos(), encoder=colour_encoder, sampler=SAMPLER)
    assert next(encoded).tag == "first"
    with pytest.raises(LookupError, match="of the caller"):
        next(encoded)
    assert decode_threads() == []


def test_exception_of_the_decoder_that_is_no_verdict_on_the_video_reaches_the_caller(
    paths, colour_encoder
):
    def sampler(times_seconds, duration_seconds):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        encode(paths, colour_encoder, sampler)
    assert decode_threads() == []


def test_exception_of_the_encoder_reaches_the_caller_and_ends_the_thread(paths, colour_encoder):
    def encode_nothing(pixels):
        raise MemoryError

    colour_encoder.encode = encode_nothing
    with pytest.raises(MemoryError):
        encode(paths * 20, colour_encoder)
    assert decode_threads() == []


def test_abandoned_generator_ends_the_decoding(paths, colour_encoder):
    asked = []

    def videos():
        for i in range(10_000):
            asked.append(i)
            yield i, paths[1]

    encoded = encode_videos(videos(), encoder=colour_encoder, sampler=SAMPLER)
    assert next(encoded).tag == 0
    assert len(decode_threads()) == 1
    encoded.close()
    assert decode_threads() == []
    assert len(asked) < 1000
