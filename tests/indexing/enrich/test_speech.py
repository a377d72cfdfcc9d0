import socket
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing.enrich.speech import (
    Phrase,
    SpeechReader,
    Whisper,
    join_words,
    quietest,
    stretches,
)
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.texts import TimedText
from reelseek.vision import VideoDecodeError
from reelseek.vision.decoding.sound import Sound, decode_sound
from tests.indexing.speaking import (
    RATE,
    film_index,
    picture,
    say,
    silence,
    tone,
    whisper_folder,
    write_film,
)


def records_of(folder):
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return list(catalogue.scan())


def sounds_of(path, *, timeout_seconds):
    """Decodes in this process."""
    return decode_sound(path)


class Beeps:
    """Hears a word for as long as it is loud."""

    engine = "beeps"

    def __init__(self):
        self.lengths = []

    def phrases(self, samples):
        self.lengths.append(len(samples) / RATE)
        edges = np.flatnonzero(np.diff(np.abs(samples) > 0.01, prepend=0, append=0))
        gaps = np.flatnonzero(np.diff(edges) > 0.1 * RATE)
        starts, ends = [0, *(gaps + 1).tolist()], [*gaps.tolist(), len(edges) - 1]
        for start, end in zip(starts, ends, strict=True):
            if len(edges):
                yield Phrase(edges[start] / RATE, edges[end] / RATE, "  beep\n beep ")


def test_what_is_heard_has_its_seconds(tmp_path):
    samples = np.concatenate([silence(2), tone(1), silence(3), tone(2)])
    films = {"film": write_film(tmp_path / "film.mkv", [picture()] * 8, samples)}
    film_index(tmp_path / "index", films, [(0, 8)])
    (video,) = SpeechReader(Beeps(), sounds=sounds_of).read(records_of(tmp_path / "index"))
    found = [(t.source, t.start_seconds, t.end_seconds, t.text) for t in video.texts]
    assert found == [
        ("speech", pytest.approx(2, abs=0.01), pytest.approx(3, abs=0.01), "beep beep"),
        ("speech", pytest.approx(6, abs=0.01), pytest.approx(8, abs=0.01), "beep beep"),
    ]


def test_video_without_sound_says_nothing_and_a_broken_one_why(tmp_path):
    mute = write_film(tmp_path / "mute.mkv", [picture()] * 2)
    broken = write_film(tmp_path / "broken.mkv", [picture()] * 2)
    film_index(tmp_path / "index", {"mute": mute, "broken": broken}, [(0, 2)])
    broken.write_bytes(b"broken")
    first, second = SpeechReader(Beeps(), sounds=sounds_of).read(records_of(tmp_path / "index"))
    assert (first.record.key, first.texts, first.reason) == ("mute", [], "")
    assert (second.record.key, second.texts) == ("broken", None)
    assert "it is no video" in second.reason


def test_phrases_without_a_word_or_beyond_the_sound_are_put_right():
    class Odd:
        engine = "odd"

        def phrases(self, samples):
            yield Phrase(-1.0, 0.5, "early")
            yield Phrase(0.5, 0.7, " ... ")
            yield Phrase(1.5, 99.0, "late")

    sounds = [Sound(silence(2), 10.0)]
    record = type("Record", (), {"path": "x", "key": "x"})()
    (video,) = SpeechReader(Odd(), sounds=lambda *a, **b: iter(sounds)).read([record])
    assert video.texts == [
        TimedText("speech", 10.0, 10.5, "early"),
        TimedText("speech", 11.5, 12.0, "late"),
    ]


def test_scraps_between_gaps_are_not_listened_to():
    recogniser = Beeps()
    scraps = [Sound(tone(0.1), 2.0 * i) for i in range(50)]
    record = type("Record", (), {"path": "x", "key": "x"})()
    reader = SpeechReader(recogniser, sounds=lambda *a, **b: iter([*scraps, Sound(tone(1), 200.0)]))
    (video,) = reader.read([record])
    assert [text.text for text in video.texts] == ["beep beep"]
    assert recogniser.lengths == [1.0]


def test_stopped_reader_leaves_the_video_for_another_time():
    record = type("Record", (), {"path": "x", "key": "x"})()
    reader = SpeechReader(
        Beeps(), sounds=lambda *a, **b: iter([Sound(silence(2), 0.0)]), is_stopped=lambda: True
    )
    assert list(reader.read([record])) == []


# Stretches


def pieces(samples, *, seconds=1.0, start=0.0):
    step = round(seconds * RATE)
    for first in range(0, len(samples), step):
        yield Sound(samples[first : first + step], start + first / RATE)


def test_stretches_hold_all_samples_at_their_times():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=round(23.4 * RATE)).astype(np.float32)
    found = list(stretches(pieces(samples, start=3.0), stretch_seconds=5, search_seconds=2))
    np.testing.assert_array_equal(np.concatenate([s.samples for s in found]), samples)
    position = 3.0
    for sound in found:
        assert sound.start_seconds == pytest.approx(position, abs=1e-6)
        assert sound.end_seconds - sound.start_seconds <= 5.0
        position = sound.end_seconds
    assert len(found) >= 5


