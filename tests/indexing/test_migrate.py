import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace

import faiss
import numpy as np
import pytest

from indexing import IndexMismatchError, Manifest
from indexing.catalogue import Catalogue, _checksum
from indexing.identity import make_root_id
from indexing.manifest import _checksum as manifest_checksum
from indexing.migrate import migrate_index
from indexing.publishing import CATALOGUE_NAME
from indexing.upgrade import split_path
from indexing.writer import IndexWriter, only_writer
from tests.command_lines import assert_user_error
from tests.indexing.damage import (
    aged_index,
    assert_sound,
    change_catalogue,
    hits,
    overwrite,
    part_path,
    records,
)
from tests.indexing.in_process import run_tool
from tests.indexing.small_index import SETTINGS, Oracle, contents, failed_video, random_video

# Of format 2, as its last version wrote it.
OLD_SCHEMA = """
CREATE TABLE videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    content_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'partial', 'failed')),
    reason TEXT NOT NULL,
    decoder TEXT NOT NULL,
    num_frames INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    metadata TEXT NOT NULL,
    part INTEGER,
    row INTEGER
);
CREATE INDEX videos_by_content ON videos (content_sha256);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id INTEGER NOT NULL REFERENCES videos (id) ON DELETE CASCADE,
    start_seconds REAL NOT NULL,
    end_seconds REAL NOT NULL,
    part INTEGER NOT NULL,
    row INTEGER NOT NULL
);
CREATE INDEX segments_by_video ON segments (video_id);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO counters VALUES ('revision', 7), ('next_part', 4);
"""
OLD_CATALOGUE = "catalogue.sqlite"


def without_frames(video, rows):
    """Format 2 kept no embeddings of frames."""
    return replace(video, frame_times=np.empty(0)), rows[: 1 + len(video.spans)]


def old_index(folder):
    """An index of format 2: 13 videos in parts 1 and 3 of which two share their embeddings, and
    one that failed; part 1 begins with rows that nothing uses."""
    rng = np.random.default_rng(4)
    videos = [
        without_frames(*random_video(rng, f"{i}.mp4", metadata={"title": f"Tïtle {i}"}))
        for i in range(12)
    ]
    partly = replace(videos[5][0], outcome="partial", reason="ends early", num_frames=3)
    videos[5] = partly, videos[5][1]
    videos.insert(3, failed_video("failed.mp4"))
    twin = replace(videos[1][0], key="twin.mp4", path="/elsewhere/twin.mp4", metadata={})
    (folder / "embeddings").mkdir(parents=True)
    stored = {1: [np.ones((3, 8), np.float32)], 3: []}
    oracle, rows_by_level = Oracle(), {"video": [], "moment": []}
    with closing(sqlite3.connect(folder / OLD_CATALOGUE)) as old:
        old.executescript(OLD_SCHEMA)
        places = {}
        for number, (video, rows) in enumerate([*videos, (twin, videos[1][1])]):
            part = 1 if number < 7 else 3
            if video is twin:
                part, first = places["1.mp4"]
            else:
                first = sum(map(len, stored[part]))
                stored[part].append(rows)
            places[video.key] = part, first
            has_rows = len(rows) > 0
            cursor = old.execute(
                "INSERT INTO videos (key, path, size_bytes, modified_ns, content_sha256, outcome, "
                "reason, decoder, num_frames, duration_seconds, metadata, part, row) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (video.key, video.path, *asdict(video.stamp).values(), video.outcome,
                 video.reason, video.decoder, video.num_frames, video.duration_seconds,
                 json.dumps(video.metadata), part if has_rows else None,
                 first if has_rows else None),
            )  # fmt: skip
            old.executemany(
                "INSERT INTO segments (video_id, start_seconds, end_seconds, part, row) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (cursor.lastrowid, *span, part, first + 1 + i)
                    for i, span in enumerate(video.spans.tolist())
                ],
            )
            oracle.held[video.key] = video, rows
            rows_by_level["video"].append(rows[:1])
            rows_by_level["moment"].append(rows[1:])
        old.commit()
    for part, rows in stored.items():
        np.save(part_path(folder, part), np.concatenate(rows).astype(np.float16))
    for level, rows in rows_by_level.items():
        flat = faiss.IndexIDMap2(faiss.IndexFlatIP(8))
        vectors = np.concatenate(rows)
        flat.add_with_ids(vectors, np.arange(1, 1 + len(vectors)))
        faiss.write_index(flat, str(folder / f"{level}-00000005.faiss"))
    settings = asdict(SETTINGS)
    del settings["segments"]["kind"]
    values = {
        **{"format": 2, "settings": settings, "generation": 5, "revision": 7},
        **{"num_videos": 13, "num_segments": len(np.concatenate(rows_by_level["moment"]))},
    }
    (folder / "manifest.json").write_text(json.dumps(values, indent=2) + "\n")
    (folder / "writer.lock").touch()
    (folder / "report.jsonl").write_text("{}\n")
    return oracle


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def oracle(folder):
    return old_index(folder)


