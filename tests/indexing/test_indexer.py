import json
import os
import shutil
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import reelseek.indexing.snapshot
import reelseek.indexing.writer
from reelseek.indexing import IndexMismatchError, IndexReader, Manifest, StopRequest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.journal import Journal
from reelseek.indexing.vectors.builder import level_tables
from reelseek.vision import UniformSampler, VideoDecodeError, iter_frames
from tests.conftest import COLOURS
from tests.indexing.conftest import encode_video_by_video

RED, GREEN, BLUE = COLOURS.values()
PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def videos(write_video, tmp_path):
    """A folder of three films of ten seconds, one colour each."""
    for name, colour in zip("abc", (RED, GREEN, BLUE), strict=True):
        write_video(f"{name}.mp4", [colour] * 20, fps=2, folder=tmp_path / "videos")
    return tmp_path / "videos"


@pytest.fixture
def colour_film(write_video, videos):
    """Writes a film of one colour into the folder; another length is another content."""

    def write(name, colour, *, num_frames=20):
        return write_video(name, [colour] * num_frames, fps=2, folder=videos)

    return write


def counts(summary):
    """The summary's counts that are not zero."""
    names = "indexed unchanged moved failed deleted missing partial searchable".split()
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def best(index, colour):
    return index.search(colour)[0].key


def records(index):
    catalogue = Catalogue(index.folder / CATALOGUE_NAME, read_only=True)
    try:
        return {record.key: record for record in catalogue.scan()}
    finally:
        catalogue.close()


def saved_keys(index):
    return set(records(index)) if Manifest.exists(index.folder) else set()


def journalled_keys(index):
    """What a killed run had done and not yet saved."""
    if not (index.folder / "videos.sqlite").exists():
        return set()
    with closing(Catalogue(index.folder / "videos.sqlite", read_only=True)) as catalogue:
        part = catalogue.counter("next_part")
    journal = Journal(index.folder / "unsaved.journal", embedding_dim=index.settings.embedding_dim)
    return {video.key for video, _ in journal.read(part=part)}


