import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing import IndexMismatchError, Manifest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.identity import make_root_id
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.store.videos import FileSignature
from reelseek.indexing.tools.merge import merge_indexes
from reelseek.indexing.writer import IndexWriter
from tests.command_lines import assert_user_error
from tests.indexing.damage import assert_sound, damage_embedding, hits, part_path, records
from tests.indexing.in_process import run_tool
from tests.indexing.small_index import (
    SETTINGS,
    Oracle,
    contents,
    failed_video,
    make_index,
    random_video,
)


def records_by_root_and_key(folder):
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return {record.root_and_key: record for record in catalogue.scan()}


def videos_of(names, *, seed):
    rng = np.random.default_rng(seed)
    return [random_video(rng, name, metadata={"from": seed}) for name in names]


def union(*oracles):
    return Oracle({key: held for oracle in oracles for key, held in oracle.held.items()})


@pytest.fixture
def one(tmp_path):
    videos = [*videos_of([f"a{i}.mp4" for i in range(12)], seed=1), failed_video("broken.mp4")]
    return make_index(tmp_path / "one", videos)


@pytest.fixture
def two(tmp_path):
    """In two parts, and with a deleted video."""
    oracle = make_index(tmp_path / "two", videos_of([f"b{i}.mp4" for i in range(9)], seed=2))
    with IndexWriter(tmp_path / "two") as writer:
        for video, rows in videos_of(["b9.mp4", "c.mp4"], seed=3):
            writer.add(video, rows)
            oracle.held[video.key] = video, rows
        writer.delete(["b4.mp4"])
        writer.publish()
    del oracle.held["b4.mp4"]
    return oracle