def test_stretch_is_cut_where_it_is_quiet():
    samples = np.concatenate([tone(4.2), silence(0.4), tone(5)])
    first, *_ = stretches(pieces(samples), stretch_seconds=5, search_seconds=2)
    assert 4.3 <= first.end_seconds <= 4.51


def test_gap_ends_a_stretch():
    sounds = [Sound(tone(1), 0.0), Sound(tone(1), 1.0), Sound(tone(1), 7.0)]
    found = list(stretches(sounds))
    assert [(s.start_seconds, s.end_seconds) for s in found] == [(0, 2), (7, 8)]


def test_nothing_gives_no_stretch():
    assert list(stretches([])) == []


def test_quietest_moment_is_found():
    samples = np.concatenate([tone(1), silence(0.2), tone(1)])
    assert quietest(samples) == pytest.approx(1.1 * RATE, abs=2)


# Words that belong together


def words(*timed):
    return [Phrase(start, end, text) for start, end, text in timed]


def test_words_become_phrases():
    said = words(
        (0, 1, " A"), (1, 2, " dog"), (2.9, 3, " barks."), (3, 4, " Rain"), (5.1, 6, " falls")
    )
    assert list(join_words(said)) == [
        Phrase(0, 3, " A dog barks."),
        Phrase(3, 4, " Rain"),
        Phrase(5.1, 6, " falls"),
    ]


def test_long_speech_is_divided():
    said = words(*((i, i + 1, f" {i}") for i in range(25)))
    found = list(join_words(said))
    assert "".join(phrase.text for phrase in found) == "".join(word.text for word in said)
    assert all(phrase.end_seconds - phrase.start_seconds <= 10 for phrase in found)
    assert list(join_words([])) == []


def test_words_without_blanks_stay_without():
    said = words((0, 1, "\u4f60"), (1, 2, "\u597d\u3002"), (2, 3, "\u8c22"))
    assert [phrase.text for phrase in join_words(said)] == ["\u4f60\u597d\u3002", "\u8c22"]


# The real recogniser


@pytest.fixture(scope="module")
def whisper():
    pytest.importorskip("faster_whisper")
    return Whisper(whisper_folder(), device="cpu")


def test_spoken_word_leads_to_its_second(tmp_path, whisper):
    samples = np.concatenate(
        [
            silence(3),
            say("The elephant is drinking water."),
            silence(4),
            say("We are going to the airport."),
            silence(2),
        ]
    )
    films = {"film": write_film(tmp_path / "film.mkv", [picture()] * 14, samples)}
    film_index(tmp_path / "index", films, [(0, 14)])
    (video,) = SpeechReader(whisper, sounds=sounds_of).read(records_of(tmp_path / "index"))
    first = next(text for text in video.texts if "elephant" in text.text.lower())
    second = next(text for text in video.texts if "airport" in text.text.lower())
    loud = np.flatnonzero(np.abs(samples) > 0.02) / RATE
    later = loud[loud > loud[np.argmax(np.diff(loud))] + 1]
    assert first.start_seconds == pytest.approx(3.0, abs=0.75)
    assert second.start_seconds == pytest.approx(float(later[0]), abs=0.75)
    assert first.end_seconds <= second.start_seconds


def test_noise_is_no_speech(whisper):
    noise = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32) * 0.01
    assert list(whisper.phrases(np.concatenate([silence(3), noise]))) == []
    assert list(whisper.phrases(silence(0.01))) == []


def test_engine_names_its_model(whisper):
    assert whisper.engine.startswith("faster-whisper ")
    assert whisper.engine.endswith(" (model)")


# Models that are not there


@pytest.fixture
def no_network(monkeypatch):
    pytest.importorskip("faster_whisper")

    def refuse(*arguments, **options):
        raise OSError("the network is cut off for this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_hub_out_of_reach_is_one_line_with_the_remedy(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"speech_model=small cannot be fetched") as raised:
        Whisper("small")
    assert "speech_model=FOLDER, a local folder" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("EMPTY", "the folder holds no model.bin"),
        ("BROKEN", "cannot be loaded"),
        ("humongous", "no such folder, and no model of the hub"),
    ],
)
def test_model_that_is_none_is_named(tmp_path, no_network, model, message):
    for name in ("EMPTY", "BROKEN"):
        (tmp_path / name).mkdir()
    (tmp_path / "BROKEN" / "model.bin").write_bytes(b"broken")
    named = str(tmp_path / model) if model.isupper() else model
    with pytest.raises(ValueError, match=message) as raised:
        Whisper(named)
    assert f"speech_model={named}" in str(raised.value)


def test_language_the_model_lacks_is_named(whisper):
    with pytest.raises(ValueError, match="speech_language=fr: the model knows en"):
        Whisper(whisper_folder(), device="cpu", language="fr")


def test_reader_is_a_decoder_errors_bearer():
    """What the decoder says is what the report says."""

    def fails(path, *, timeout_seconds):
        assert timeout_seconds == 7.0
        yield Sound(tone(1), 0.0)
        raise VideoDecodeError("its audio gave no sound for 7 seconds")

    record = type("Record", (), {"path": "x", "key": "x"})()
    (video,) = SpeechReader(Beeps(), sounds=fails, timeout_seconds=7.0).read([record])
    assert (video.texts, video.reason) == (None, "its audio gave no sound for 7 seconds")