def assert_as_before(folder, before):
    """All old files are what they were; others may lie beside them."""
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before


def change_old(folder, sql):
    with closing(sqlite3.connect(folder / OLD_CATALOGUE)) as old, old:
        old.execute(sql)


def test_migrated_index_holds_what_the_old_one_held(folder, oracle):
    assert migrate_index(folder) == 13
    assert_sound(folder, oracle)
    manifest = Manifest.read(folder)
    assert manifest.settings == SETTINGS
    assert manifest.generation > 5
    assert list(records(folder)) == list(oracle.held)  # in the order of their ids


def test_only_files_of_the_new_format_are_left(folder, oracle):
    (folder / "unsaved.journal").write_bytes(b"rsj1 of format 2")
    migrate_index(folder)
    assert not list(folder.glob(f"{OLD_CATALOGUE}*"))
    assert not (folder / "unsaved.journal").exists()
    assert [path.name for path in folder.glob("*.faiss")] == [
        path.name for path in folder.glob("*-main-*.faiss")
    ]
    assert [path.name for path in folder.glob("embeddings/*")] == ["part-00000004.npy"]
    assert (folder / "report.jsonl").read_text() == "{}\n"


def test_migrated_index_can_be_changed(folder, oracle):
    migrate_index(folder)
    video, rows = random_video(np.random.default_rng(0), "new.mp4")
    with IndexWriter(folder, SETTINGS) as writer:
        writer.add(video, rows)
        writer.delete_videos([each for each in writer.catalogue.scan() if each.key == "2.mp4"])
        writer.publish()
    oracle.held["new.mp4"] = video, rows
    del oracle.held["2.mp4"]
    assert_sound(folder, oracle)


def test_index_of_nothing_is_migrated(folder, oracle):
    change_old(folder, "DELETE FROM segments")
    change_old(folder, "DELETE FROM videos")
    assert migrate_index(folder) == 0
    assert_sound(folder, Oracle())


# Migrations that are stopped


class Stopped(Exception):
    """Stands for the death of the process."""


def stop_at(monkeypatch, owner, name, *, after=False):
    real = getattr(owner, name)

    def stop(*args, **options):
        if after:
            real(*args, **options)
        raise Stopped

    monkeypatch.setattr(owner, name, stop)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (Catalogue, "store", False),
        (Catalogue, "store", True),
        (Manifest, "write", False),
    ],
)
def test_migration_that_is_stopped_leaves_the_old_index_and_begins_anew(
    monkeypatch, folder, oracle, owner, name, after
):
    before = contents(folder)
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_at(patch, owner, name, after=after)
            migrate_index(folder)
        assert_as_before(folder, before)
    assert migrate_index(folder) == 13
    assert_sound(folder, oracle)


@pytest.mark.parametrize("name", ["__init__", "publish"])
def test_migration_that_is_stopped_before_publishing_is_completed_by_the_next_writer(
    monkeypatch, folder, oracle, name
):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, IndexWriter, name)
        migrate_index(folder)
    with IndexWriter(folder) as writer:
        writer.publish()
    assert_sound(folder, oracle)