@pytest.fixture
def sources(tmp_path, one, two):
    return [tmp_path / "one", tmp_path / "two"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "all"


def test_merged_index_answers_as_the_union(folder, sources, one, two):
    before = [contents(source) for source in sources]
    assert merge_indexes(sources, folder) == (23, 0)
    assert_sound(folder, union(one, two))
    assert Manifest.read(folder).settings == SETTINGS
    assert [contents(source) for source in sources] == before


def test_index_is_merged_into_one_that_there_is(tmp_path, sources, one, two):
    assert merge_indexes(sources[1:], sources[0]) == (10, 0)
    assert_sound(sources[0], union(one, two))


def test_merging_again_adds_nothing(folder, sources, one, two):
    merge_indexes(sources, folder)
    assert merge_indexes(sources, folder) == (0, 23)
    assert merge_indexes([sources[0], sources[0]], folder) == (0, 26)
    assert_sound(folder, union(one, two))


def test_quantised_index_takes_the_others_up(tmp_path, folder, one, two, sources):
    make_index(folder, videos_of(["own.mp4"] * 1, seed=9))
    with IndexWriter(folder) as writer:
        writer.publish(FaissOptions(kind="IVF1,SQ8"))
    assert merge_indexes(sources, folder) == (23, 0)
    assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0
    found = {hit.key for some in hits(folder) for hit in some}
    assert found == set(records(folder)) - {"broken.mp4"}
    assert Manifest.read(folder).faiss.kind == "IVF1,SQ8"


def test_frame_spread_comes_from_the_first_source(folder, sources):
    for source, spread in zip(sources, (0.25, 0.75), strict=True):
        with IndexWriter(source) as writer:
            writer.set_frame_spread(spread)
    merge_indexes(sources, folder)
    assert Manifest.read(folder).frame_spread == 0.25
    merge_indexes(sources[1:], folder)
    assert Manifest.read(folder).frame_spread == 0.25


# One key twice


def test_same_key_and_content_is_known(tmp_path, folder, one):
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    assert merge_indexes([tmp_path / "one", tmp_path / "copy"], folder) == (13, 13)
    assert_sound(folder, one)


@pytest.fixture
def clashing(tmp_path, one):
    """Another video with a key that index `one` has."""
    (video, rows), new = videos_of(["a3.mp4", "new.mp4"], seed=7)
    other = replace(video, signature=FileSignature(10, 20, "another sha"))
    return make_index(tmp_path / "clashing", [new, (other, rows)])


def test_same_key_of_other_content_belongs_to_another_root(tmp_path, folder, one, clashing):
    sources = [tmp_path / "one", tmp_path / "clashing"]
    for expected in ((15, 0), (0, 15)):
        assert merge_indexes(sources, folder) == expected
        assert len(records_by_root_and_key(folder)) == 15
        assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0
    held = records_by_root_and_key(folder)
    assert sorted(key for _, key in held) == sorted([*one.held, *clashing.held])
    contents = {r.signature.content_sha256 for r in held.values() if r.key == "a3.mp4"}
    assert contents == {"sha of a3.mp4", "another sha"}


def test_prefix_keeps_keys_apart(tmp_path, folder, one, clashing):
    sources = [tmp_path / "one", tmp_path / "clashing"]
    assert merge_indexes(sources, folder, prefix=True) == (15, 0)
    held = {}
    for name, oracle in (("one", one), ("clashing", clashing)):
        for key, (video, rows) in oracle.held.items():
            held[f"{name}/{key}"] = replace(video, key=f"{name}/{key}"), rows
    assert_sound(folder, Oracle(held))


def of_root(path, videos):
    """Videos as a run over a folder stores them."""
    root = make_root_id(path)
    return [(replace(video, root=root, path=f"{path}/{video.key}"), rows) for video, rows in videos]


def ids(folder):
    return {record.path: record.public_id for record in records_by_root_and_key(folder).values()}


def test_roots_of_the_same_names_stay_apart_and_keep_their_ids(tmp_path, folder):
    names = ["IMG_0001.mp4", "IMG_0002.mp4"]
    sources, expected = [tmp_path / "one", tmp_path / "two"], {}
    for seed, (source, card) in enumerate(zip(sources, ("card1", "card2"), strict=True)):
        videos = [
            (replace(video, signature=FileSignature(1, 2, f"{card} {video.key}")), rows)
            for video, rows in videos_of(names, seed=seed)
        ]
        make_index(source, of_root(f"/mnt/{card}/DCIM", videos))
        expected |= ids(source)
    assert merge_indexes(sources, folder) == (4, 0)
    assert ids(folder) == expected
    assert merge_indexes(sources[::-1], folder) == (0, 4)


def test_folder_of_two_machines_that_has_the_same_path_is_two_roots(tmp_path, folder):
    sources = [tmp_path / "laptop", tmp_path / "desktop"]
    for seed, source in enumerate(sources):
        make_index(source, of_root("/home/me/Videos", videos_of([f"{seed}.mp4"], seed=seed)))
    assert merge_indexes(sources, folder) == (2, 0)
    assert len({root for root, _ in records_by_root_and_key(folder)}) == 2
    assert ids(folder) == ids(sources[0]) | ids(sources[1])


def test_folder_that_two_indexes_have_in_part_is_one_root(tmp_path, folder):
    videos = of_root("/nas", videos_of(["a.mp4", "b.mp4", "c.mp4"], seed=3))
    make_index(tmp_path / "one", videos[:2])
    make_index(tmp_path / "two", videos[1:])
    assert merge_indexes([tmp_path / "one", tmp_path / "two"], folder) == (3, 1)
    assert {root for root, _ in records_by_root_and_key(folder)} == {make_root_id("/nas")}


# Indexes that do not fit


@pytest.fixture
def stranger(tmp_path):
    """An index of another model."""
    with IndexWriter(tmp_path / "stranger", replace(SETTINGS, fingerprint="0" * 32)) as writer:
        writer.add(*failed_video("stranger.mp4"))
        writer.publish()
    return tmp_path / "stranger"


@pytest.mark.parametrize("order", [1, -1])
def test_indexes_of_two_models_are_refused(folder, sources, stranger, order):
    with pytest.raises(IndexMismatchError, match="fingerprint"):
        merge_indexes([*sources, stranger][::order], folder)


def test_index_of_another_model_is_not_merged_into(sources, stranger):
    before = contents(stranger)
    with pytest.raises(IndexMismatchError, match="fingerprint"):
        merge_indexes(sources, stranger)
    assert contents(stranger) == before


def test_indexes_of_other_segments_are_refused(tmp_path, folder, sources):
    other = {"kind": "windows", "seconds": 4.0, "overlap_seconds": 0.0}
    with IndexWriter(tmp_path / "other", replace(SETTINGS, segments=other)) as writer:
        writer.publish()
    with pytest.raises(IndexMismatchError, match="segments"):
        merge_indexes([*sources, tmp_path / "other"], folder)


def test_refused_models_leave_nothing_half_written(folder, sources, stranger):
    with pytest.raises(IndexMismatchError):
        merge_indexes([*sources, stranger], folder)
    if folder.exists():
        with IndexWriter(folder, SETTINGS) as writer:
            writer.publish()
        assert records(folder) == {}


# Merges that are stopped


def stop_after(monkeypatch, count, method="add"):
    """Lets a writer do something so many times, then stops it as Ctrl-C does."""
    real, calls = getattr(IndexWriter, method), iter(range(count))

    def stopping(*args, **options):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(IndexWriter, method, stopping)


@pytest.mark.parametrize(("count", "method"), [(0, "add"), (5, "add"), (15, "add"), (0, "publish")])
def test_merge_that_is_stopped_can_be_begun_again(
    monkeypatch, folder, sources, one, two, count, method
):
    own = make_index(folder, videos_of(["own.mp4"], seed=9))
    before = hits(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, count, method)
        merge_indexes(sources, folder)
    assert hits(folder) == before
    assert run_tool("verify", f"index={folder}", "sample=0").returncode == 0
    added, known = merge_indexes(sources, folder)
    assert added + known == 23
    assert_sound(folder, union(own, one, two))


def test_damaged_source_is_refused_and_merges_once_it_is_repaired(folder, sources, one, two):
    own = make_index(folder, videos_of(["own.mp4"], seed=9))
    damage_embedding(sources[1], "b2.mp4", 1)
    with pytest.raises(ValueError, match=r"part-0+1\.npy is damaged"):
        merge_indexes(sources, folder)
    assert_sound(folder, own)
    assert run_tool("repair", f"index={sources[1]}").returncode == 0
    merge_indexes(sources, folder)
    del two.held["b2.mp4"]
    assert_sound(folder, union(own, one, two))


def test_source_that_lacks_a_part_is_refused(folder, sources):
    part_path(sources[1], 1).unlink()
    with pytest.raises(ValueError, match=r"part-0+1\.npy is missing"):
        merge_indexes(sources, folder)


# The command line


def test_command_says_how_many(folder, sources, one, two):
    process = run_tool("merge", f"sources=[{sources[0]},{sources[1]}]", f"index={folder}")
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout) == {"added": 23, "known": 0}
    assert_sound(folder, union(one, two))


