import json
from dataclasses import replace

import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.writer import IndexWriter
from tests.command_lines import assert_user_error, run_program
from tests.indexing.damage import (
    aged_index,
    assert_sound,
    change_catalogue,
    hits,
    part_path,
    records,
)
from tests.indexing.in_process import run_tool
from tests.indexing.searching import search
from tests.indexing.small_index import failed_video, make_index


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def oracle(folder):
    """Of 27 videos; those with an even number have the tag `even`, and one failed."""
    return aged_index(folder)


def delete(folder, *arguments):
    """Returns the keys that it names and the summary."""
    process = run_tool("delete", f"index={folder}", *arguments)
    assert (process.returncode, process.stderr) == (0, "")
    *lines, summary = process.stdout.splitlines()
    assert all(line.startswith("deleted ") for line in lines)
    return [line.removeprefix("deleted ") for line in lines], json.loads(summary)


def assert_deleted(folder, oracle, keys, deleted, summary):
    assert sorted(deleted) == sorted(keys)
    for key in keys:
        del oracle.held[key]
    searchable = sum(len(rows) > 0 for _, rows in oracle.held.values())
    assert summary == {"deleted": len(keys), "searchable": searchable}
    assert_sound(folder, oracle)


@pytest.mark.parametrize(
    ("argument", "keys"),
    [
        ("keys=8.mp4", ["8.mp4"]),
        ("keys=[8.mp4]", ["8.mp4"]),
        ("keys=[8.mp4,26.mp4,failed.mp4]", ["8.mp4", "26.mp4", "failed.mp4"]),
    ],
)
def test_videos_are_deleted_by_their_keys(folder, oracle, argument, keys):
    assert_deleted(folder, oracle, keys, *delete(folder, argument))


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("tags = 'even'", lambda video: video.metadata.get("tags") == ["even"]),
        ("not tags = 'even'", lambda video: video.metadata.get("tags") != ["even"]),
        ("duration < 5", lambda video: video.duration_seconds < 5),
        ("outcome = failed", lambda video: video.outcome == "failed"),
        ("key in ('8.mp4', '9.mp4') and tags = 'odd'", lambda video: video.key == "9.mp4"),
        ("tags = 'neither'", lambda video: False),
    ],
)
def test_videos_are_deleted_by_what_they_are_like(folder, oracle, where, holds):
    keys = [key for key, (video, _) in oracle.held.items() if holds(video)]
    assert_deleted(folder, oracle, keys, *delete(folder, f"where={where}"))


@pytest.mark.parametrize("kind", ["IVF4,SQ8", "IVF4,RaBitQ2"])
def test_quantised_index_finds_nothing_that_was_deleted(folder, kind):
    aged_index(folder, kind=kind)
    deleted, summary = delete(folder, "where=tags = 'even'")
    assert summary == {"deleted": 14, "searchable": 12}
    found = {hit.key for some in hits(folder) for hit in some}
    assert found == set(records(folder)) - {"failed.mp4"}
    assert not found & set(deleted)
    assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0


def test_twin_of_a_deleted_video_stays(folder, oracle):
    with IndexWriter(folder) as writer:
        video, rows = oracle.held["8.mp4"]
        duplicate = replace(video, key="twin.mp4")
        writer.add_duplicate(duplicate, writer.catalogue.records()["8.mp4"])
        oracle.held["twin.mp4"] = duplicate, rows
    assert_deleted(folder, oracle, ["8.mp4"], *delete(folder, "keys=8.mp4"))


def test_odd_keys_are_taken_as_they_stand(folder):
    keys = ["a b.mp4", "ü/=.mp4", "-.mp4", "it's.mp4", "8.mp4"]
    oracle = make_index(folder, [failed_video(key) for key in keys])
    for key in keys[:4]:
        assert delete(folder, f"keys={key}")[0] == [key]
        del oracle.held[key]
    assert_sound(folder, oracle)