def write_list(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def files(folder):
    """Sizes and times of all files in the index but the report and the lock, which runs write."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("report.jsonl", "writer.lock")
    }


# What a run does


def test_new_videos_are_indexed_and_found_by_their_colour(colour_index, videos):
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 3, "searchable": 3}
    assert not summary.stopped
    assert [best(colour_index, colour) for colour in COLOURS] == ["a.mp4", "b.mp4", "c.mp4"]
    line = colour_index.report()["b.mp4"]
    assert line == {
        "key": "b.mp4",
        "id": records(colour_index)["b.mp4"].public_id,
        "video": str(videos / "b.mp4"),
        "action": "indexed",
        "outcome": "ok",
        "reason": "",
        "decoder": "pyav",
        "num_frames": 20,
        "duration_seconds": pytest.approx(10, abs=0.01),
    }


def test_second_run_decodes_nothing_and_changes_no_file(colour_index, videos):
    colour_index.update(videos)
    before = files(colour_index.folder)

    def encode(pixels):
        raise AssertionError("encoded again")

    colour_index.encoder.before_encoding = encode
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}
    assert colour_index.decoded == []
    assert files(colour_index.folder) == before
    assert {line["action"] for line in colour_index.report().values()} == {"unchanged"}


def test_only_a_new_video_is_decoded(colour_index, videos, colour_film):
    colour_index.update(videos)
    colour_film("sub/d.mp4", GREEN, num_frames=8)
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "unchanged": 3, "searchable": 4}
    assert colour_index.decoded == ["d.mp4"]
    assert colour_index.keys() == ["a.mp4", "b.mp4", "c.mp4", "sub/d.mp4"]


def test_changed_content_replaces_the_old(colour_index, videos, colour_film):
    colour_index.update(videos)
    old_id = records(colour_index)["a.mp4"].id
    colour_film("a.mp4", BLUE, num_frames=30)
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "unchanged": 2, "searchable": 3}
    assert colour_index.decoded == ["a.mp4"]
    assert {hit.key for hit in colour_index.search("blue", k=2)} == {"a.mp4", "c.mp4"}
    assert colour_index.search("blue")[0].score == pytest.approx(0.97, abs=0.03)
    assert records(colour_index)["a.mp4"].id != old_id


def test_touched_file_is_unchanged_and_need_not_be_read_again(colour_index, videos):
    colour_index.update(videos)
    os.utime(videos / "a.mp4", ns=(1, 1))
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}
    assert colour_index.decoded == []
    assert records(colour_index)["a.mp4"].signature.modified_ns == 1


def test_other_content_with_the_old_size_and_time_is_noticed_when_asked(
    colour_index, videos, colour_film
):
    films = [videos / "a.mp4", colour_film(".other.mp4", BLUE, num_frames=18)]
    size = max(film.stat().st_size for film in films)
    for film in films:
        film.write_bytes(film.read_bytes().ljust(size, b"\0"))
        os.utime(film, ns=(7, 7))
    colour_index.update(videos)
    films[1].replace(films[0])
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}
    summary = colour_index.update(videos, check_content=True)
    assert counts(summary) == {"indexed": 1, "unchanged": 2, "searchable": 3}
    assert colour_index.decoded == ["a.mp4"]


def test_moved_video_is_known_by_its_new_path_without_decoding(colour_index, videos):
    colour_index.update(videos)
    old_id = records(colour_index)["a.mp4"].id
    (videos / "sub").mkdir()
    (videos / "a.mp4").rename(videos / "sub" / "z.mp4")
    summary = colour_index.update(videos)
    assert counts(summary) == {"moved": 1, "unchanged": 2, "searchable": 3}
    assert colour_index.decoded == []
    hit = colour_index.search("red")[0]
    assert (hit.key, hit.video) == ("sub/z.mp4", str(videos / "sub" / "z.mp4"))
    assert records(colour_index)["sub/z.mp4"].id == old_id


def test_collection_that_moves_as_a_whole_is_unchanged(colour_index, videos, tmp_path):
    colour_index.update(videos)
    videos.rename(tmp_path / "elsewhere")
    summary = colour_index.update(tmp_path / "elsewhere")
    assert counts(summary) == {"unchanged": 3, "searchable": 3}
    assert colour_index.decoded == []
    assert colour_index.search("red")[0].video == str(tmp_path / "elsewhere" / "a.mp4")


def test_copy_of_a_known_video_shares_its_embeddings(colour_index, videos):
    colour_index.update(videos)
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "unchanged": 3, "searchable": 4}
    assert colour_index.decoded == []
    known = records(colour_index)
    assert known["copy.mp4"].location == known["a.mp4"].location
    for level in ("video", "moment"):
        hits = colour_index.search("red", level=level)
        # The copy with the smaller id, which depends on the folder, stands for both.
        shown, other = sorted(("a.mp4", "copy.mp4"), key=lambda key: known[key].public_id)
        assert hits[0].key == shown
        assert [copy.key for copy in hits[0].also_as] == [other]
        assert {hit.key for hit in hits} == {shown, "b.mp4", "c.mp4"}


def test_copy_outlives_the_original(colour_index, videos):
    colour_index.update(videos)
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    colour_index.update(videos)
    (videos / "a.mp4").unlink()
    summary = colour_index.update(videos)
    assert counts(summary) == {"unchanged": 3, "deleted": 1, "searchable": 3}
    assert best(colour_index, "red") == "copy.mp4"
    assert colour_index.search("red", level="moment")[0].key == "copy.mp4"


def test_two_videos_that_swap_names_keep_their_own_contents(colour_index, videos):
    colour_index.update(videos)
    (videos / "a.mp4").rename(videos / "t")
    (videos / "b.mp4").rename(videos / "a.mp4")
    (videos / "t").rename(videos / "b.mp4")
    colour_index.update(videos)
    assert best(colour_index, "red") == "b.mp4"
    assert best(colour_index, "green") == "a.mp4"
    assert colour_index.keys() == ["a.mp4", "b.mp4", "c.mp4"]
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}


def test_renamed_video_whose_old_name_has_new_content(colour_index, videos, colour_film):
    colour_index.update(videos)
    (videos / "a.mp4").rename(videos / "z.mp4")
    colour_film("a.mp4", BLUE, num_frames=30)
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 2, "unchanged": 2, "searchable": 4}
    assert colour_index.decoded == ["a.mp4"]
    assert best(colour_index, "red") == "z.mp4"
    assert {hit.key for hit in colour_index.search("blue", k=2)} == {"a.mp4", "c.mp4"}


def test_video_moved_over_another_replaces_it(colour_index, videos):
    colour_index.update(videos)
    (videos / "a.mp4").replace(videos / "b.mp4")
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "unchanged": 1, "deleted": 1, "searchable": 2}
    assert colour_index.decoded == []
    assert best(colour_index, "red") == "b.mp4"


def test_deleted_video_is_no_longer_found(colour_index, videos):
    colour_index.update(videos)
    (videos / "b.mp4").unlink()
    summary = colour_index.update(videos)
    assert counts(summary) == {"unchanged": 2, "deleted": 1, "searchable": 2}
    assert colour_index.keys() == ["a.mp4", "c.mp4"]
    assert {hit.key for hit in colour_index.search("green", level="moment")} == {"a.mp4", "c.mp4"}
    line = colour_index.report()["b.mp4"]
    assert (line["action"], line["outcome"]) == ("deleted", "")


def test_old_files_do_not_pile_up(colour_index, videos, colour_film):
    for num_frames in (20, 22, 24, 26):
        for name, colour in zip("abc", COLOURS.values(), strict=True):
            colour_film(f"{name}.mp4", colour, num_frames=num_frames)
        colour_index.update(videos)
    assert len(list((colour_index.folder / "embeddings").iterdir())) == 1
    assert len(list(colour_index.folder.glob("*.faiss"))) == 2


def test_changed_metadata_is_stored_without_decoding(colour_index, videos, tmp_path):
    path = tmp_path / "list.jsonl"
    colour_index.update(write_list(path, {"video": "videos/a.mp4", "title": "old"}))
    metadata = {"title": "caf\u00e9 \u732b", "captions": ["red"], "tags": ["x", {"y": [1, None]}]}
    summary = colour_index.update(write_list(path, {"video": "videos/a.mp4"} | metadata))
    assert counts(summary) == {"unchanged": 1, "searchable": 1}
    assert colour_index.decoded == []
    assert colour_index.search("red")[0].metadata == metadata
    assert colour_index.search("red", level="moment")[0].metadata == metadata


# Broken videos


def test_broken_video_among_good_ones_is_named(colour_index, videos):
    (videos / "b.mp4").write_bytes(b"no video" * 100)
    (videos / "d.mp4").write_bytes(b"")
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 2, "failed": 2, "searchable": 2}
    assert colour_index.keys() == ["a.mp4", "c.mp4"]
    report = colour_index.report()
    assert {key: line["outcome"] for key, line in report.items()} == {
        "a.mp4": "ok",
        "b.mp4": "failed",
        "c.mp4": "ok",
        "d.mp4": "failed",
    }
    assert report["b.mp4"]["reason"] and report["b.mp4"]["video"] == str(videos / "b.mp4")
    assert "empty" in report["d.mp4"]["reason"]


def test_paths_that_cannot_be_are_failures_among_the_others(colour_index, videos, tmp_path):
    shutil.copy(videos / "a.mp4", os.fsencode(videos) + b"/caf\xe9.mp4")  # Latin-1
    names = ["videos/b.mp4", "nul\0.mp4", "half a pair \ud83d.mp4", "videos/caf\udce9.mp4"]
    path = write_list(tmp_path / "list.jsonl", *({"video": name} for name in names))
    assert counts(colour_index.update(path)) == {"indexed": 1, "failed": 3, "searchable": 1}
    report = colour_index.report()
    assert [report[name]["outcome"] for name in names] == ["ok", "failed", "failed", "failed"]
    assert report[names[1]]["reason"] == "no such file"
    assert report[names[3]]["reason"] == "its path is not UTF-8: rename it"


def test_failed_video_is_remembered_until_its_content_changes(colour_index, videos, colour_film):
    (videos / "b.mp4").write_bytes(b"no video" * 100)
    colour_index.update(videos)
    reason = colour_index.report()["b.mp4"]["reason"]
    summary = colour_index.update(videos)
    assert counts(summary) == {"unchanged": 2, "failed": 1, "searchable": 2}
    assert colour_index.decoded == []
    assert colour_index.report()["b.mp4"]["reason"] == reason
    os.utime(videos / "b.mp4", ns=(1, 1))
    assert counts(colour_index.update(videos))["failed"] == 1
    assert colour_index.decoded == []
    colour_film("b.mp4", GREEN)
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "unchanged": 2, "searchable": 3}
    assert best(colour_index, "green") == "b.mp4"


def test_retry_failed_tries_what_failed_and_nothing_else(colour_index, videos, monkeypatch):
    def out_of_order(path, settings, **options):
        if path.name == "b.mp4":
            raise VideoDecodeError("the decoder is out of order")
        return iter_frames(path, settings, **options)

    with monkeypatch.context() as patch:
        patch.setattr(colour_index, "iter_frames", out_of_order)
        assert counts(colour_index.update(videos))["failed"] == 1
    assert counts(colour_index.update(videos))["failed"] == 1
    assert colour_index.decoded == []
    summary = colour_index.update(videos, retry_failed=True)
    assert counts(summary) == {"indexed": 1, "unchanged": 2, "searchable": 3}
    assert colour_index.decoded == ["b.mp4"]
    assert colour_index.keys() == ["a.mp4", "b.mp4", "c.mp4"]


def test_retried_video_that_fails_again_stays_failed(colour_index, videos):
    (videos / "b.mp4").write_bytes(b"no video" * 100)
    colour_index.update(videos)
    summary = colour_index.update(videos, retry_failed=True)
    assert counts(summary) == {"unchanged": 2, "failed": 1, "searchable": 2}
    assert colour_index.decoded == ["b.mp4"]
    assert records(colour_index)["b.mp4"].outcome == "failed"


def test_retry_where_a_good_video_was_moved_over_the_failed_one(colour_index, videos):
    (videos / "b.mp4").write_bytes(b"no video" * 100)
    colour_index.update(videos)
    (videos / "a.mp4").replace(videos / "b.mp4")
    colour_index.update(videos, retry_failed=True)
    assert colour_index.decoded == []
    assert colour_index.keys() == ["b.mp4", "c.mp4"]
    assert best(colour_index, "red") == "b.mp4"


def test_retry_deletes_failed_videos_that_are_gone(colour_index, videos):
    (videos / "b.mp4").write_bytes(b"no video" * 100)
    colour_index.update(videos)
    (videos / "b.mp4").unlink()
    summary = colour_index.update(videos, retry_failed=True)
    assert counts(summary) == {"unchanged": 2, "deleted": 1, "searchable": 2}
    assert sorted(records(colour_index)) == ["a.mp4", "c.mp4"]


def test_all_broken_is_an_index_of_nothing_that_can_be_repaired(colour_index, videos, colour_film):
    for name in "abc":
        (videos / f"{name}.mp4").write_bytes(b"no video" * 100)
    assert counts(colour_index.update(videos)) == {"failed": 3}
    with pytest.raises(ValueError, match="nothing in it can be searched yet"):
        colour_index.search("red")
    colour_film("a.mp4", RED)
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 1, "failed": 2, "searchable": 1}


def test_video_that_breaks_off_is_partial_and_found_as_far_as_it_goes(
    colour_index, videos, write_video
):
    write_video("long.mp4", [RED] * 40 + [GREEN] * 40, fps=2, folder=videos)

    def break_off(path, settings, **options):
        chunks = iter_frames(path, settings, **options)
        yield next(chunks)
        if path.name == "long.mp4":
            raise VideoDecodeError("damaged here")

    colour_index.iter_frames = break_off
    summary = colour_index.update(videos)
    assert counts(summary) == {"indexed": 4, "partial": 1, "searchable": 4}
    line = colour_index.report()["long.mp4"]
    assert (line["outcome"], line["num_frames"], line["decoder"]) == ("partial", 32, "pyav")
    assert "damaged here" in line["reason"]
    moments = [hit for hit in colour_index.search("red", level="moment") if hit.key == "long.mp4"]
    assert max(hit.end_seconds for hit in moments) == pytest.approx(15.5, abs=0.01)  # frame 31
    summary = colour_index.update(videos)
    assert counts(summary) == {"unchanged": 4, "partial": 1, "searchable": 4}


# What a run refuses


def test_new_videos_in_place_of_old_ones_that_are_gone(colour_index, videos, colour_film):
    colour_index.update(videos)
    for name in "abc":
        (videos / f"{name}.mp4").unlink()
    colour_film("x.mp4", GREEN, num_frames=6)
    assert counts(colour_index.update(videos)) == {"indexed": 1, "deleted": 3, "searchable": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fingerprint": "f" * 32}, "was built with model=colours"),
        ({"sampling": {"kind": "uniform", "num_frames": 3}}, "was built with sampling"),
        ({"segments": {"seconds": 9.0, "overlap_seconds": 2.0}}, "was built with segments"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(colour_index, videos, changed, message):
    colour_index.update(videos)
    before = files(colour_index.folder)
    (videos / "a.mp4").unlink()
    with pytest.raises(IndexMismatchError, match=message):
        colour_index.update(videos, settings=replace(colour_index.settings, **changed))
    assert files(colour_index.folder) == before


def test_second_writer_is_refused_while_the_first_holds_the_lock(colour_index, videos):
    colour_index.update(videos)
    first = FileLock(colour_index.folder / "writer.lock")
    with first, pytest.raises(ValueError, match="another process is writing it; wait"):
        colour_index.update(videos)
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}


def test_folder_of_other_files_is_left_alone(colour_index, videos, tmp_path):
    colour_index.folder.mkdir()
    (colour_index.folder / "thesis.doc").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other files, such as thesis.doc"):
        colour_index.update(videos)
    assert [path.name for path in colour_index.folder.iterdir()] == ["thesis.doc"]


def test_index_that_is_a_file_is_refused(colour_index, videos):
    colour_index.folder.write_text("not a folder")
    with pytest.raises(ValueError, match=r"index=.*: cannot be made \(File exists\)"):
        colour_index.update(videos)


# Damage


@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_run_rebuilds_faiss_files_that_have_suffered(colour_index, videos, monkeypatch, damage):
    monkeypatch.setattr(reelseek.indexing.snapshot, "_OPEN_ATTEMPTS", 2)
    colour_index.update(videos)
    (path,) = colour_index.folder.glob("moment-*.faiss")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:60] if damage == "truncated" else b"garbage" * 99)
    with pytest.raises(ValueError, match=r"run reelseek repair --index "):
        colour_index.search("red")
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}
    assert colour_index.decoded == []
    assert best(colour_index, "red") == "a.mp4"


def test_run_goes_on_after_one_that_was_killed_before_it_had_a_manifest(colour_index, videos):
    colour_index.folder.mkdir()
    (colour_index.folder / "writer.lock").touch()
    (colour_index.folder / "manifest.json.4242.tmp").write_text('{"form')
    assert counts(colour_index.update(videos)) == {"indexed": 3, "searchable": 3}


# Stopped runs


def assert_complete(index, keys):
    """Each video is there exactly once, searchable, with the embeddings of its own content."""
    assert index.keys() == sorted(keys)
    reader = IndexReader(index.folder)
    assert reader.manifest.num_videos == len(keys)
    reader.close()
    known = records(index)
    assert known.keys() == set(keys)
    tables = level_tables(known.values())
    ids = [record.id for record in known.values()]
    assert tables["video"]["video"].tolist() == ids
    assert set(tables["moment"]["video"].tolist()) == set(ids)
    positions = np.concatenate([table[["part", "row"]] for table in tables.values()]).tolist()
    assert len(set(positions)) == len(positions)
    assert index.report().keys() == set(keys)
    assert not list(index.folder.rglob("*.tmp"))


@pytest.mark.parametrize("num_done", [0, 1, 4])
def test_stopped_run_keeps_what_is_done_and_the_next_does_the_rest(
    colour_index, write_video, tmp_path, monkeypatch, num_done
):
    keys = [f"{i}.mp4" for i in range(8)]
    for i, key in enumerate(keys):
        colour = list(COLOURS.values())[i % 3]
        write_video(key, [colour] * (10 + i), fps=2, folder=tmp_path / "videos")
    encode_video_by_video(monkeypatch)
    colour_index.encoder.batch_frames = 1000  # a video a batch
    num_encoded = 0

    def stop_after_some(pixels):
        nonlocal num_encoded
        if num_encoded == num_done:
            raise KeyboardInterrupt
        num_encoded += 1

    colour_index.encoder.before_encoding = stop_after_some
    summary = colour_index.update(tmp_path / "videos")
    assert summary.stopped
    assert counts(summary) == ({"indexed": num_done, "searchable": num_done} if num_done else {})
    if num_done:
        assert colour_index.keys() == keys[:num_done]
    del colour_index.encoder.before_encoding
    summary = colour_index.update(tmp_path / "videos")
    assert not summary.stopped
    expected = {"indexed": 8 - num_done, "unchanged": num_done, "searchable": 8}
    assert counts(summary) == {name: count for name, count in expected.items() if count}
    assert colour_index.decoded == keys[num_done:]
    assert_complete(colour_index, keys)


def test_request_to_stop_is_followed_when_the_videos_in_hand_are_done(
    colour_index, write_video, tmp_path, monkeypatch
):
    keys = [f"{i:02d}.mp4" for i in range(60)]
    for i, key in enumerate(keys):
        write_video(key, [RED] * (1 + i), size=(16, 16), folder=tmp_path / "videos")
    encode_video_by_video(monkeypatch)
    stop = StopRequest()

    def ask(pixels):
        stop.signal_number = 15

    colour_index.encoder.before_encoding = ask
    summary = colour_index.update(tmp_path / "videos", stop=stop)
    assert summary.stopped
    assert 1 <= summary.indexed < 60
    assert summary.indexed == summary.searchable == len(colour_index.decoded)
    assert colour_index.keys() == keys[: summary.indexed]
    rest = colour_index.update(tmp_path / "videos", stop=StopRequest())
    assert not rest.stopped
    assert (rest.indexed, rest.unchanged) == (60 - summary.indexed, summary.indexed)
    assert colour_index.decoded == keys[summary.indexed :]
    assert_complete(colour_index, keys)


def test_run_that_is_asked_to_stop_before_it_begins_does_nothing(colour_index, videos):
    colour_index.update(videos)
    (videos / "a.mp4").unlink()
    summary = colour_index.update(videos, stop=StopRequest(signal_number=2))
    assert (summary.stopped, summary.deleted, summary.searchable) == (True, 0, 3)
    assert colour_index.decoded == []


def test_stopped_run_deletes_nothing(colour_index, videos, colour_film):
    colour_index.update(videos)
    (videos / "a.mp4").unlink()
    colour_film("d.mp4", GREEN, num_frames=6)

    def stop(pixels):
        raise KeyboardInterrupt

    colour_index.encoder.before_encoding = stop
    summary = colour_index.update(videos)
    assert (summary.stopped, summary.deleted, summary.searchable) == (True, 0, 3)


def test_what_is_done_is_saved_while_the_run_goes_on(colour_index, videos, monkeypatch):
    monkeypatch.setattr(reelseek.indexing.writer, "SAVE_EVERY_SECONDS", 0.0)
    encode_video_by_video(monkeypatch)
    colour_index.encoder.batch_frames = 1000  # a video a batch
    saved = []

    def look(pixels):
        saved.append(sorted(records(colour_index)))

    colour_index.encoder.before_encoding = look
    colour_index.update(videos)
    assert saved == [[], ["a.mp4"], ["a.mp4", "b.mp4"]]


# Indexes in forks of one process, each of which it kills after the time it is told.
_KILLED_RUNS = """
import json, os, signal, sys, time
import torch
torch.set_num_threads(1)
import reelseek.indexing.pipeline, reelseek.indexing.writer
from reelseek.indexing import IndexSettings, update_index
from reelseek.indexing.sources.collection import read_source
from tests.conftest import ColourClip, InProcessPool, tokenize_colours
from tests.indexing.conftest import SAMPLER, WatchedEncoder, encode_video_by_video
from reelseek.vision import DualEncoder, FrameSettings, ModelSpec, Preprocessing
import pytest
from pathlib import Path

folder, videos, settings, delays = (json.loads(line) for line in sys.stdin)
settings = IndexSettings(**settings)
preprocessing = Preprocessing((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
model = DualEncoder(ModelSpec("colours"), ColourClip().eval(), tokenize_colours, 8, 3,
                    preprocessing, settings.fingerprint)
reelseek.indexing.writer.SAVE_EVERY_SECONDS = 0.0
encode_video_by_video(pytest.MonkeyPatch())
for delay in delays:
    child = os.fork()
    if child == 0:
        encoder = WatchedEncoder(model, device="cpu", precision="fp32")
        encoder.before_encoding = lambda pixels: time.sleep(0.03)
        update_index(Path(folder), [read_source(videos)], settings=settings, encoder=encoder,
                     pool=InProcessPool(FrameSettings(SAMPLER, preprocessing)),
                     show_progress=False)
        os._exit(0)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.WIFSIGNALED(status), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")
def test_killed_runs_leave_an_index_that_the_next_completes(
    colour_index, colour_settings, write_video, tmp_path
):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED_RUNS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    keys = [f"{i:02d}.mp4" for i in range(24)]
    for i, key in enumerate(keys):
        colour = list(COLOURS.values())[i % 3]
        write_video(key, [colour] * (10 + i), fps=2, folder=tmp_path / "videos")
    delays = np.random.default_rng(0).uniform(0.02, 0.4, size=10).tolist()
    values = (str(colour_index.folder), str(tmp_path / "videos"), vars(colour_settings), delays)
    stdout, stderr = process.communicate("\n".join(json.dumps(value) for value in values))
    # A run needs nearly a second, so most were killed in the middle of their work.
    assert process.returncode == 0, stderr
    assert stdout.split().count("True") > 5, stderr
    num_done = len(saved_keys(colour_index) | journalled_keys(colour_index))
    summary = colour_index.update(tmp_path / "videos")
    assert summary.indexed + summary.unchanged == 24
    assert summary.unchanged >= num_done  # and what was encoded and not yet added
    assert len(colour_index.decoded) == summary.indexed
    assert_complete(colour_index, keys)
    for colour in COLOURS:
        first = colour_index.search(colour, k=8)
        assert {int(hit.key[:2]) % 3 for hit in first} == {list(COLOURS).index(colour)}


def test_uniform_sampling_is_indexed_as_well(colour_index, videos):
    sampling = {"kind": "uniform", "num_frames": 4}
    settings = replace(colour_index.settings, sampling=sampling)
    colour_index.update(videos, settings=settings, pool=colour_index.pool(UniformSampler(4)))
    assert {line["num_frames"] for line in colour_index.report().values()} == {4}
    assert best(colour_index, "green") == "b.mp4"


def test_what_was_done_before_a_crash_is_not_done_again(colour_index, videos):
    def crash(path, settings, **options):
        if path.name == "c.mp4":
            raise MemoryError
        return iter_frames(path, settings, **options)

    colour_index.iter_frames = crash
    with pytest.raises(MemoryError):
        colour_index.update(videos)
    assert list(colour_index.folder.glob("embeddings/*")) == []  # nothing was saved yet
    colour_index.iter_frames = iter_frames
    summary = colour_index.update(videos)
    assert colour_index.decoded == ["c.mp4"]
    assert (summary.indexed, summary.unchanged) == (1, 2)
    assert colour_index.search("red")[0].key == "a.mp4"
    assert not (colour_index.folder / "unsaved.journal").exists()
