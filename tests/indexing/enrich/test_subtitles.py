import logging
import os
import random
from contextlib import closing

import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.enrich.__main__ import enrich_index
from reelseek.indexing.enrich.extractor import ReadVideo
from reelseek.indexing.enrich.subtitles import Cue, parse_subtitles
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.texts import TimedText
from reelseek.ranking.searcher import Searcher
from tests.conftest import COLOURS
from tests.indexing.conftest import ColourIndex

SRT = "1\n00:00:02,500 --> 00:00:04,000\nThe quick fox\n\n"
VTT = (
    "WEBVTT\n\nNOTE made by hand\n\nintro\n00:07.000 --> 00:08.500 align:start\n<v Ann>A lazy dog\n"
)


class Listener:
    source, engine = "speech", "fake 1.0"

    def read(self, records):
        for record in records:
            yield ReadVideo(record, [TimedText("speech", 1.0, 2.0, f"heard in {record.key}")])


@pytest.fixture
def videos(write_video, tmp_path):
    folder = tmp_path / "videos"
    for name, colour in zip(("a.mp4", "b.mp4"), COLOURS.values(), strict=False):
        write_video(name, [colour] * 20, fps=2, folder=folder)
    return folder


def texts(index: ColourIndex):
    """By the key of the video, what is said in it and when."""
    with closing(Catalogue(index.folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        keys = {record.id: record.key for record in catalogue.scan()}
        return {
            keys[video_id]: [(text.start_seconds, text.end_seconds, text.text) for text in some]
            for video_id, some in catalogue.texts(list(keys)).items()
        }


def test_search_finds_the_line_at_its_second(colour_index, colour_model, videos):
    (videos / "a.srt").write_text(SRT)
    (videos / "b.en.vtt").write_text(VTT)
    colour_index.update(videos)
    with Searcher(IndexReader(colour_index.folder), colour_model, device="cpu") as searcher:
        (fox, *_) = searcher.search("fox", level="moment", sources=["lexical"])
        assert (fox.key, fox.start_seconds, fox.end_seconds) == ("a.mp4", 2.5, 4.0)
        (dog, *_) = searcher.search("lazy dog", level="moment", sources=["lexical"])
        assert (dog.key, dog.start_seconds, dog.end_seconds) == ("b.mp4", 7.0, 8.5)


def test_files_that_are_added_changed_or_removed_are_noticed(colour_index, videos):
    colour_index.update(videos)
    assert texts(colour_index) == {}
    (videos / "a.srt").write_text(SRT)
    summary = colour_index.update(videos)
    assert (summary.unchanged, summary.indexed, colour_index.decoded) == (2, 0, [])
    assert texts(colour_index) == {"a.mp4": [(2.5, 4.0, "The quick fox")]}

    (videos / "a.srt").write_text(SRT.replace("quick", "very quick"))
    colour_index.update(videos)
    assert texts(colour_index) == {"a.mp4": [(2.5, 4.0, "The very quick fox")]}

    os.remove(videos / "a.srt")
    colour_index.update(videos)
    assert texts(colour_index) == {}


def test_unchanged_files_are_not_read_again(colour_index, videos, monkeypatch):
    (videos / "a.srt").write_text(SRT)
    colour_index.update(videos)
    before = texts(colour_index)
    monkeypatch.setattr("reelseek.indexing.enrich.subtitles._read_cues", pytest.fail)
    colour_index.update(videos)
    assert texts(colour_index) == before


def test_what_is_heard_does_not_replace_subtitles_nor_the_other_way_round(colour_index, videos):
    (videos / "a.srt").write_text(SRT)
    colour_index.update(videos)
    enrich_index(colour_index.folder, [Listener()], show_progress=False)
    heard = {"a.mp4": [(2.5, 4.0, "The quick fox")], "b.mp4": [(1.0, 2.0, "heard in b.mp4")]}
    assert texts(colour_index) == heard
    colour_index.update(videos)
    assert texts(colour_index) == heard  # b has no file, and keeps what was heard

    (videos / "b.srt").write_text(SRT)  # a person knows better
    colour_index.update(videos)
    assert texts(colour_index)["b.mp4"] == [(2.5, 4.0, "The quick fox")]


def test_only_the_videos_own_files_count_each_line_once(colour_index, videos):
    for name in ("a.srt", "a.vtt", "a.en.SRT"):
        (videos / name).write_text(SRT)
    (videos / "a.de.srt").write_text(SRT.replace("The quick fox", "Der flinke Fuchs"))
    (videos / "aa.srt").write_text(SRT.replace("fox", "wolf"))
    (videos / "a.extended.cut.srt").write_text(SRT.replace("fox", "bear"))
    colour_index.update(videos)
    said = [text for _, _, text in texts(colour_index)["a.mp4"]]
    assert sorted(said) == ["Der flinke Fuchs", "The quick fox"]


def test_lines_end_with_the_video(colour_index, videos):
    late = "9\n00:00:09,000 --> 00:00:30,000\nend\n\n00:00:11,000 --> 00:00:12,000\nbeyond\n"
    (videos / "a.srt").write_text(late)
    colour_index.update(videos)
    assert texts(colour_index)["a.mp4"] == [(9.0, pytest.approx(10.0, abs=0.01), "end")]


@pytest.mark.parametrize(
    "content", [b"", b"no times\n", b"\0" * 1000, b"00:00:05,000 --> 00:00:02,000\nback\n"]
)
def test_file_that_cannot_be_read_is_a_line_in_the_log(colour_index, videos, caplog, content):
    (videos / "a.srt").write_bytes(content)
    (videos / "b.srt").write_text(SRT)
    (videos / "c.srt").mkdir()
    os.mkfifo(videos / "b.en.srt")
    with caplog.at_level(logging.WARNING):
        summary = colour_index.update(videos)
    assert summary.indexed == 2
    (line,) = [record.getMessage() for record in caplog.records]
    assert "a.srt: its subtitles are passed over: it holds no subtitles" in line
    assert list(texts(colour_index)) == ["b.mp4"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (SRT.replace("fox", "renard blessé").encode("utf-8"), "The quick renard blessé"),
        (SRT.replace("fox", "blessé").encode("utf-8-sig"), "The quick blessé"),
        (SRT.replace("fox", "blessé").encode("cp1252"), "The quick blessé"),
        (SRT.replace("fox", "blessé").encode("utf-16"), "The quick blessé"),
        (SRT.replace("\n", "\r\n").encode(), "The quick fox"),
        (SRT.replace("fox", r"<i>fox</i> {\an8}&amp; <b>dog").encode(), "The quick fox & dog"),
        (SRT.replace("quick ", "quick\n").rstrip().encode(), "The quick fox"),
        (SRT.replace("fox", "I <3 you {sic}").encode(), "The quick I <3 you {sic}"),
    ],
)
def test_encodings_and_tags(content, text):
    assert parse_subtitles(content) == [Cue(2.5, 4.0, text)]


def test_hours_may_be_left_out_and_fractions_short():
    (cue,) = parse_subtitles(b"WEBVTT\n\n01:02.5 --> 1:00:00.25\nx")
    assert (cue.start_seconds, cue.end_seconds) == (62.5, 3600.25)


def test_hostile_content_gives_cues_or_an_error():
    rng = random.Random(0)
    pieces = [b"-->", b"00:00:01,000", b"99:99:99,999", b" ", b"\n", b"<", b"{\\", b"\xff", b"&#0;"]
    for _ in range(3000):
        content = b"".join(rng.choices(pieces, k=rng.randint(0, 20)))
        try:
            for cue in parse_subtitles(content):
                TimedText("speech", cue.start_seconds, cue.end_seconds, cue.text)
        except ValueError as error:
            assert str(error) == "it holds no subtitles that can be read"
