import errno
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing.store import videos
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.salvage import rebuild_catalogue
from reelseek.indexing.store.videos import FileSignature, NewVideo


@pytest.fixture
def path(tmp_path):
    return tmp_path / "videos.sqlite"


@pytest.fixture
def catalogue(path):
    with closing(Catalogue(path)) as catalogue:
        yield catalogue


def new_video(key, *, num_segments=2, **values):
    spans = np.array([[2.0 * i, 2.0 * i + 4.0] for i in range(num_segments)])
    signature = FileSignature(10, 20, f"sha of {key}")
    return NewVideo(key, f"/videos/{key}", signature, "ok", spans=spans.reshape(-1, 2), **values)


def failed_video(key):
    return NewVideo(key, f"/{key}", FileSignature(1, 2, "sha"), "failed", "is broken")


def plain(record):
    """A record that can be compared."""
    return replace(record, spans=record.spans.tolist(), frame_times=record.frame_times.tolist())


def plain_records(catalogue):
    return {key: plain(record) for key, record in catalogue.records().items()}


def spoil(path, key, /, **values):
    """Changes an entry behind the catalogue's back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, value in values.items():
            connection.execute(f"UPDATE videos SET {name} = ? WHERE key = ?", (value, key))


def spoil_page(path, text):
    """Overwrites the page that holds an entry."""
    with closing(sqlite3.connect(path)) as connection:
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
    content = bytearray(path.read_bytes())
    first = content.index(text) // page_bytes * page_bytes
    content[first : first + page_bytes] = b"\xff" * page_bytes
    path.write_bytes(content)


def test_record_holds_what_was_stored(catalogue):
    metadata = {
        "captions": ["a caf\u00e9", "\u732b\U0001f408", "\u2028\x00"],
        "n": [1, {"x": None}],
    }
    video = new_video(
        "\u00e9/\u732b.mp4",
        decoder="pyav",
        num_frames=7,
        duration_seconds=5.5,
        metadata=metadata,
        frame_times=np.array([0.1, 1 / 3, 5.4999]),
    )
    catalogue.store([video], [(3, 4)], next_part=4)
    record = catalogue.records()["\u00e9/\u732b.mp4"]
    for name, value in vars(plain(video)).items():
        if name != "public_id":
            assert getattr(plain(record), name) == value
    assert record.public_id == make_video_id("", video.key)
    assert record.location == (3, 4)
    assert record.num_rows == 1 + 2 + 3
    assert {n: plain(r) for n, r in catalogue.videos([record.id]).items()} == {
        record.id: plain(record)
    }
    assert catalogue.counter("next_part") == 4


def test_checkpoint_cuts_off_the_log_when_no_reader_is_in_the_way(tmp_path):
    catalogue = Catalogue(tmp_path / "videos.sqlite")
    log = tmp_path / "videos.sqlite-wal"
    catalogue.store([new_video(str(n)) for n in range(50)], [(1, 3 * n) for n in range(50)])
    assert log.stat().st_size > 0
    reader = sqlite3.connect(tmp_path / "videos.sqlite")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM videos").fetchone()
    catalogue.store([new_video("more")], [(2, 0)])
    started = time.monotonic()
    catalogue.checkpoint()
    assert time.monotonic() - started < 5  # it does not wait for the reader
    assert log.stat().st_size > 0
    assert reader.execute("SELECT count(*) FROM videos").fetchone() == (50,)
    reader.close()
    catalogue.checkpoint()
    assert log.stat().st_size == 0
    assert len(catalogue.records()) == 51
    catalogue.store([new_video("last")], [(3, 0)])
    catalogue.close()
    again = Catalogue(tmp_path / "videos.sqlite", read_only=True)
    assert len(again.records()) == 52
    again.close()


def test_failed_video_is_remembered_and_not_searchable(catalogue):
    catalogue.store([failed_video("a"), new_video("b")], [None, (1, 0)])
    record = catalogue.records()["a"]
    assert (record.outcome, record.reason, record.location) == ("failed", "is broken", None)
    assert (record.spans.shape, record.frame_times.shape, record.num_rows) == ((0, 2), (0,), 0)
    b = catalogue.records()["b"].id
    assert catalogue.searchable_ids().tolist() == [b]
    assert catalogue.matching_ids("key IN (?, ?)", ["a", "b"]).tolist() == [b]
    matching = catalogue.matching("key IN (?, ?)", ["a", "b"])
    assert [each.root_and_key for each in matching] == [("", "a"), ("", "b")]


def test_segments_come_in_order_of_time(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [(1, 0), (1, 3)])
    for record in catalogue.scan():
        assert record.spans.dtype == np.float64
        assert record.spans.tolist() == [[0.0, 4.0], [2.0, 6.0]]


def test_scan_names_every_video_in_order_of_its_id(catalogue):
    catalogue.store([new_video(key) for key in "bca"], [(1, 0), (1, 3), (1, 6)])
    found = list(catalogue.scan())
    assert [record.key for record in found] == ["b", "c", "a"]
    assert [record.location for record in found] == [(1, 0), (1, 3), (1, 6)]
    ids = [record.id for record in found]
    assert ids == sorted(ids) == catalogue.searchable_ids().tolist()
    assert [record.key for record in catalogue.scan(after=ids[0])] == ["c", "a"]
    assert list(catalogue.scan(after=ids[-1])) == []


def test_ids_are_never_used_again(catalogue):
    seen = []
    for part in range(1, 5):
        catalogue.store([new_video("a")], [(part, 0)])
        seen += catalogue.searchable_ids().tolist()
    catalogue.store([], [], deleted_keys=["a"])
    catalogue.store([new_video("b")], [(5, 0)])
    seen += catalogue.searchable_ids().tolist()
    assert len(set(seen)) == len(seen) == 5


def test_deleted_video_is_gone(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [(1, 0), (2, 0)])
    a, b = (catalogue.records()[key].id for key in "ab")
    catalogue.store([], [], deleted_keys=["a", "never there"])
    assert list(catalogue.records()) == ["b"]
    assert catalogue.videos([a, b]).keys() == {b}
    assert catalogue.searchable_ids().tolist() == [b]


def test_replacing_a_video_retires_its_segments(catalogue):
    catalogue.store([new_video("a")], [(1, 0)])
    before = catalogue.records()["a"].id
    catalogue.store([new_video("a", num_segments=1)], [(2, 0)])
    (record,) = catalogue.scan()
    assert record.id != before
    assert (record.location, record.spans.tolist()) == ((2, 0), [[0.0, 4.0]])
    assert catalogue.videos([before]) == {}


def test_update_keeps_id_and_embeddings(catalogue):
    catalogue.store([new_video("a", frame_times=np.array([1.5]))], [(1, 0)])
    before = catalogue.records()["a"]
    signature = FileSignature(11, 21, before.signature.content_sha256)
    catalogue.update(before, key="b", path="/b", signature=signature, metadata={"title": "B"})
    after = catalogue.records()["b"]
    changed = {"key": "b", "path": "/b", "signature": signature, "metadata": {"title": "B"}}
    assert plain(after) == replace(plain(before), **changed)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"key": "b"},
        {"path": "/b"},
        {"signature": FileSignature(11, 21, "other")},
        {"metadata": {"title": "B"}},
        {"metadata": {}},
    ],
)
def test_update_changes_nothing_else(catalogue, change):
    catalogue.store([new_video("a", metadata={"title": "A"})], [(1, 0)])
    before = catalogue.records()["a"]
    catalogue.update(before, **change)
    (after,) = catalogue.scan()
    assert plain(after) == replace(plain(before), **change)


def test_relocated_video_is_the_same_elsewhere(catalogue):
    catalogue.store([new_video("a"), new_video("b")], [(1, 0), (1, 3)], next_part=2)
    before = catalogue.records()
    catalogue.relocate([(before["b"], (2, 0))], next_part=3)
    assert plain_records(catalogue) == {
        "a": plain(before["a"]),
        "b": replace(plain(before["b"]), location=(2, 0)),
    }
    assert catalogue.counter("next_part") == 3


def test_every_change_counts(catalogue):
    assert catalogue.counter("revision") == 0
    catalogue.store([new_video("a")], [(1, 0)])
    record = catalogue.records()["a"]
    catalogue.update(record, path="/a", metadata={})
    catalogue.relocate([(record, (2, 0))], next_part=3)
    catalogue.store([], [], deleted_keys=["a"])
    assert catalogue.counter("revision") == 4


def test_change_that_breaks_off_leaves_nothing(catalogue):
    catalogue.store([new_video("a")], [(1, 0)])
    broken = new_video("c", metadata={"not for JSON": object()})
    with pytest.raises(TypeError):
        catalogue.store([new_video("b"), broken], [(2, 0), (2, 3)], next_part=3, deleted_keys=["a"])
    assert list(catalogue.records()) == ["a"]
    assert (catalogue.counter("revision"), catalogue.counter("next_part")) == (1, 1)


def test_more_ids_than_sqlite_takes_at_once(catalogue):
    many = range(40_000)  # SQLite's limit of values is 32,766
    videos = [new_video(f"{i}", num_segments=1) for i in range(1200)]
    catalogue.store(videos, [(1, 2 * i) for i in range(1200)])
    records = catalogue.videos(many)
    assert [record.key for record in records.values()] == [f"{i}" for i in range(1200)]
    assert [record.location for record in records.values()] == [(1, 2 * i) for i in range(1200)]
    assert list(records) == catalogue.searchable_ids().tolist()


def test_numpy_ids_are_as_good_as_python_ones(catalogue):
    catalogue.store([new_video("a")], [(1, 0)])
    (record,) = catalogue.videos(catalogue.searchable_ids()).values()
    assert plain(record) == plain_records(catalogue)["a"]


def test_facts_are_kept(catalogue):
    assert catalogue.index_metadata("settings") is None
    for text in ("", "{}", "caf\u00e9 \u732b"):
        catalogue.set_index_metadata("settings", text)
        assert catalogue.index_metadata("settings") == text
    assert catalogue.counter("revision") == 0  # nothing that could be searched has changed


def test_what_was_stored_is_there_when_opened_again(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video("a"), failed_video("b")], [(1, 0), None], next_part=2)
        catalogue.set_index_metadata("frame_spread", "0.25")
        before = plain_records(catalogue)
    for read_only in (False, True):
        with closing(Catalogue(path, read_only=read_only)) as catalogue:
            assert plain_records(catalogue) == before
            assert catalogue.counter("next_part") == 2
            assert catalogue.index_metadata("frame_spread") == "0.25"


def test_read_only_catalogue_cannot_be_changed(catalogue, path):
    reader = Catalogue(path, read_only=True)
    with closing(reader), pytest.raises(OSError) as raised:
        reader.store([new_video("a")], [(1, 0)])
    assert (raised.value.errno, raised.value.filename) == (errno.EROFS, str(path))
    assert catalogue.records() == {}


def test_reader_sees_what_is_stored_after_it_was_opened(catalogue, path):
    with closing(Catalogue(path, read_only=True)) as reader:
        catalogue.store([new_video("a")], [(1, 0)])
        assert list(reader.records()) == ["a"]


def test_reader_waits_for_no_writer(catalogue, path):
    catalogue.store([new_video("a")], [(1, 0)])
    with closing(Catalogue(path, read_only=True)) as reader, catalogue._connection as writing:
        writing.execute("DELETE FROM videos")
        assert list(reader.records()) == ["a"]
    assert catalogue.records() == {}


@pytest.mark.parametrize("lost", [None, "videos.sqlite-shm"])
def test_reader_undoes_the_change_in_which_a_writer_was_killed(path, tmp_path, lost):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video("a")], [(1, 0)])
    # As a killed writer leaves them: the log holds half of a change.
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 2")
        writer.execute("BEGIN")
        writer.execute("DELETE FROM videos")
        rows = [(f"{i}" * 50, i) for i in range(2000)]
        writer.executemany("INSERT INTO counters VALUES (?, ?)", rows)
        killed = tmp_path / "killed"
        killed.mkdir()
        for file in tmp_path.glob("videos.sqlite*"):
            if file.name != lost:
                shutil.copy(file, killed)
        writer.execute("ROLLBACK")
    assert (killed / "videos.sqlite-wal").stat().st_size > 0
    with closing(Catalogue(killed / "videos.sqlite", read_only=True)) as reader:
        assert list(reader.records()) == ["a"]


# Damage


def test_missing_catalogue_is_an_error_for_a_reader_and_is_not_made(path):
    with pytest.raises(ValueError, match=r"videos.sqlite is missing or damaged"):
        Catalogue(path, read_only=True)
    assert not path.exists()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    "content", [b"not SQLite at all" * 100, b"SQLite format 3\0" + b"\1" * 900]
)
def test_file_that_is_not_a_catalogue_is_named(path, content, read_only):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"videos.sqlite is missing or damaged .*; run .*repair"):
        Catalogue(path, read_only=read_only)


def test_damage_that_shows_only_in_a_query_is_named(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video(f"{i}") for i in range(500)], [(1, 3 * i) for i in range(500)])
    content = bytearray(path.read_bytes())
    table = range(8 * 4096, len(content))  # behind the schema and the counters
    content[table.start : table.stop] = b"\xff" * len(table)
    path.write_bytes(content)
    reader = Catalogue(path, read_only=True)
    message = r"videos.sqlite is missing or damaged \(.*\); run reelseek repair"
    with closing(reader), pytest.raises(ValueError, match=message):
        reader.records()


@pytest.mark.parametrize(
    "change",
    [
        {"key": "z"},
        {"path": "/videos/z"},
        {"size_bytes": 11},
        {"content_sha256": "sha of z"},
        {"outcome": "partial"},
        {"duration_seconds": 1e-9},
        {"metadata": '{"title": "z"}'},
        {"spans": bytes(32)},
        {"frame_times": bytes(8)},
        {"part": 2},
        {"row": 4},
        {"row": None},
        {"checksum": 0},
    ],
    ids=str,
)
def test_entry_that_is_not_what_was_written_is_named(catalogue, path, change):
    catalogue.store([new_video("a"), new_video("b")], [(1, 0), (1, 3)])
    a, b = catalogue.searchable_ids().tolist()
    spoil(path, "b", **change)
    with pytest.raises(ValueError, match=rf"damaged \(the entry of video {b}\); run .*repair"):
        catalogue.records()
    with pytest.raises(ValueError, match=rf"the entry of video {b}"):
        catalogue.videos([a, b])
    assert catalogue.videos([a]).keys() == {a}
    assert catalogue.integrity_problems() == []


def test_damaged_entries_are_dropped_and_the_others_stay(catalogue, path):
    catalogue.store([new_video(key) for key in "abc"], [(1, 0), (1, 3), (1, 6)])
    spoil(path, "a", path="/elsewhere")
    spoil(path, "c", part=9)
    assert catalogue.drop_damaged() == ["a", "c"]
    assert list(catalogue.records()) == ["b"]
    assert catalogue.counter("revision") == 2
    assert catalogue.drop_damaged() == []


def test_rebuilt_catalogue_holds_what_can_still_be_read(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video(f"{i}") for i in range(500)], [(1, 3 * i) for i in range(500)])
        catalogue.set_index_metadata("settings", "{}")
        before = plain_records(catalogue)
    spoil_page(path, b"/videos/250")
    num_kept = rebuild_catalogue(path, next_part=7)
    assert 100 < num_kept < 500
    with closing(Catalogue(path)) as catalogue:
        after = plain_records(catalogue)
        assert len(after) == num_kept
        assert after.items() <= before.items()
        assert catalogue.integrity_problems() == []
        assert (catalogue.counter("next_part"), catalogue.index_metadata("settings")) == (7, "{}")
        catalogue.store([new_video("new")], [(7, 0)])
        ids = [record.id for record in before.values()]
        assert catalogue.records()["new"].id > max(ids)


def test_ids_lost_in_a_rebuilt_catalogue_are_never_used_again(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video(f"{i}") for i in range(500)], [(1, 3 * i) for i in range(500)])
        before = catalogue.searchable_ids().tolist()
    spoil_page(path, b"/videos/499")
    assert rebuild_catalogue(path, next_part=7) < 500
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video("new")], [(7, 0)])
        assert catalogue.records()["new"].id > max(before)


def test_rebuilt_catalogue_has_a_revision_that_was_never_published(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store([new_video(f"{i}") for i in range(500)], [(1, 3 * i) for i in range(500)])
        published = catalogue.counter("revision")
    spoil_page(path, b"/videos/250")
    rebuild_catalogue(path, next_part=7)
    with closing(Catalogue(path)) as catalogue:
        catalogue.drop_damaged()
        assert catalogue.counter("revision") > published


def test_entries_whose_text_is_no_longer_utf_8_are_dropped_alone(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.store(
            [new_video(f"{i:03d}") for i in range(100)], [(1, 3 * i) for i in range(100)]
        )
    content = path.read_bytes()
    for key in (b"010", b"090"):
        assert content.count(b"/videos/" + key) == 1
        content = content.replace(b"/videos/" + key, b"/vid\xe5os/" + key)
    path.write_bytes(content)
    with closing(Catalogue(path)) as catalogue:
        assert catalogue.drop_damaged() == ["010", "090"]
        assert len(catalogue.records()) == 98


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("database or disk is full", errno.ENOSPC),
        ("disk I/O error", errno.EIO),
        ("attempt to write a readonly database", errno.EROFS),
    ],
)
def test_fault_of_the_disk_is_not_called_damage(catalogue, path, said, expected):
    class FullDisk:
        def execute(self, *args):
            raise sqlite3.OperationalError(said)

        def close(self):
            pass

    catalogue.close()
    catalogue._connection = FullDisk()
    with pytest.raises(OSError) as raised:
        catalogue.counter("revision")
    assert (raised.value.errno, raised.value.filename) == (expected, str(path))


def test_videos_are_found_by_name_and_by_content(catalogue):
    signatures = {
        key: FileSignature(1, 2, content) for key, content in zip("abcd", "xyxz", strict=True)
    }
    each = [
        *(replace(new_video(key), signature=signatures[key]) for key in "abc"),
        replace(new_video("a"), signature=signatures["d"], root="other"),
        replace(failed_video("e"), signature=signatures["a"]),
    ]
    catalogue.store(each, [(1, 0), (1, 3), (1, 6), (1, 9), None])
    records = list(catalogue.scan())
    a, _, c, other, failed = records
    assert set(catalogue.names()) == {(r.key, r.public_id, r.id) for r in records}
    by_name = catalogue.ids_by_name()
    assert (sorted(by_name["a"]), by_name[other.public_id]) == ([a.id, other.id], [other.id])
    found = catalogue.by_public_id([other.public_id, failed.public_id, "never"])
    assert {name: record.id for name, record in found.items()} == {
        other.public_id: other.id,
        failed.public_id: failed.id,
    }
    same = catalogue.of_contents(["x", "z", "never"])
    assert {content: [record.id for record in found] for content, found in same.items()} == {
        "x": [a.id, c.id],
        "z": [other.id],
    }
    assert catalogue.has_content("x") and not catalogue.has_content("w")


def test_names_in_the_metadata_are_fields(catalogue):
    catalogue.store([new_video("a", metadata={"camera": {"model": "x"}, "y": 1})], [(1, 0)])
    assert catalogue.metadata_fields() == {"camera", "camera.model", "y"}


def test_nan_in_metadata_is_nothing_now_and_from_older_versions(tmp_path):
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    signature = FileSignature(1, 2, "c")
    catalogue.store(
        [NewVideo("a.mp4", "/a.mp4", signature, "failed", metadata={"x": float("nan"), "y": 1})],
        [None],
    )
    (record,) = catalogue.scan()
    assert record.metadata == {"x": None, "y": 1}
    metadata = '{"x": NaN, "y": Infinity}'
    row = dict(zip(videos.VIDEOS_COLUMNS, videos.to_row(record.id, record, None), strict=True))
    del row["checksum"]
    checksum = videos._checksum((row | {"metadata": metadata}).values())
    with closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as writing, writing:
        writing.execute("UPDATE videos SET metadata = ?, checksum = ?", (metadata, checksum))
    (record,) = catalogue.scan()
    assert record.metadata == {"x": None, "y": None}
    catalogue.close()