@pytest.mark.parametrize("name", ["__init__", "publish"])
def test_migration_that_is_stopped_before_publishing_is_completed_by_the_same_command(
    monkeypatch, folder, oracle, name
):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_at(patch, IndexWriter, name)
        migrate_index(folder)
    assert migrate_index(folder) == 13
    assert_sound(folder, oracle)
    assert not (folder / OLD_CATALOGUE).exists()


# Old indexes that have suffered


def assert_refused(folder, *parts):
    """In one line, and all old files are kept."""
    before = contents(folder)
    assert_user_error(run_tool("migrate", f"index={folder}"), *parts)
    assert_as_before(folder, before)


def test_missing_old_catalogue_is_one_line_and_is_not_made(folder, oracle):
    (folder / OLD_CATALOGUE).unlink()
    assert_refused(folder, OLD_CATALOGUE)
    assert not (folder / OLD_CATALOGUE).exists()


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_damaged_old_catalogue_is_one_line(folder, oracle, content):
    overwrite(folder / OLD_CATALOGUE, content)
    assert_refused(folder, OLD_CATALOGUE)


def test_old_metadata_that_is_no_json_is_one_line(folder, oracle):
    change_old(folder, "UPDATE videos SET metadata = 'no JSON' WHERE key = '2.mp4'")
    assert_refused(folder, "2.mp4")


def test_missing_old_part_is_one_line(folder, oracle):
    part_path(folder, 3).unlink()
    assert_refused(folder, part_path(folder, 3).name)


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_damaged_old_part_is_one_line(folder, oracle, content):
    overwrite(part_path(folder, 3), content)
    assert_refused(folder, part_path(folder, 3).name)


def test_old_part_that_lacks_rows_is_one_line(folder, oracle):
    np.save(part_path(folder, 3), np.zeros((2, 8), np.float16))
    assert_refused(folder, part_path(folder, 3).name)


def test_old_part_of_other_rows_is_one_line(folder, oracle):
    rows = np.load(part_path(folder, 3))
    np.save(part_path(folder, 3), np.zeros((len(rows), 5), np.float16))
    assert_refused(folder, part_path(folder, 3).name)


@pytest.mark.parametrize("name", ["settings", "generation"])
def test_old_manifest_that_lacks_a_field_is_one_line(folder, oracle, name):
    values = json.loads(Manifest.path(folder).read_bytes())
    del values[name]
    Manifest.path(folder).write_text(json.dumps(values))
    assert_refused(folder, "manifest.json")


# What is not migrated


def test_command_says_how_many_videos_can_be_found(folder, oracle):
    process = run_tool("migrate", f"index={folder}")
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout) == {"searchable": 13}
    assert_user_error(run_tool("migrate", f"index={folder}"), "has format 4 already")
    assert_sound(folder, oracle)


def test_old_index_names_the_command(folder, oracle):
    for name in ("status", "verify", "repair"):
        process = run_tool(name, f"index={folder}")
        assert "python -m indexing.migrate" in process.stdout + process.stderr
    assert migrate_index(folder) == 13


@pytest.mark.parametrize("version", [1, 5, "2", None])
def test_other_formats_are_refused(folder, oracle, version):
    values = json.loads(Manifest.path(folder).read_bytes())
    Manifest.path(folder).write_text(json.dumps(values | {"format": version}))
    assert_refused(folder, f"has format {version}")


def test_what_is_no_index_is_refused(tmp_path, folder, oracle):
    assert_user_error(run_tool("migrate", f"index={tmp_path}/none"), "is not an index")
    assert not (tmp_path / "none").exists()
    overwrite(Manifest.path(folder), b"garbage")
    assert_refused(folder, "is not an index")
    overwrite(Manifest.path(folder), b"[2]")
    assert_refused(folder, "has format None")


def test_index_that_is_being_written_is_left_alone(folder, oracle):
    with only_writer(folder):
        assert_refused(folder, "another process is writing")


