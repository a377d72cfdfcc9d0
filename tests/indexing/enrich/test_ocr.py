from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reelseek.indexing.enrich.ocr import (
    Line,
    OcrReader,
    RapidOcr,
    is_same,
    is_word,
    join_words,
    merge_lines,
    reading_spans,
)
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.texts import TimedText
from reelseek.vision import FrameSettings, MomentSampler, UncroppedFrame, VideoDecodeError
from tests.conftest import InProcessPool
from tests.indexing.speaking import film_index, picture, write_film

LEVELS = {40: [], 120: ["one"], 200: ["one", "two"]}


def records_of(folder):
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return list(catalogue.scan())


def pool_of(**options):
    settings = FrameSettings(MomentSampler((0.0,)), UncroppedFrame(), dedup_threshold=1.0)
    return InProcessPool(settings, **options)


class LevelReader:
    """Reads in a picture what `LEVELS` says of its brightness."""

    engine = "levels"

    def __init__(self):
        self.shapes = []

    def lines(self, picture):
        self.shapes.append(picture.shape)
        level = min(LEVELS, key=lambda one: abs(one - float(picture.mean())))
        return [Line(text, 0.9) for text in LEVELS[level]]


def times(texts):
    return [(text.text, text.start_seconds, text.end_seconds) for text in texts]


# Which frames are read


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 4), (4, 6)], [(0, 4), (4, 6)]),
        ([(0, 10)], [(0, 5), (5, 10)]),
        ([(0, 10.1)], [(0, 10.1 / 3), (10.1 / 3, 20.2 / 3), (20.2 / 3, 10.1)]),
        ([(0, 4), (2, 6), (4, 8)], [(0, 3), (3, 5), (5, 8)]),
        ([(0, 2), (7, 9)], [(0, 2), (7, 9)]),
        ([(0, 0)], [(0, 0)]),
        (np.empty((0, 2)), [(0, 0)]),
    ],
)
def test_each_segment_is_read_at_its_middle_and_a_long_one_more_often(spans, expected):
    found = reading_spans(np.array(spans, dtype=np.float64).reshape(-1, 2), every_seconds=5.0)
    np.testing.assert_allclose(found, expected)


def test_frame_counts_for_its_stretch(tmp_path):
    levels = [40, 40, 120, 120, 120, 120, 200, 200, 40, 40]
    film = write_film(tmp_path / "film.mkv", [picture(level=level) for level in levels])
    film_index(tmp_path / "index", {"film": film}, [(0, 2), (2, 6), (6, 8), (8, 10)])
    reader = LevelReader()
    (video,) = OcrReader(reader, pool_of()).read(records_of(tmp_path / "index"))
    assert times(video.texts) == [("one", 2, 8), ("two", 6, 8)]
    assert len(reader.shapes) == 4


def test_picture_that_stands_still_is_read_once(tmp_path):
    film = write_film(tmp_path / "film.mkv", [picture(level=120)] * 30)
    film_index(tmp_path / "index", {"film": film}, [(0, 30)])
    reader = LevelReader()
    (video,) = OcrReader(reader, pool_of(), every_seconds=5).read(records_of(tmp_path / "index"))
    assert times(video.texts) == [("one", 0, 30)]
    assert reader.shapes == [(160, 480, 3)]


def test_what_the_reader_is_not_sure_of_is_left_out(tmp_path):
    class Unsure(LevelReader):
        def lines(self, picture):
            return [Line("good", 0.7), Line("bad", 0.69), Line("...", 1.0), Line("i", 1.0)]

    film = write_film(tmp_path / "film.mkv", [picture()] * 2)
    film_index(tmp_path / "index", {"film": film}, [(0, 2)])
    (video,) = OcrReader(Unsure(), pool_of()).read(records_of(tmp_path / "index"))
    assert times(video.texts) == [("good", 0, 2)]


# Lines that stay


def merged(*frames, length=2.0):
    spans = np.array([[i * length, (i + 1) * length] for i in range(len(frames))])
    return merge_lines([[Line(*line) for line in frame] for frame in frames], spans)


def test_line_that_stays_is_one_text_and_the_others_come_and_go():
    texts = merged(
        [("NEWS", 0.9)],
        [("NEWS", 0.9), ("Rain in the north", 0.8)],
        [("Rain in the north", 0.9), ("NEWS", 0.9)],
        [("NEWS", 0.9), ("Sun in the south", 0.9)],
    )
    assert times(texts) == [
        ("NEWS", 0, 8),
        ("Rain in the north", 2, 6),
        ("Sun in the south", 6, 8),
    ]


def test_line_that_is_misread_now_and_then_is_given_as_it_was_read_best():
    texts = merged([("HARB0UR VIEW", 0.7)], [("HARBOUR VIEW", 0.95)], [("HARBOUR VlEW", 0.8)])
    assert times(texts) == [("HARB0UR VIEW", 0, 2), ("HARBOUR VIEW", 2, 6)]


def test_line_that_comes_back_is_another_text():
    texts = merged([("EXIT", 0.9)], [], [("EXIT", 0.9)])
    assert texts == [TimedText("ocr", 0, 2, "EXIT"), TimedText("ocr", 4, 6, "EXIT")]