def test_command_takes_one_source_and_a_prefix(folder, sources, one):
    process = run_tool("merge", f"sources={sources[0]}", f"index={folder}", "prefix=true")
    assert json.loads(process.stdout) == {"added": 13, "known": 0}
    assert set(records(folder)) == {f"one/{key}" for key in one.held}


def test_mistakes_are_one_line_and_make_nothing(tmp_path, folder, sources):
    first = f"sources={sources[0]}"
    assert_user_error(run_tool("merge", f"index={folder}"), "sources", "a list of folders")
    process = run_tool("merge", f"sources=[{sources[0]},{tmp_path}/none]", f"index={folder}")
    assert_user_error(process, "none", "no such folder")
    assert_user_error(run_tool("merge", first), "index is missing")
    assert_user_error(run_tool("merge", first, f"index={sources[0]}"), "one of the sources")
    process = run_tool("merge", first, f"index={sources[0]}/../one")
    assert_user_error(process, "one of the sources")
    process = run_tool("merge", f"sources={tmp_path}", f"index={folder}")
    assert_user_error(process, "is not an index")
    assert not folder.exists()


def test_folder_of_other_files_is_not_merged_into(tmp_path, sources):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    process = run_tool("merge", f"sources={sources[0]}", f"index={tmp_path}/other")
    assert_user_error(process, "notes.txt", "not an index")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]
