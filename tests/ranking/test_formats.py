import csv
import io

import pytest

from reelseek.ranking import formats
from reelseek.ranking.hits import SearchHit


def hit(rank, key, start, end, **values):
    return SearchHit(
        rank=rank,
        id=f"id{rank}",
        video=f"/videos/{key}",
        score=0.5,
        start_seconds=start,
        end_seconds=end,
        best_seconds=start,
        duration_seconds=100.0,
        key=key,
        confidence=0.4,
        **values,
    )


HITS = [
    hit(1, "a b.mp4", 12.48, 14.0, metadata={"title": 'Dogs, "wet"\nand dry'}),
    hit(2, "c.mp4", 3723.0416, 3724.9999),
]


def test_csv_is_read_back_as_it_was():
    text = formats.to_csv(HITS)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["key"] for row in rows] == ["a b.mp4", "c.mp4"]
    assert rows[0]["title"] == HITS[0].metadata["title"] and rows[1]["title"] == ""
    assert float(rows[1]["start_seconds"]) == HITS[1].start_seconds
    assert text.startswith("rank,id,key,video,score,confidence,start_seconds,end_seconds,")
    assert formats.to_csv([]).count("\n") == 1


def test_srt_has_the_times_in_order_of_time():
    assert formats.to_srt(HITS[::-1]) == (
        "1\n00:00:12,480 --> 00:00:14,000\n1. a b.mp4 (40 %)\n\n"
        "2\n01:02:03,042 --> 01:02:05,000\n2. c.mp4 (40 %)\n"
    )
    assert formats.to_srt([]) == ""


def test_otio_is_read_back_by_opentimelineio():
    otio = pytest.importorskip("opentimelineio")
    text = formats.to_otio(HITS, name="a dog", rate=25.0)
    timeline = otio.adapters.read_from_string(text, "otio_json")
    assert timeline.name == "a dog"
    first, second = timeline.find_clips()
    assert first.name == "a b.mp4" and second.name == "c.mp4"
    assert first.media_reference.target_url == "file:///videos/a%20b.mp4"
    assert first.media_reference.available_range.duration.to_seconds() == 100.0
    assert (first.source_range.start_time.value, first.source_range.duration.value) == (312, 38)
    assert first.source_range.start_time.rate == 25.0
    assert dict(first.metadata["reelseek"]) == {
        **{"rank": 1, "id": "id1", "key": "a b.mp4", "score": 0.5, "confidence": 0.4},
    }
    assert timeline.duration().value == 38 + 49


@pytest.mark.parametrize(
    ("rate", "source", "record"),
    [
        (25.0, ("00:00:12:12", "00:00:14:00"), ("00:00:00:00", "00:00:01:13")),
        (30.0, ("00:00:12:14", "00:00:14:00"), ("00:00:00:00", "00:00:01:16")),
    ],
)
def test_edl_has_timecodes_at_the_rate(rate, source, record):
    pytest.importorskip("otio_cmx3600_adapter")
    lines = formats.to_edl(HITS, name="a\ndog", rate=rate).splitlines()
    assert lines[0] == "TITLE: a dog"
    (first, _) = (line.split() for line in lines if line[:3] in ("001", "002"))
    assert (first[-4], first[-3]) == source and (first[-2], first[-1]) == record
    assert "* FROM CLIP NAME:  a b.mp4" in lines


def test_rate_is_one_that_timecodes_are_defined_for():
    assert formats.timecode_rate(23.97) == 24000 / 1001
    assert formats.timecode_rate(25.0) == 25.0
    assert formats.timecode_rate(2.0) == 24000 / 1001
    assert formats.timecode_rate(240.0) == 60.0


@pytest.mark.parametrize("rate", formats._TIMECODE_RATES)
def test_every_rate_is_taken(rate):
    pytest.importorskip("otio_cmx3600_adapter")
    lines = formats.to_edl(HITS, name="dogs", rate=rate).splitlines()
    assert [line[:3] for line in lines if line[:1] == "0"] == ["001", "002"]


def test_format_that_needs_a_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for name in formats.TIMELINES:
        with pytest.raises(ValueError, match=rf"format={name}.*pip install 'reelseek\[editing\]'"):
            formats.check_format(name)
    formats.check_format("csv")
