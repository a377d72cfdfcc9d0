import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from indexing.catalogue import Catalogue, FileStamp, NewVideo, SegmentRecord


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalogue.sqlite"


@pytest.fixture
def catalogue(path):
    with closing(Catalogue(path)) as catalogue:
        yield catalogue


def new_video(key, *, num_segments=2, **values):
    spans = np.array([[2.0 * i, 2.0 * i + 4.0] for i in range(num_segments)])
    stamp = FileStamp(10, 20, f"sha of {key}")
    video = NewVideo(key, f"/videos/{key}", stamp, "ok", spans=spans.reshape(-1, 2), **values)
    return video


def places(part, first, num_segments=2):
    """The locations of a video whose embeddings are the rows of a part from `first` on."""
    return np.array([[part, first + i] for i in range(1 + num_segments)])


def failed_video(key):
    stamp = FileStamp(1, 2, "sha")
    return NewVideo(key, f"/{key}", stamp, "failed", "is broken"), np.empty((0, 2), np.int64)


def test_record_holds_what_was_stored(catalogue):
    metadata = {
        "captions": ["a caf\u00e9", "\u732b\U0001f408", "\u2028\x00"],
        "n": [1, {"x": None}],
    }
    video = new_video(
        "\u00e9/\u732b.mp4", decoder="pyav", num_frames=7, duration_seconds=5.5, metadata=metadata
    )
    catalogue.store([video], [places(3, 4)], next_part=4)
    record = catalogue.records()["\u00e9/\u732b.mp4"]
    for (
        name
    ) in "key path stamp outcome reason decoder num_frames duration_seconds metadata".split():
        assert getattr(record, name) == getattr(video, name)
    assert record.location == (3, 4)
    assert catalogue.videos([record.id]) == {record.id: record}
    assert catalogue.counter("next_part") == 4


def test_failed_video_is_remembered_and_not_searchable(catalogue):
    video, nowhere = failed_video("a")
    catalogue.store([video], [nowhere])
    record = catalogue.records()["a"]
    assert (record.outcome, record.reason, record.location) == ("failed", "is broken", None)
    for level in ("video", "moment"):
        ids, locations = catalogue.embedding_table(level)
        assert (ids.shape, locations.shape) == ((0,), (0, 2))


def test_segments_come_in_order_of_time(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [places(1, 0), places(1, 3)])
    a, b = (catalogue.records()[key].id for key in "ab")
    segments = catalogue.segments_of_videos([b, a])
    assert [(s.start_seconds, s.end_seconds, s.location) for s in segments[b]] == [
        (0.0, 4.0, (1, 4)),
        (2.0, 6.0, (1, 5)),
    ]
    assert [s.location for s in segments[a]] == [(1, 1), (1, 2)]
    assert all(isinstance(s, SegmentRecord) and s.video_id == a for s in segments[a])
    ids = [s.id for s in (*segments[a], *segments[b])]
    assert catalogue.video_ids_of_segments(ids) == dict(zip(ids, [a, a, b, b], strict=True))


def test_embedding_table_names_every_searchable_row(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [places(1, 0), places(1, 3)])
    video_ids, video_locations = catalogue.embedding_table("video")
    segment_ids, segment_locations = catalogue.embedding_table("moment")
    assert video_ids.tolist() == [catalogue.records()[key].id for key in "ab"]
    assert video_locations.tolist() == [[1, 0], [1, 3]]
    assert segment_locations.tolist() == [[1, 1], [1, 2], [1, 4], [1, 5]]
    assert len(set(segment_ids.tolist())) == 4


def test_ids_are_never_used_again(catalogue):
    seen_videos, seen_segments = [], []
    for part in range(1, 5):
        catalogue.store([new_video("a")], [places(part, 0)])
        seen_videos += catalogue.embedding_table("video")[0].tolist()
        seen_segments += catalogue.embedding_table("moment")[0].tolist()
    catalogue.store([], [], deleted_keys=["a"])
    catalogue.store([new_video("b")], [places(5, 0)])
    seen_videos += catalogue.embedding_table("video")[0].tolist()
    seen_segments += catalogue.embedding_table("moment")[0].tolist()
    assert len(set(seen_videos)) == len(seen_videos) == 5
    assert len(set(seen_segments)) == len(seen_segments) == 10


def test_deleting_a_video_deletes_its_segments(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [places(1, 0), places(2, 0)])
    a, b = (catalogue.records()[key].id for key in "ab")
    a_segments = [segment.id for segment in catalogue.segments_of_videos([a])[a]]
    catalogue.store([], [], deleted_keys=["a", "never there"])
    assert list(catalogue.records()) == ["b"]
    assert catalogue.segments_of_videos([a, b])[a] == []
    assert catalogue.video_ids_of_segments(a_segments) == {}
    assert catalogue.videos([a, b]).keys() == {b}
    assert catalogue.used_parts() == {2}


def test_replacing_a_video_retires_its_segments(catalogue):
    catalogue.store([new_video("a")], [places(1, 0)])
    catalogue.store([new_video("a", num_segments=1)], [places(2, 0, num_segments=1)])
    assert catalogue.embedding_table("video")[1].tolist() == [[2, 0]]
    assert catalogue.embedding_table("moment")[1].tolist() == [[2, 1]]
    assert catalogue.used_parts() == {2}


