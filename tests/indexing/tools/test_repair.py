import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing import IndexMismatchError, IndexReader, Manifest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.manifest import FORMAT_VERSION, FaissOptions
from reelseek.indexing.tools.repair import repair_index, upgrade_index
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.writer import IndexWriter
from tests.command_lines import assert_user_error
from tests.indexing.damage import (
    aged_index,
    assert_answers,
    assert_sound,
    change_catalogue,
    change_manifest,
    damage_embedding,
    flip,
    forget_log,
    hits,
    index_files,
    locations,
    overwrite,
    part_path,
    records,
)
from tests.indexing.in_process import run_tool
from tests.indexing.searching import search_words
from tests.indexing.small_index import (
    SETTINGS,
    failed_video,
    random_index,
    random_video,
)

PAGE_BYTES = 4096  # of SQLite
UNREADABLE = "entries that could not be read"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def oracle(folder):
    return aged_index(folder)


def assert_repaired(folder, oracle, dropped=()):
    """Repairs, and finds all but these videos to be as they were."""
    forget_log(folder)
    names, left = repair_index(folder)
    assert sorted(names) == sorted(dropped)
    for key in dropped:
        oracle.held.pop(key)
    assert_sound(folder, oracle)
    assert left == Manifest.read(folder).num_videos


def assert_nothing_invented(folder, oracle):
    """After a repair that names no keys: what is left is as it was. Returns how many are lost."""
    assert list(find_problems(folder)) == []
    left = set(records(folder))
    assert left <= set(oracle.held)
    if left & {key for key, (_, rows) in oracle.held.items() if len(rows)}:
        assert_answers(folder, oracle, left)
    return len(oracle.held) - len(left)


def test_sound_index_stays_as_it_is(folder, oracle):
    before = hits(folder)
    assert_repaired(folder, oracle)
    assert hits(folder) == before


@pytest.mark.parametrize("kind", ["IVF4,SQ8", "IVF4,RaBitQ2"])
def test_quantised_index_is_sound_after_its_shards_were_lost(folder, kind):
    oracle = aged_index(folder, kind=kind)
    for path in [*folder.glob("*.faiss"), *folder.glob("*.npy")]:
        path.unlink()
    assert repair_index(folder) == ([], 26)
    assert list(find_problems(folder)) == []
    assert Manifest.read(folder).levels["moment"].main.kind == kind
    assert set(records(folder)) == set(oracle.held)


# The manifest


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"[]", b"{}", b'{"format": 5}'])
def test_manifest_is_made_anew(folder, oracle, content):
    generation = Manifest.read(folder).generation
    Manifest.path(folder).unlink()
    if content is not None:
        Manifest.path(folder).write_bytes(content)
    assert_repaired(folder, oracle)
    assert Manifest.read(folder).settings == SETTINGS
    assert Manifest.read(folder).generation > generation


def test_flipped_byte_of_the_manifest_is_mended(folder, oracle):
    content = Manifest.path(folder).read_bytes()
    flip(Manifest.path(folder), content.index(b'"fingerprint"') + 20, 1)
    assert_repaired(folder, oracle)
    assert Manifest.read(folder).settings == SETTINGS


def test_frame_spread_is_kept(folder, oracle):
    with IndexWriter(folder) as writer:
        writer.set_frame_spread(0.375)
    Manifest.path(folder).unlink()
    assert_repaired(folder, oracle)
    assert Manifest.read(folder).frame_spread == 0.375


@pytest.mark.parametrize("digit", [b"2", b"7"])
def test_flipped_format_is_damage_and_no_other_format(folder, oracle, digit):
    content = Manifest.path(folder).read_bytes()
    overwrite(Manifest.path(folder), content.replace(b'"format": 5', b'"format": ' + digit))
    assert_repaired(folder, oracle)