def test_same_line_twice_in_a_picture_stays_two():
    texts = merged([("EXIT", 0.9), ("EXIT", 0.9)], [("EXIT", 0.9), ("EXIT", 0.9)])
    assert times(texts) == [("EXIT", 0, 4)] * 2


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Exit!", "EXIT", True),
        ("a quiet morning", "a quite morning", True),
        ("Chapter 1", "Chapter 2", False),
        ("EXIT", "EDIT", False),
        ("\u505c\u8f66", "\u505c\u8f66", True),
        ("\u505c\u8f66", "\u505c\u706b", False),
    ],
)
def test_readings_of_one_line_are_known(one, other, expected):
    assert is_same(Line(one, 1.0), Line(other, 1.0)) == is_same(Line(other, 1), Line(one, 1))
    assert is_same(Line(one, 1.0), Line(other, 1.0)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("42", True), ("\u505c", True), ("a", False), ("-|-", False), ("", False), ("I\u2019m", True)],
)
def test_strokes_are_no_words(text, expected):
    assert is_word(text) == expected


# Words that stand beside each other


def test_words_of_a_line_are_joined_and_columns_are_not():
    def box(left, top, right, bottom):
        return [[left, top], [right, top], [right, bottom], [left, bottom]]

    words = {
        "42": (box(130, 12, 170, 40), 0.8),
        "Platform": (box(10, 10, 120, 42), 0.9),
        "second": (box(10, 60, 90, 90), 0.9),
        "column": (box(300, 10, 400, 42), 0.9),
    }
    boxes = np.array([corners for corners, _ in words.values()], dtype=np.float32)
    lines = join_words(boxes, list(words), [confidence for _, confidence in words.values()])
    assert lines == [("Platform 42", 0.8), ("column", 0.9), ("second", 0.9)]


# Videos that do not decode


def fails_after(num_chunks):
    from reelseek.vision.decoding.frames import iter_frames

    def iterate(path, settings, **options):
        for _, frames in zip(range(num_chunks), iter_frames(path, settings), strict=False):
            frames.__dict__["end"] = None
            yield frames
        raise VideoDecodeError("it breaks off")

    return iterate


@pytest.mark.parametrize(
    ("outcome", "num_chunks", "is_read"),
    [("ok", 0, False), ("ok", 1, False), ("partial", 0, False), ("partial", 1, True)],
)
def test_video_that_breaks_off_is_read_only_if_it_is_known_to(
    tmp_path, outcome, num_chunks, is_read
):
    film = write_film(tmp_path / "film.mkv", [picture(level=120)] * 2)
    film_index(tmp_path / "index", {"film": film}, [(0, 2)], outcome=outcome)
    pool = pool_of(iter_frames=fails_after(num_chunks))
    (video,) = OcrReader(LevelReader(), pool).read(records_of(tmp_path / "index"))
    if is_read:
        assert times(video.texts) == [("one", 0, 2)]
    else:
        assert (video.texts, video.reason) == (None, "it breaks off")


def test_picture_that_cannot_be_read_fails_its_video_alone(tmp_path):
    class Choosy(LevelReader):
        def lines(self, picture):
            if picture.mean() > 150:
                raise RuntimeError("of the reader")
            return super().lines(picture)

    shown = {"dark": [120], "bright": [120, 200, 40]}
    films = {
        key: write_film(tmp_path / f"{key}.mkv", [picture(level=level) for level in levels])
        for key, levels in shown.items()
    }
    film_index(tmp_path / "index", films, [(0, 1), (1, 2), (2, 3)])
    found = {
        video.record.key: video
        for video in OcrReader(Choosy(), pool_of()).read(records_of(tmp_path / "index"))
    }
    assert times(found["dark"].texts) == [("one", 0, 3)]
    assert found["bright"].texts is None
    assert found["bright"].reason == "a picture cannot be read (RuntimeError)"


# The real reader


@pytest.fixture(scope="module")
def rapid_ocr():
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    return RapidOcr()


def test_written_word_leads_to_its_second(tmp_path, rapid_ocr):
    shown = ["", "HARBOUR", "HARBOUR", "Platform 42"]
    film = write_film(tmp_path / "film.mkv", [picture(text) for text in shown for _ in range(2)])
    film_index(tmp_path / "index", {"film": film}, [(0, 2), (2, 4), (4, 6), (6, 8)])
    (video,) = OcrReader(rapid_ocr, pool_of()).read(records_of(tmp_path / "index"))
    assert times(video.texts) == [("HARBOUR", 2, 6), ("Platform 42", 6, 8)]


def test_reader_gives_what_is_written_from_top_to_bottom_and_needs_no_network(
    monkeypatch, rapid_ocr
):
    import socket

    def refuse(*arguments):
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    reader = RapidOcr(num_threads=1)
    both = np.concatenate([picture("First line"), picture("of 2 lines")])
    assert [line.text for line in reader.lines(both)] == ["First line", "of 2 lines"]
    assert reader.lines(picture()) == []
    assert reader.engine.startswith("rapidocr ") and "det" in reader.engine


def test_strip_takes_no_more_than_a_picture(rapid_ocr, monkeypatch):
    """It was made larger until its shorter side was as long as a picture's, and filled memory."""
    shapes = []
    real = rapid_ocr._ocr

    def watched(picture):
        shapes.append(picture.shape)
        return real(picture)

    monkeypatch.setattr(rapid_ocr, "_ocr", watched)
    strip = np.full((10, 400, 3), 128, np.uint8)
    assert rapid_ocr.lines(strip) == rapid_ocr.lines(strip.transpose(1, 0, 2)) == []
    assert shapes == [(100, 400, 3), (400, 100, 3)]
    assert rapid_ocr.lines(np.zeros((7, 1280, 3), np.uint8)) == []
    assert len(shapes) == 2


def test_models_that_are_missing_are_named(monkeypatch, tmp_path):
    pytest.importorskip("rapidocr")
    monkeypatch.setattr("reelseek.indexing.enrich.ocr.resources.files", lambda name: Path(tmp_path))
    with pytest.raises(ValueError, match=r"holds no model for det: pip install --force-reinstall"):
        RapidOcr()
