import json
import os
from contextlib import closing

import av
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.store.dates import date_of
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.visual import whole_match
from tests.conftest import COLOURS
from tests.indexing.conftest import QUERIES
from tests.indexing.searching import search

RED = COLOURS["red"]
APPLE = "com.apple.quicktime.creationdate"
FILE_TIME = 1_600_000_000  # 2020-09-13T12:26:40Z


@pytest.fixture
def tagged(write_video, tmp_path):
    """Writes a red video into the folder, its container with these tags, and sets its time."""

    def write(name, **tags):
        plain = write_video(f"plain-{name}", [RED] * 6, fps=2)
        path = tmp_path / "videos" / name
        path.parent.mkdir(exist_ok=True)
        options = {"movflags": "use_metadata_tags"}
        with av.open(str(plain)) as source, av.open(str(path), "w", options=options) as output:
            output.metadata.update(tags)
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
        os.utime(path, (FILE_TIME, FILE_TIME))
        return path

    return write


def dates(index):
    with closing(IndexReader(index.folder)) as reader:  # copies too, which a search has as one hit
        videos = Retriever(reader).videos(reader.video_ids())
    matches = [whole_match(video, video.scores(QUERIES["red"])) for video in videos.values()]
    hits = [match.hit(1) for match in matches]
    return {hit.key: (hit.date, hit.date_source) for hit in hits}


def matching(index, where):
    with closing(IndexReader(index.folder)) as reader:
        return sorted(hit.key for hit in search(reader, QUERIES["red"], k=99, where=where))


def test_folder_has_the_dates_of_its_files(colour_index, tagged, tmp_path):
    tagged("camera.mp4", creation_time="2019-07-14T08:30:05Z")
    tagged("phone.mov", creation_time="2024-12-31T23:30:00Z", **{APPLE: "2025-01-01T00:30:00+0100"})
    tagged("unset.mp4", creation_time="1970-01-01T00:00:00Z")
    colour_index.update(tmp_path / "videos")
    assert dates(colour_index) == {
        "camera.mp4": ("2019-07-14T08:30:05+00:00", "creation_time"),
        "phone.mov": ("2025-01-01T00:30:00+01:00", APPLE),
        "unset.mp4": ("2020-09-13T12:26:40+00:00", "file time"),
    }
    assert matching(colour_index, "date < 2020") == ["camera.mp4"]
    assert matching(colour_index, "date < 2025") == ["camera.mp4", "unset.mp4"]
    assert matching(colour_index, "date = 2025-01-01") == ["phone.mov"]
    assert matching(colour_index, "date = '2020-09-13'") == ["unset.mp4"]


def test_date_of_a_list_goes_before_the_files_and_comes_and_goes(colour_index, tagged, tmp_path):
    tagged("a.mp4", creation_time="2019-07-14T08:30:05Z")
    listed = tmp_path / "videos" / "list.jsonl"

    def run(**metadata):
        listed.write_text(json.dumps({"video": "a.mp4"} | metadata))
        summary = colour_index.update(listed)
        return (*dates(colour_index)["a.mp4"], bool(summary.indexed))

    in_file = ("2019-07-14T08:30:05+00:00", "creation_time")
    assert run(title="a") == (*in_file, True)
    assert run(title="b") == (*in_file, False)
    assert run(date="2001-02-03 04:05") == ("2001-02-03T04:05", "list", False)
    assert matching(colour_index, "date < 2002") == ["a.mp4"]
    assert run(date=1999) == ("1999", "list", False)
    assert run(date=None) == (*in_file, False)
    assert run() == (*in_file, False)
    assert matching(colour_index, "date < 2002") == []


def test_copied_and_moved_videos_keep_the_date(colour_index, tagged, tmp_path):
    path = tagged("a.mp4", creation_time="2019-07-14T08:30:05Z")
    colour_index.update(tmp_path / "videos")
    (tmp_path / "videos" / "copy.mp4").write_bytes(path.read_bytes())
    path.rename(path.with_name("moved.mp4"))
    colour_index.update(tmp_path / "videos")
    assert not colour_index.decoded
    in_file = ("2019-07-14T08:30:05+00:00", "creation_time")
    assert dates(colour_index) == {"copy.mp4": in_file, "moved.mp4": in_file}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"date": "2024"}, ("2024", "list")),
        ({"date": True}, ("2020-09-13T12:26:40+00:00", "file time")),
        ({"date": ["2024"], "captured": {"date": "2021", "tag": "date"}}, ("2021", "date")),
        ({"captured": "yesterday"}, ("2020-09-13T12:26:40+00:00", "file time")),
    ],
)
def test_date_is_what_filters_compare(metadata, expected):
    assert date_of(metadata, FILE_TIME * 10**9) == expected