# Shards


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied", "deleted"])
@pytest.mark.parametrize(
    "pattern",
    ["*-main-*.faiss", "*-main-*.npy", "*-delta-*.faiss", "*-delta-*.npy", "*-deleted-*.npy"],
)
def test_shards_are_made_again(folder, oracle, pattern, how):
    for path in folder.glob(pattern):
        data = path.read_bytes()
        if how == "deleted":
            path.unlink()
        elif how == "flipped":
            flip(path, len(data) // 2)
        else:
            overwrite(path, data[: len(data) // 2] if how == "cut" else b"")
    assert_repaired(folder, oracle)


def test_folder_in_the_place_of_a_shard_is_one_line_or_mended(folder, oracle):
    path = next(folder.glob("moment-main-*.faiss"))
    path.unlink()
    path.mkdir()
    try:
        assert_repaired(folder, oracle)
    except ValueError as error:
        assert path.name in str(error)


# Embeddings


@pytest.mark.parametrize("number", [0, 1, 2])
def test_videos_with_damaged_embeddings_are_named(folder, oracle, number):
    damage_embedding(folder, "8.mp4", number)
    damage_embedding(folder, "26.mp4", number)
    assert_repaired(folder, oracle, ["8.mp4", "26.mp4"])


def test_damaged_row_of_a_deleted_video_costs_nothing(folder, oracle):
    used = set(locations(folder).values())
    rows = np.load(part_path(folder, 1), mmap_mode="r")
    dead = next(
        row
        for row in range(len(rows) - 1, -1, -1)
        if all(
            not first <= row < first + 1 + len(r["spans"]) + len(r["frame_times"])
            for r in records(folder).values()
            if r["location"] is not None and r["location"][0] == 1
            for first in [r["location"][1]]
        )
    )
    assert (1, dead) not in used
    path = part_path(folder, 1)
    flip(path, path.stat().st_size - (len(rows) - dead) * rows.dtype.itemsize)
    assert_repaired(folder, oracle)


def test_twins_of_a_damaged_video_are_named_too(folder, oracle):
    with IndexWriter(folder) as writer:
        record = writer.catalogue.records()["8.mp4"]
        video, rows = oracle.held["8.mp4"]
        duplicate = replace(video, key="twin.mp4", path="/videos/twin.mp4")
        writer.add_duplicate(duplicate, record)
        oracle.held["twin.mp4"] = duplicate, rows
        writer.publish()
    damage_embedding(folder, "twin.mp4", 1)
    assert_repaired(folder, oracle, ["8.mp4", "twin.mp4"])


@pytest.mark.parametrize(
    "how",
    [
        *("deleted", "emptied", "garbage"),
        pytest.param(
            "folder",
        ),
    ],
)
def test_videos_of_a_lost_part_are_named(folder, oracle, how):
    lost = [key for key, (part, _) in locations(folder).items() if part == 2]
    assert len(lost) == 4
    path = part_path(folder, 2)
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "deleted":
        path.write_bytes(b"" if how == "emptied" else b"garbage" * 100)
    assert_repaired(folder, oracle, lost)


def test_all_parts_lost_leaves_an_empty_index(folder, oracle):
    shutil.rmtree(folder / "embeddings")
    assert_repaired(folder, oracle, set(oracle.held) - {"failed.mp4"})


def test_dropped_videos_can_be_added_again(folder, oracle):
    again = {key: oracle.held[key] for key in ("8.mp4", "26.mp4")}
    for key in again:
        damage_embedding(folder, key)
    assert_repaired(folder, oracle, list(again))
    with IndexWriter(folder) as writer:
        for video, rows in again.values():
            writer.add(video, rows)
        writer.publish()
    oracle.held |= again
    assert_sound(folder, oracle)


# The catalogue


@pytest.mark.parametrize(
    ("column", "value"),
    [("duration_seconds", 1.0), ("spans", b""), ("part", 2), ("metadata", "no JSON"), ("row", 0)],
)
def test_altered_entries_are_named(folder, oracle, column, value):
    change_catalogue(
        folder, f"UPDATE videos SET {column} = ? WHERE key IN ('8.mp4', '26.mp4')", (value,)
    )
    altered = ["8.mp4"] if (column, value) == ("part", 2) else ["8.mp4", "26.mp4"]
    assert_repaired(folder, oracle, altered)


def test_entry_whose_key_is_altered_is_named_as_it_stands(folder, oracle):
    change_catalogue(folder, "UPDATE videos SET key = '8.mpX' WHERE key = '8.mp4'")
    names, left = repair_index(folder)
    assert (names, left) == (["8.mpX"], 25)
    del oracle.held["8.mp4"]
    assert_sound(folder, oracle)


def test_altered_entry_and_damaged_embeddings_and_lost_manifest_at_once(folder, oracle):
    damage_embedding(folder, "9.mp4")
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '8.mp4'")
    next(folder.glob("moment-main-*.faiss")).unlink()
    Manifest.path(folder).unlink()
    assert_repaired(folder, oracle, ["8.mp4", "9.mp4"])


def test_lost_page_of_the_catalogue_costs_the_videos_on_it_only(folder):
    oracle = random_index(folder, 120)
    with IndexWriter(folder) as writer:  # so that the catalogue's revision is not 1
        writer.add(*failed_video("failed.mp4"))
        writer.publish()
    oracle.held["failed.mp4"] = failed_video("failed.mp4")
    path = folder / CATALOGUE_NAME
    content = path.read_bytes()
    leaves = [
        first
        for first in range(PAGE_BYTES, len(content), PAGE_BYTES)
        if content[first] == 0x0D and b"/videos/" in content[first : first + PAGE_BYTES]
    ]
    assert len(leaves) > 4
    overwrite(path, content[: leaves[2]] + bytes(PAGE_BYTES) + content[leaves[2] + PAGE_BYTES :])
    names, _ = repair_index(folder)
    assert names == [UNREADABLE]
    assert 0 < assert_nothing_invented(folder, oracle) < 40


def test_shards_are_made_again_though_the_revision_is_the_same(folder):
    oracle = random_index(folder, 120)
    assert Manifest.read(folder).revision == 1
    path = folder / CATALOGUE_NAME
    flip(path, path.stat().st_size - PAGE_BYTES)
    names, left = repair_index(folder)
    assert names == [UNREADABLE]
    assert left == len(records(folder)) < 120
    assert assert_nothing_invented(folder, oracle)


def test_catalogue_of_garbage_names_no_keys_and_leaves_an_empty_index(folder, oracle):
    overwrite(folder / CATALOGUE_NAME, b"garbage" * 10_000)
    names, left = repair_index(folder)
    assert (names, left) == ([UNREADABLE], 0)
    assert_nothing_invented(folder, oracle)
    with IndexWriter(folder, SETTINGS) as writer:
        for video, rows in oracle.held.values():
            writer.add(video, rows)
        writer.publish()
    assert_sound(folder, oracle)


def test_new_parts_do_not_overwrite_old_ones_after_the_catalogue_is_made_anew(folder, oracle):
    path = folder / CATALOGUE_NAME
    flip(path, path.stat().st_size - PAGE_BYTES)
    repair_index(folder)
    assert_nothing_invented(folder, oracle)
    left = set(records(folder))
    video, rows = random_video(np.random.default_rng(0), "new.mp4")
    with IndexWriter(folder) as writer:
        writer.add(video, rows)
        writer.publish()
    oracle.held["new.mp4"] = video, rows
    assert_answers(folder, oracle, left | {"new.mp4"})
    assert list(find_problems(folder)) == []


@pytest.mark.parametrize("seed", range(2))
def test_flipped_bytes_anywhere_are_mended(tmp_path, folder, oracle, seed):
    rng = np.random.default_rng(seed)
    for path in index_files(folder):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "copy")
        # Past the schema: what a flipped byte of it costs is another test's.
        first = PAGE_BYTES if path.name == CATALOGUE_NAME else 0
        target = tmp_path / "copy" / path.relative_to(folder)
        flip(target, int(rng.integers(first, path.stat().st_size)), int(rng.integers(1, 256)))
        names, left = repair_index(tmp_path / "copy")
        lost = assert_nothing_invented(tmp_path / "copy", oracle)
        assert left == Manifest.read(tmp_path / "copy").num_videos
        if UNREADABLE not in names:
            assert len(names) == lost
            assert set(records(tmp_path / "copy")) | set(names) == set(oracle.held)
        if path.suffix != ".sqlite" and path.parent == folder:
            assert names == []


def test_flipped_byte_of_the_schema_loses_nothing(folder, oracle):
    path = folder / CATALOGUE_NAME
    flip(path, path.read_bytes().index(b"CREATE TABLE videos") + 3, 1)
    repair_index(folder)
    assert_sound(folder, oracle)


def test_schema_that_is_no_text_is_mended(folder, oracle):
    path = folder / CATALOGUE_NAME
    flip(path, path.read_bytes().index(b"CREATE TABLE videos") + 3, 0x80)
    names, _ = repair_index(folder)
    assert names == [UNREADABLE]
    assert_nothing_invented(folder, oracle)


def test_fact_that_is_no_text_is_mended_from_the_manifest(folder, oracle):
    change_catalogue(
        folder, "UPDATE facts SET value = CAST(X'FF00FF' AS TEXT) WHERE name = 'settings'"
    )
    assert_repaired(folder, oracle)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM counters WHERE name = 'revision'",
        "UPDATE counters SET value = 0 WHERE name = 'revision'",
        "DELETE FROM counters WHERE name = 'next_part'",
        "UPDATE counters SET value = 2 WHERE name = 'next_part'",
    ],
)
def test_damaged_counters_are_mended_before_they_do_harm(folder, oracle, sql):
    change_catalogue(folder, sql)
    forget_log(folder)
    assert_repaired(folder, oracle)
    video, rows = random_video(np.random.default_rng(0), "new.mp4")
    with IndexWriter(folder) as writer:
        writer.add(video, rows)
        writer.publish()
    oracle.held["new.mp4"] = video, rows
    assert_sound(folder, oracle)


