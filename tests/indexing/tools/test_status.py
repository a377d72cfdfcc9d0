import json

import numpy as np
import pytest

from reelseek.indexing import Manifest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.tools.status import index_status
from reelseek.indexing.writer import IndexWriter
from tests.command_lines import assert_user_error, run_program
from tests.indexing.damage import aged_index, change_catalogue, forget_log, index_files
from tests.indexing.in_process import run_tool
from tests.indexing.small_index import SETTINGS, contents, failed_video, make_index, random_video


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


def printed(folder):
    """The lines by what stands before the colon."""
    process = run_tool("status", f"index={folder}")
    assert (process.returncode, process.stderr) == (0, "")
    lines = [line.strip().partition(": ") for line in process.stdout.splitlines()]
    return {name: value for name, _, value in lines}


@pytest.mark.parametrize("kind", ["auto", "IVF4,SQ8", "IVF4,RaBitQ2"])
def test_status_agrees_with_the_manifest_and_the_files(folder, kind):
    oracle = aged_index(folder, kind=kind)
    before, size_bytes = contents(folder), sum(p.stat().st_size for p in index_files(folder))
    status, manifest = index_status(folder), Manifest.read(folder)
    assert status["index"] == str(folder)
    assert status["model"] == "given"
    assert status["generation"] == manifest.generation == 2
    assert status["changes_not_published"] == 0
    assert status["videos"] == {"failed": 1, "ok": 26}
    assert status["searchable_videos"] == 26
    assert status["searchable_segments"] == sum(len(v.spans) for v, _ in oracle.held.values())
    assert (status["recall_wanted"], status["rebuild"]) == (0.95, manifest.rebuild)
    assert status["recall"] == manifest.recall
    assert bool(status["recall"]) == (kind != "auto")
    parts = sum(path.stat().st_size for path in folder.glob("embeddings/*"))
    assert status["bytes_embeddings"] == parts
    assert size_bytes <= status["bytes_all"] <= size_bytes + (1 << 16)  # and SQLite's log
    for level, count in (("video", 24), ("moment", manifest.levels["moment"].main.count)):
        main, delta = status["faiss"][level]
        assert (main["shard"], main["vectors"]) == ("main", count)
        assert main["kind"] == ("Flat" if kind == "auto" else kind)
        assert main["tuning"] == manifest.levels[level].main.tuning
        assert (delta["shard"], delta["kind"]) == ("delta", "Flat")
        assert delta["vectors"] == manifest.levels[level].delta.count
        path = folder / f"{manifest.levels[level].main.name}.faiss"
        assert main["bytes_each"] == round(path.stat().st_size / count)
    assert contents(folder) == before


def test_json_is_what_the_function_says(folder):
    aged_index(folder, kind="IVF4,SQ8")
    process = run_tool("status", f"index={folder}", "json=true")
    assert process.returncode == 0
    expected = index_status(folder)
    assert json.loads(process.stdout) == json.loads(json.dumps(expected))


def test_lines_say_the_same(folder):
    aged_index(folder, kind="IVF4,SQ8")
    manifest, lines = Manifest.read(folder), printed(folder)
    assert lines["model"] == "given"
    assert lines["videos"] == "1 failed, 26 ok"
    assert lines["searchable videos"] == "26"
    assert lines["searchable segments"] == str(manifest.num_segments)
    assert lines["recall"] == f"{manifest.recall['stored']:.3f} (stored queries)"
    main = manifest.levels["moment"].main
    assert lines["moment main"].startswith(f"IVF4,SQ8, {main.count} vectors of ")
    assert lines["moment main"].endswith(
        "bytes, " + " ".join(f"{name}={value}" for name, value in main.tuning.items())
    )
    assert lines["video delta"].startswith("Flat, 4 vectors of ")
    assert lines["rebuild"] == (manifest.rebuild or "not needed")


def test_exact_index_has_no_recall_to_tell(folder):
    aged_index(folder)
    lines = printed(folder)
    assert lines["recall"] == "exact"
    assert lines["video main"].startswith("Flat, 24 vectors of ")
    assert lines["rebuild"] == "not needed"


def test_changes_that_are_not_published_are_counted(folder):
    aged_index(folder)
    with IndexWriter(folder) as writer:
        writer.add(*failed_video("new.mp4"))
        writer.save()
        writer.delete(["8.mp4", "9.mp4"])
    status = index_status(folder)
    assert status["changes_not_published"] == 2
    assert status["videos"] == {"failed": 2, "ok": 24}
    assert status["searchable_videos"] == 26


def test_index_in_which_nothing_is_has_a_status(folder):
    make_index(folder, [])
    status = index_status(folder)
    assert (status["videos"], status["searchable_videos"], status["rebuild"]) == ({}, 0, "")
    assert printed(folder)["searchable segments"] == "0"


def test_index_that_was_never_published_has_a_status(folder):
    with IndexWriter(folder, SETTINGS) as writer:
        writer.add(*random_video(np.random.default_rng(0), "a.mp4"))
        writer.save()
    status = index_status(folder)
    assert (status["generation"], status["changes_not_published"]) == (0, 1)
    assert (status["videos"], status["searchable_videos"]) == ({"ok": 1}, 0)
    assert status["faiss"] == {}


def test_reason_to_rebuild_is_told(folder):
    rng = np.random.default_rng(0)
    make_index(
        folder,
        [random_video(rng, f"{i}.mp4") for i in range(24)],
        options=FaissOptions(kind="IVF4,SQ8"),
    )
    manifest = Manifest.read(folder)
    status = index_status(folder)
    assert status["rebuild"] == manifest.rebuild


# Mistakes


def test_command_ends_with_2_and_one_line(tmp_path):
    process = run_program("-m", "indexing.status", f"index={tmp_path}/none")
    assert_user_error(process, f"index={tmp_path}/none", "no such folder")


def test_mistakes_are_one_line(tmp_path, folder):
    assert_user_error(run_tool("status"), "index is missing")
    assert_user_error(run_tool("status", f"index={tmp_path}"), "is not an index")
    (tmp_path / "file").touch()
    assert_user_error(run_tool("status", f"index={tmp_path}/file"), "is a file")
    aged_index(folder)
    assert_user_error(run_tool("status", f"index={folder}", "jsn=true"), "near names: json")


def test_damaged_entry_is_one_line(folder):
    aged_index(folder)
    change_catalogue(folder, "UPDATE videos SET path = 'x' WHERE key = '8.mp4'")
    assert_user_error(run_tool("status", f"index={folder}"), "the entry of video 9")


def test_missing_catalogue_is_one_line_and_is_not_made(folder):
    aged_index(folder)
    forget_log(folder)
    (folder / CATALOGUE_NAME).unlink()
    assert_user_error(run_tool("status", f"index={folder}"), CATALOGUE_NAME)
    assert not (folder / CATALOGUE_NAME).exists()


def test_missing_shard_is_one_line(folder):
    aged_index(folder)
    next(folder.glob("moment-main-*.faiss")).unlink()
    assert_user_error(run_tool("status", f"index={folder}"), "moment-main")