def test_all_can_be_deleted(folder, oracle):
    deleted, summary = delete(folder, "where=duration >= 0")
    assert summary == {"deleted": len(oracle.held), "searchable": 0}
    assert records(folder) == {}
    assert not part_path(folder, 1).exists()
    with pytest.raises(ValueError, match="nothing in it can be searched"):
        IndexReader(folder)
    assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0
    assert len(deleted) == len(set(deleted))


def test_what_is_to_be_deleted_is_gone_for_a_reader_that_is_open(folder, oracle):
    reader = IndexReader(folder)
    query = oracle.held["8.mp4"][1][0]
    assert search(reader, query, k=1)[0].key == "8.mp4"
    delete(folder, "keys=8.mp4")
    assert "8.mp4" not in {hit.key for hit in search(reader, query, k=100)}
    reader.close()


def test_key_that_is_named_twice_is_deleted_once(folder, oracle):
    assert_deleted(folder, oracle, ["8.mp4"], *delete(folder, "keys=[8.mp4,8.mp4]"))


def test_key_of_two_roots_is_deleted_by_its_id(folder, oracle):
    with IndexWriter(folder) as writer:
        video, rows = oracle.held["8.mp4"]
        writer.add(replace(video, root="other", path="/other/8.mp4"), rows)
        writer.publish()
        ids = {r.root: r.public_id for r in writer.catalogue.scan() if r.key == "8.mp4"}
    process = run_tool("delete", f"index={folder}", "keys=8.mp4")
    assert_user_error(process, "keys=8.mp4", "several roots", *ids.values())
    assert delete(folder, f"keys={ids['other']}")[0] == ["8.mp4"]
    assert_sound(folder, oracle)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["either keys or where"]),
        (["keys=8.mp4", "where=tags = 'even'"], ["either keys or where"]),
        (["keys=[8.mp4,none.mp4]"], ["none.mp4"]),
        (["where=tg = 'even'"], ["'tg'", "tag", "duration"]),
        (["where=tags ="], ["where=tags ="]),
        (["where="], ["where="]),
        (["where=tags = 'even'; DROP TABLE videos"], ["where="]),
        (["key=8.mp4"], ["unknown option key", "keys"]),
    ],
)
def test_mistake_is_one_line_and_deletes_nothing(folder, oracle, arguments, parts):
    assert_user_error(run_tool("delete", f"index={folder}", *arguments), *parts)
    assert_sound(folder, oracle)


def test_command_ends_with_2_and_one_line(folder, oracle):
    process = run_program("-m", "indexing.delete", f"index={folder}", "where=tg = 'even'")
    assert_user_error(process, "no video has the field 'tg'", "tag, tags")
    assert_sound(folder, oracle)


def test_folders_that_are_no_index_are_refused_and_stay_empty(tmp_path):
    assert_user_error(run_tool("delete", f"index={tmp_path}/none", "keys=a"), "no such folder")
    assert not (tmp_path / "none").exists()
    assert_user_error(run_tool("delete", f"index={tmp_path}", "keys=a"), "is not an index")
    assert list(tmp_path.iterdir()) == []


def test_index_that_is_being_written_is_left_alone(folder, oracle):
    with IndexWriter(folder):
        process = run_tool("delete", f"index={folder}", "keys=8.mp4")
        assert_user_error(process, "another process is writing")
    assert_sound(folder, oracle)


@pytest.mark.parametrize("argument", ["keys=9.mp4", "where=tags = 'odd'"])
def test_damaged_entry_is_told_and_nothing_is_deleted(folder, oracle, argument):
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '8.mp4'")
    generation = Manifest.read(folder).generation
    assert_user_error(run_tool("delete", f"index={folder}", argument), "reelseek repair")
    assert Manifest.read(folder).generation == generation
    change_catalogue(folder, "UPDATE videos SET path = '/videos/8.mp4' WHERE key = '8.mp4'")
    assert_sound(folder, oracle)