def test_update_keeps_id_and_embeddings(catalogue):
    catalogue.store([new_video("a")], [places(1, 0)])
    before = catalogue.records()["a"]
    stamp = FileStamp(11, 21, before.stamp.content_sha256)
    catalogue.update(before.id, key="b", path="/b", stamp=stamp, metadata={"title": "B"})
    after = catalogue.records()["b"]
    assert (after.id, after.location) == (before.id, before.location)
    assert (after.path, after.stamp, after.metadata) == ("/b", stamp, {"title": "B"})
    assert len(catalogue.segments_of_videos([before.id])[before.id]) == 2


def test_every_change_counts(catalogue):
    assert catalogue.counter("revision") == 0
    catalogue.store([new_video("a")], [places(1, 0)])
    record = catalogue.records()["a"]
    catalogue.update(record.id, key="a", path="/a", stamp=record.stamp, metadata={})
    catalogue.store([], [], deleted_keys=["a"])
    assert catalogue.counter("revision") == 3


def test_change_that_breaks_off_leaves_nothing(catalogue):
    catalogue.store([new_video("a")], [places(1, 0)])
    broken = new_video("c", metadata={"not for JSON": object()})
    with pytest.raises(TypeError):
        catalogue.store(
            [new_video("b"), broken], [places(2, 0), places(2, 3)], next_part=3, deleted_keys=["a"]
        )
    assert list(catalogue.records()) == ["a"]
    assert (catalogue.counter("revision"), catalogue.counter("next_part")) == (1, 1)


def test_more_ids_than_sqlite_takes_at_once(catalogue):
    many = range(40_000)  # SQLite's limit of values is 32,766
    videos = [new_video(f"{i}", num_segments=1) for i in range(1200)]
    catalogue.store(videos, [places(1, 2 * i, num_segments=1) for i in range(1200)])
    records = catalogue.records()
    assert catalogue.videos(many) == {record.id: record for record in records.values()}
    segments = catalogue.segments_of_videos([record.id for record in records.values()])
    assert [segments[records[f"{i}"].id][0].location for i in range(1200)] == [
        (1, 2 * i + 1) for i in range(1200)
    ]
    assert len(catalogue.video_ids_of_segments(many)) == 1200


def test_numpy_ids_are_as_good_as_python_ones(catalogue):
    catalogue.store([new_video("a")], [places(1, 0)])
    ids, _ = catalogue.embedding_table("video")
    assert list(catalogue.videos(ids).values()) == [catalogue.records()["a"]]


def test_what_was_stored_is_there_when_opened_again(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video("a")], [places(1, 0)], next_part=2)
        before = catalogue.records()
    for read_only in (False, True):
        with closing(Catalogue(path, read_only=read_only)) as catalogue:
            assert catalogue.records() == before
            assert catalogue.counter("next_part") == 2


def test_read_only_catalogue_cannot_be_changed(catalogue, path):
    reader = Catalogue(path, read_only=True)
    with closing(reader), pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.store([new_video("a")], [places(1, 0)])
    assert catalogue.records() == {}


def test_reader_sees_what_is_stored_after_it_was_opened(catalogue, path):
    with closing(Catalogue(path, read_only=True)) as reader:
        catalogue.store([new_video("a")], [places(1, 0)])
        assert list(reader.records()) == ["a"]


def test_reader_undoes_the_change_in_which_a_writer_was_killed(path, tmp_path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video("a")], [places(1, 0)])
    # As a killed writer leaves them: the file half changed, and the journal of what it was.
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 2")
        writer.execute("BEGIN")
        writer.execute("DELETE FROM videos")
        rows = [(f"{i}" * 50, i) for i in range(2000)]
        writer.executemany("INSERT INTO counters VALUES (?, ?)", rows)
        killed = tmp_path / "killed"
        killed.mkdir()
        for file in tmp_path.glob("catalogue.sqlite*"):
            shutil.copy(file, killed)
        writer.execute("ROLLBACK")
    assert (killed / "catalogue.sqlite-journal").stat().st_size > 0
    with closing(Catalogue(killed / "catalogue.sqlite", read_only=True)) as reader:
        assert list(reader.records()) == ["a"]


def test_missing_catalogue_is_an_error_for_a_reader_and_is_not_made(path):
    with pytest.raises(ValueError, match=r"catalogue.sqlite is missing or damaged"):
        Catalogue(path, read_only=True)
    assert not path.exists()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "content", [b"not SQLite at all" * 100, b"SQLite format 3\0" + b"\1" * 900]
)
def test_file_that_is_not_a_catalogue_is_named(path, content, read_only):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"catalogue.sqlite is missing or damaged"):
        Catalogue(path, read_only=read_only)


def test_damage_that_shows_only_in_a_query_is_named(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store(
            [new_video(f"{i}") for i in range(500)], [places(1, 3 * i) for i in range(500)]
        )
    content = bytearray(path.read_bytes())
    table = range(8 * 4096, len(content))  # behind the schema and the counters
    content[table.start : table.stop] = b"\xff" * len(table)
    path.write_bytes(content)
    reader = Catalogue(path, read_only=True)
    with closing(reader), pytest.raises(ValueError, match=r"catalogue.sqlite is damaged .*; index"):
        reader.records()
