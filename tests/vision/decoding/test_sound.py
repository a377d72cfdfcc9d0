import time
from itertools import pairwise

import numpy as np
import pytest

import reelseek.vision.decoding.sound
from reelseek.vision import VideoDecodeError
from reelseek.vision.decoding.process import init_worker
from reelseek.vision.decoding.sound import decode_sound, iter_sound
from tests.indexing.speaking import RATE, picture, silence, tone, write_film

PICTURES = [picture(size=(64, 48))] * 8


def whole(sounds):
    """One track of all sounds, `(N,)`, from the video's first frame on."""
    sounds = list(sounds)
    track = np.zeros(max((round(s.end_seconds * RATE) for s in sounds), default=0), np.float32)
    for sound in sounds:
        assert sound.samples.dtype == np.float32
        first = round(sound.start_seconds * RATE)
        track[first : first + len(sound.samples)] = sound.samples
    return track


def loud_seconds(track):
    """When it begins and ceases to be loud."""
    loud = np.flatnonzero(np.abs(track) > 0.2) / RATE
    return float(loud[0]), float(loud[-1])


@pytest.fixture
def film(tmp_path):
    """Eight seconds, with a tone from 3 to 4.5."""
    samples = np.concatenate([silence(3), tone(1.5), silence(3.5)])
    return write_film(tmp_path / "film.mkv", PICTURES, samples)


def test_track_is_what_was_written(film):
    written = np.concatenate([silence(3), tone(1.5), silence(3.5)])
    np.testing.assert_allclose(whole(decode_sound(film)), written, atol=1e-4)


def test_long_track_comes_in_pieces_that_follow_each_other(tmp_path):
    path = write_film(tmp_path / "long.mkv", samples=tone(35.0))
    sounds = list(decode_sound(path))
    assert [round(sound.start_seconds) for sound in sounds] == [0, 10, 20, 30]
    for one, other in pairwise(sounds):
        assert one.end_seconds == pytest.approx(other.start_seconds, abs=1e-6)
    np.testing.assert_allclose(whole(sounds), tone(35.0), atol=1e-4)


def test_both_channels_are_heard(tmp_path):
    path = write_film(tmp_path / "stereo.mkv", PICTURES, tone(2.0), channels="stereo")
    np.testing.assert_allclose(whole(decode_sound(path))[: 2 * RATE], tone(2.0), atol=1e-3)


def test_other_rates_are_brought_to_one(tmp_path):
    import av

    path = tmp_path / "rate.wav"
    samples = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100) * 0.5
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=44_100, layout="mono")
        block = (samples * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    track = whole(decode_sound(path))
    assert len(track) == pytest.approx(RATE, abs=50)
    spectrum = np.abs(np.fft.rfft(track[:RATE]))
    assert np.argmax(spectrum) * RATE / min(len(track), RATE) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("shift", [1.5, -1.0])
def test_sound_is_timed_by_the_first_picture(tmp_path, shift):
    samples = np.concatenate([silence(3), tone(1.0), silence(1)])
    path = write_film(tmp_path / "film.mkv", PICTURES, samples, audio_start_seconds=shift)
    start, end = loud_seconds(whole(decode_sound(path)))
    assert (start, end) == pytest.approx((3 + shift, 4 + shift), abs=0.05)


def test_film_without_sound_gives_none(tmp_path):
    path = write_film(tmp_path / "film.mkv", PICTURES)
    assert list(decode_sound(path)) == []
    from PIL import Image

    Image.fromarray(picture("x")).save(tmp_path / "photo.png")
    assert list(decode_sound(tmp_path / "photo.png")) == []


@pytest.mark.parametrize("content", [b"", b"no film at all" * 100])
def test_what_is_no_film_is_named(tmp_path, content):
    path = tmp_path / "film.mkv"
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError):
        list(decode_sound(path))


def test_damaged_stretch_is_passed_over(film):
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = b"\xff" * 2000
    film.write_bytes(content)
    list(decode_sound(film))  # no error, whatever is left


def test_cut_off_file_gives_what_there_is(film):
    content = film.read_bytes()
    film.write_bytes(content[: len(content) // 2])
    track = whole(decode_sound(film))
    assert 2 < len(track) / RATE < 6


# In a process of its own


def test_worker_gives_the_same(film):
    np.testing.assert_array_equal(whole(iter_sound(film)), whole(decode_sound(film)))


def test_worker_names_what_is_wrong(tmp_path):
    with pytest.raises(VideoDecodeError, match="it is no video"):
        list(iter_sound(tmp_path / "missing.mkv"))


def _sleep(connection, path):
    init_worker(1 << 30)
    time.sleep(60)


def _die(connection, path):
    raise SystemExit(3)


def test_worker_that_hangs_is_given_up(film, monkeypatch):
    monkeypatch.setattr(reelseek.vision.decoding.sound, "_work", _sleep)
    started = time.monotonic()
    with pytest.raises(VideoDecodeError, match="gave no sound for 1 seconds"):
        list(iter_sound(film, timeout_seconds=1.0))
    assert time.monotonic() - started < 20


def test_worker_that_dies_is_named(film, monkeypatch):
    monkeypatch.setattr(reelseek.vision.decoding.sound, "_work", _die)
    with pytest.raises(VideoDecodeError, match="decoding its audio crashed"):
        list(iter_sound(film))


@pytest.mark.shared
def test_odd_files_are_heard_or_named(shared_data):
    paths = [path for path in sorted((shared_data / "odd").rglob("*")) if path.is_file()]
    outcomes = {}
    for path in paths:
        try:
            sounds = list(iter_sound(path, timeout_seconds=20.0))
            assert all(np.isfinite(sound.samples).all() for sound in sounds)
            assert all(sound.start_seconds >= 0 for sound in sounds)
            outcomes[path] = sum(len(sound.samples) for sound in sounds) / RATE
        except VideoDecodeError as error:
            assert not str(error).startswith(("its audio gave no sound", "decoding its audio"))
            outcomes[path] = str(error)
    heard = [seconds for seconds in outcomes.values() if isinstance(seconds, float) and seconds]
    assert len(heard) > 10
    nasa = next(path for path in paths if path.name == "nasa_13013.mp4")
    assert outcomes[nasa] == pytest.approx(13.0, abs=0.5)