def test_index_of_this_format_whose_number_suffered_keeps_its_catalogue(folder):
    oracle = aged_index(folder)
    content = Manifest.path(folder).read_bytes()
    overwrite(Manifest.path(folder), content.replace(b'"format": 4', b'"format": 2'))
    assert run_tool("migrate", f"index={folder}").returncode != 0
    assert (folder / CATALOGUE_NAME).exists()
    overwrite(Manifest.path(folder), content)
    assert_sound(folder, oracle)


# Format 3


def make_format_3(folder):
    """Takes the roots and the public ids out of a catalogue, and lowers the manifest's number."""
    path = folder / CATALOGUE_NAME
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(videos)")]
        old_names = [name for name in names if name not in ("root", "public_id", "checksum")]
        rows = connection.execute(f"SELECT {', '.join(old_names)} FROM videos").fetchall()
        connection.execute("DROP TABLE videos")
        connection.execute(
            "CREATE TABLE videos (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, "
            f"{', '.join(old_names[2:])}, checksum INTEGER NOT NULL)"
        )
        marks = ", ".join("?" * (len(old_names) + 1))
        connection.executemany(
            f"INSERT INTO videos ({', '.join(old_names)}, checksum) VALUES ({marks})",
            [(*row, _checksum(row)) for row in rows],
        )
    values = json.loads(Manifest.path(folder).read_bytes()) | {"format": 3}
    del values["checksum"]
    values["checksum"] = manifest_checksum(values)
    Manifest.path(folder).write_text(json.dumps(values))


@pytest.fixture
def format_3(folder):
    oracle = aged_index(folder)
    before = hits(folder)
    make_format_3(folder)
    return oracle, before


def without_ids(found):
    """Hits of pictures and of words without what format 3 did not have."""
    return [[replace(hit, id="") if hasattr(hit, "id") else hit for hit in some] for some in found]


def test_format_3_gets_roots_and_ids_and_answers_as_before(folder, format_3):
    oracle, before = format_3
    assert_user_error(run_tool("status", f"index={folder}"), "python -m indexing.migrate")
    process = run_tool("migrate", f"index={folder}")
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout) == {"searchable": Manifest.read(folder).num_videos}
    assert_sound(folder, oracle)
    assert without_ids(hits(folder)) == without_ids(before)
    held = records(folder).values()
    assert {record["root"] for record in held} == {make_root_id("/videos")}
    assert len({record["public_id"] for record in held}) == len(held)
    assert all(record["public_id"] for record in held)


@pytest.mark.parametrize("at", ["upgrade_catalogue", "Manifest.write"])
def test_migration_of_format_3_that_is_stopped_can_be_begun_again(
    folder, format_3, monkeypatch, at
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stop(*args):
            raise KeyboardInterrupt

        if at == "Manifest.write":
            patch.setattr(Manifest, "write", stop)
        else:
            patch.setattr("indexing.catalogue.publish_file", stop)
        migrate_index(folder)
    with pytest.raises(IndexMismatchError, match=r"indexing\.migrate"):
        Manifest.read(folder)
    migrate_index(folder)
    assert_sound(folder, format_3[0])


def test_damaged_entry_of_format_3_is_told(folder, format_3):
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '8.mp4'")
    process = run_tool("migrate", f"index={folder}")
    assert_user_error(process, "the entry of video", "is damaged")


@pytest.mark.parametrize(
    ("key", "path", "root", "new_key"),
    [
        ("a.mp4", "/v/a.mp4", "/v", "a.mp4"),
        ("sub/a.mp4", "/v/sub/a.mp4", "/v", "sub/a.mp4"),
        ("/far/d.mp4", "/far/d.mp4", "/far", "d.mp4"),
        ("../c.mp4", "/v/c.mp4", "/v", "c.mp4"),
        ("a.mp4", "/a.mp4", "/", "a.mp4"),
    ],
)
def test_root_of_an_old_key(key, path, root, new_key):
    assert split_path(key, path) == (make_root_id(root), new_key)