# What cannot be repaired


def test_repair_keeps_the_options_of_its_faiss_indexes(folder):
    aged_index(folder, kind="IVF4,SQ8")
    damage_embedding(folder, "8.mp4")
    repair_index(folder)
    assert Manifest.read(folder).faiss == FaissOptions(kind="IVF4,SQ8")


def test_without_manifest_and_settings_it_says_so_and_keeps_what_there_is(folder, oracle):
    Manifest.path(folder).unlink()
    change_catalogue(folder, "DELETE FROM facts WHERE name = 'settings'")
    before = {path.name for path in index_files(folder)}
    with pytest.raises(ValueError, match="index again into a new folder"):
        repair_index(folder)
    assert {path.name for path in index_files(folder)} == before


def test_missing_catalogue_says_what_to_do(folder, oracle):
    forget_log(folder)
    (folder / CATALOGUE_NAME).unlink()
    assert_user_error(
        run_tool("repair", f"index={folder}"), CATALOGUE_NAME, "index again into a new folder"
    )
    (folder / CATALOGUE_NAME).mkdir()
    assert_user_error(
        run_tool("repair", f"index={folder}"), CATALOGUE_NAME, "index again into a new folder"
    )


def test_index_that_is_being_written_is_left_alone(folder, oracle):
    damage_embedding(folder, "8.mp4")
    with IndexWriter(folder):
        assert_user_error(run_tool("repair", f"index={folder}"), "another process is writing")
    assert "8.mp4" in records(folder)


def test_folders_that_are_no_index_are_refused_and_stay_empty(tmp_path):
    assert_user_error(run_tool("repair", f"index={tmp_path}/none"), "no such folder")
    (tmp_path / "empty").mkdir()
    assert_user_error(run_tool("repair", f"index={tmp_path}/empty"), "is not an index")
    assert list((tmp_path / "empty").iterdir()) == []


def test_command_names_the_dropped_videos(folder, oracle):
    damage_embedding(folder, "8.mp4")
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '26.mp4'")
    process = run_tool("repair", f"index={folder}")
    assert (process.returncode, process.stderr) == (0, "")
    *lines, summary = process.stdout.splitlines()
    assert sorted(lines) == ["dropped 26.mp4", "dropped 8.mp4"]
    assert json.loads(summary) == {"dropped": 2, "searchable": 24}
    assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0


def test_videos_that_were_not_saved_are_kept(folder, oracle):
    video, rows = random_video(np.random.default_rng(0), "new.mp4")
    with IndexWriter(folder) as writer:
        writer.add(video, rows)
    oracle.held["new.mp4"] = video, rows
    damage_embedding(folder, "8.mp4")
    assert_repaired(folder, oracle, ["8.mp4"])


def test_repair_that_is_stopped_can_be_begun_again(folder, oracle, monkeypatch):
    damage_embedding(folder, "8.mp4")
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '9.mp4'")
    Manifest.path(folder).unlink()

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(IndexWriter, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            repair_index(folder)
    del oracle.held["8.mp4"], oracle.held["9.mp4"]
    assert_repaired(folder, oracle)


def as_format_4(values):
    """What the version before wrote."""
    values["format"] = 4
    sampling = values["settings"]["sampling"]
    sampling["skip_similar"] = sampling.pop("dedup_threshold", 0.0)
    for level in values["levels"].values():
        level["dead"], level["dead_checksum"] = level.pop("deleted"), level.pop("deleted_checksum")


def test_index_of_the_format_before_is_upgraded(folder):
    rng = np.random.default_rng(0)
    sampling = {"kind": "interval", "dedup_threshold": 0.5}
    with IndexWriter(folder, replace(SETTINGS, sampling=sampling)) as writer:
        for number in range(4):
            metadata = {"title": f"film {number}"}
            writer.add(*random_video(rng, f"{number}.mp4", metadata=metadata))
        writer.publish()
    published = Manifest.read(folder)
    before = hits(folder)
    change_manifest(folder, as_format_4)
    assert Manifest.read(folder) == published
    summary = run_tool("repair", f"index={folder}", "upgrade=true").stdout.splitlines()[-1]
    assert json.loads(summary) == {"dropped": 0, "searchable": 4}
    assert json.loads(Manifest.path(folder).read_bytes())["format"] == FORMAT_VERSION
    assert Manifest.read(folder) == published
    assert list(find_problems(folder)) == []
    assert hits(folder) == before


def test_words_of_an_older_analysis_are_upgraded(folder):
    pytest.importorskip("tantivy")
    with IndexWriter(folder, SETTINGS) as writer:
        writer.add(*random_video(np.random.default_rng(0), "0.mp4", metadata={"title": "volcano"}))
        writer.publish()
    published = Manifest.read(folder)
    change_manifest(folder, as_format_4)
    change_manifest(folder, lambda values: values["lexical"].update(analysis="0, tantivy 0.1"))
    run_tool("repair", f"index={folder}", "upgrade=true")
    assert json.loads(Manifest.path(folder).read_bytes())["format"] == FORMAT_VERSION
    lexical = Manifest.read(folder).lexical
    assert lexical.analysis == published.lexical.analysis
    assert lexical.name != published.lexical.name
    assert list(find_problems(folder)) == []
    with closing(IndexReader(folder)) as reader:
        assert [hit.key for hit in search_words(reader, ["volcano"], k=5)] == ["0.mp4"]


def test_index_that_cannot_be_upgraded_is_refused(folder):
    random_index(folder, 2)
    change_manifest(folder, lambda values: values.update(format=3))
    with pytest.raises(IndexMismatchError, match="index again into a new folder"):
        upgrade_index(folder)
