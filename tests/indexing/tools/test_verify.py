import json
import shutil

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing import snapshot as generation
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.writer import IndexWriter
from tests.command_lines import assert_user_error
from tests.indexing.damage import (
    EVEN,
    aged_index,
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
    restored,
    row_bytes,
    row_offset,
)
from tests.indexing.in_process import run_tool
from tests.indexing.searching import search
from tests.indexing.small_index import failed_video, make_index, random_index, random_video

KINDS = ("auto", "IVF4,SQ8", "IVF4,RaBitQ2")
PAGE_BYTES = 4096  # of SQLite


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A reader waits for a writer that may be replacing what is missing; here there is none."""
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 1)


@pytest.fixture
def index(tmp_path):
    aged_index(tmp_path / "index")
    return tmp_path / "index"


def problems_of(folder):
    found = list(find_problems(folder))
    assert all(problem and "\n" not in problem for problem in found), found
    return found


def hits_if_any(folder, where=None):
    """None where the search refuses, in one line."""
    try:
        return hits(folder, where=where)
    except ValueError as error:
        assert len(str(error).splitlines()) == 1, error
        return None


class Sound:
    """What an index says before anything happens to it."""

    def __init__(self, folder):
        self.folder = folder
        self.hits = hits(folder)
        self.even = hits(folder, where=EVEN)
        self.records = records(folder)
        forget_log(folder)

    def assert_not_wrong(self):
        """A search answers as before or refuses; a filter lets no other videos through."""
        assert hits_if_any(self.folder) in (None, self.hits)
        for some in hits_if_any(self.folder, EVEN) or []:
            assert {hit.key for hit in some} <= {hit.key for hit in self.even[1]}

    def assert_same(self):
        assert hits(self.folder) == self.hits
        assert hits(self.folder, where=EVEN) == self.even
        assert records(self.folder) == self.records


def must_be_noticed(folder, path, at):
    """Whether a byte means something: not white space of the manifest, nor a row of a part that
    belongs to no video, nor what surrounds rows that carry their own checksums."""
    if path == Manifest.path(folder):
        return not path.read_bytes()[at : at + 1].isspace()
    if path.name == CATALOGUE_NAME:
        return False
    if not path.name.startswith("part-"):
        return True
    row = (at - row_offset(path, 0)) // row_bytes()
    known = records(folder)
    return any(
        path == part_path(folder, part)
        and first <= row < first + 1 + len(known[key]["spans"]) + len(known[key]["frame_times"])
        for key, (part, first) in locations(folder).items()
    )


# What is sound


@pytest.mark.parametrize("kind", KINDS)
def test_sound_index_has_no_problems(tmp_path, kind):
    oracle = aged_index(tmp_path / "index", kind=kind)
    for level in Manifest.read(tmp_path / "index").levels.values():
        assert level.main.kind == ("Flat" if kind == "auto" else kind)
        assert level.delta.count > 0
        assert level.deleted
    assert problems_of(tmp_path / "index") == []
    if kind == "auto":
        assert_sound(tmp_path / "index", oracle)


@pytest.mark.parametrize("videos", [[], [failed_video("failed.mp4")]])
def test_index_in_which_nothing_can_be_found_has_no_problems(tmp_path, videos):
    make_index(tmp_path / "index", videos)
    assert problems_of(tmp_path / "index") == []


def test_changes_that_are_not_published_are_no_problem(index):
    with IndexWriter(index) as writer:
        writer.add(*random_video(np.random.default_rng(0), "new.mp4"))
        writer.delete(["5.mp4"])
    assert problems_of(index) == []


def test_it_changes_nothing(index):
    before = {path: path.read_bytes() for path in index_files(index)}
    assert problems_of(index) == []
    assert {path: path.read_bytes() for path in index_files(index)} == before


# Files that have suffered


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_byte_of_any_file_is_noticed_and_no_search_answers_wrongly(tmp_path, kind):
    aged_index(tmp_path / "index", kind=kind)
    folder, rng = tmp_path / "index", np.random.default_rng(len(kind))
    sound = Sound(folder)
    for path in index_files(folder):
        for _ in range(0 if path.name == CATALOGUE_NAME else 5):
            at, mask = int(rng.integers(path.stat().st_size)), int(rng.integers(1, 256))
            noticed = must_be_noticed(folder, path, at)
            with restored(folder, path):
                flip(path, at, mask)
                assert hits_if_any(folder) in (None, sound.hits), (path.name, at, mask)
                if noticed:
                    assert problems_of(folder), (path.name, at, mask)
                elif not problems_of(folder):
                    sound.assert_same()


def test_flipped_byte_of_the_catalogue_is_noticed_or_harmless(index):
    # SQLite has free bytes, and comments in its schema.
    sound, path = Sound(index), index / CATALOGUE_NAME
    rng = np.random.default_rng(0)
    used = np.flatnonzero(np.frombuffer(path.read_bytes(), np.uint8))
    for at in rng.choice(used, 80).tolist():
        with restored(index, path):
            flip(path, at, int(rng.integers(1, 256)))
            sound.assert_not_wrong()
            if not problems_of(index):
                sound.assert_same()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["cut", "emptied", "deleted", "longer"])
def test_file_that_is_not_whole_is_noticed(tmp_path, kind, how):
    aged_index(tmp_path / "index", kind=kind)
    folder, rng = tmp_path / "index", np.random.default_rng(0)
    sound, parts = Sound(folder), folder / EMBEDDINGS_NAME
    for path in index_files(folder):
        data = path.read_bytes()
        # Of a part, its end may belong to no video.
        ends = {"cut": int(rng.integers(1, len(data) // 2)), "emptied": 0, "longer": len(data)}
        with restored(folder, path):
            if how == "deleted":
                path.unlink()
            else:
                overwrite(path, data[: ends[how]] + (b"\n\0 x" if how == "longer" else b""))
            found = hits_if_any(folder)
            assert found in (None, sound.hits), path.name
            # Behind a part's rows and a catalogue's pages nothing is looked at.
            if how != "longer" or path.suffix == ".faiss" or path.parent != parts:
                assert problems_of(folder) or (path.name == CATALOGUE_NAME and how == "longer")
            else:
                sound.assert_same()


@pytest.mark.parametrize(
    "name",
    [
        "part-00000001.npy",
        "manifest.json",
        pytest.param(
            CATALOGUE_NAME,
        ),
    ],
)
def test_folder_in_the_place_of_a_file_is_noticed(index, name):
    (path,) = index.rglob(name)
    forget_log(index)
    path.unlink()
    path.mkdir()
    assert problems_of(index)
    assert hits_if_any(index) is None


@pytest.mark.parametrize("pattern", ["*-main-*.faiss", "*-main-*.npy", "*-deleted-*.npy"])
def test_folder_in_the_place_of_a_file_of_a_shard_is_noticed(index, pattern):
    path = next(index.glob(pattern))
    path.unlink()
    path.mkdir()
    assert problems_of(index)
    assert hits_if_any(index) is None


# Embeddings that are not what was written


@pytest.mark.parametrize("number", [0, 1, -1])
def test_damaged_embedding_is_named_with_its_video(index, number):
    number %= 2 + len(records(index)["8.mp4"]["spans"])
    damage_embedding(index, "8.mp4", number)
    count = 1 + sum(len(records(index)["8.mp4"][name]) for name in ("spans", "frame_times"))
    assert problems_of(index) == [f"8.mp4: 1 of its {count} embeddings are damaged"]


def test_embedding_copied_over_another_is_noticed(index):
    sound, places = Sound(index), locations(index)
    (part, first), (_, other) = places["8.mp4"], places["9.mp4"]
    path = part_path(index, part)
    data = bytearray(path.read_bytes())
    here, there = row_offset(path, first), row_offset(path, other)
    data[there : there + row_bytes()] = data[here : here + row_bytes()]
    overwrite(path, bytes(data))
    (problem,) = problems_of(index)
    assert problem.startswith("9.mp4: 1 of its")
    sound.assert_not_wrong()


def test_exchanged_parts_are_noticed(tmp_path):
    rng = np.random.default_rng(0)
    make_index(
        tmp_path / "index", [random_video(rng, f"{i}.mp4", num_segments=3) for i in range(3)]
    )
    with IndexWriter(tmp_path / "index") as writer:
        for i in range(3, 6):
            writer.add(*random_video(rng, f"{i}.mp4", num_segments=3))
        writer.publish()
    sound = Sound(tmp_path / "index")
    one, other = (part_path(tmp_path / "index", part) for part in (1, 2))
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    assert len(problems_of(tmp_path / "index")) == 6
    sound.assert_not_wrong()


# Entries that are not what was written


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", "other.mp4"),
        ("path", "/videos/other.mp4"),
        ("size_bytes", 11),
        ("content_sha256", "another"),
        ("outcome", "partial"),
        ("duration_seconds", 1e9),
        ("metadata", '{"tags": ["even"], "more": 1}'),
        ("metadata", "no JSON"),
        ("spans", b""),
        ("spans", b"odd"),
        ("frame_times", np.zeros(1).tobytes()),
        ("part", 2),
        ("part", None),
        ("row", 0),
        ("row", "text"),
        ("checksum", 0),
    ],
)
def test_altered_entry_is_noticed(index, column, value):
    sound = Sound(index)
    change_catalogue(index, f"UPDATE videos SET {column} = ? WHERE key = '9.mp4'", (value,))
    assert any("the entry of video" in problem for problem in problems_of(index))
    sound.assert_not_wrong()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM videos WHERE key = '9.mp4'",
        "UPDATE videos SET id = 999 WHERE key = '27.mp4'",
    ],
)
def test_entry_that_is_elsewhere_or_gone_is_noticed(index, sql):
    change_catalogue(index, sql)
    assert problems_of(index)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM videos WHERE key = '9.mp4'",
        "UPDATE videos SET id = 999 WHERE key = '27.mp4'",
    ],
)
def test_search_does_not_take_a_lost_entry_for_a_deleted_one(index, sql):
    sound = Sound(index)
    change_catalogue(index, sql)
    sound.assert_not_wrong()


def exchange_ids(folder):
    for old, new in ((8, 1000), (9, 8), (1000, 9)):
        change_catalogue(folder, "UPDATE videos SET id = ? WHERE id = ?", (new, old))


def test_exchanged_entries_are_noticed(index):
    exchange_ids(index)
    assert problems_of(index)


def test_search_does_not_give_a_video_the_entry_of_another(index):
    sound = Sound(index)
    exchange_ids(index)
    sound.assert_not_wrong()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM counters WHERE name = 'revision'",
        "DELETE FROM counters WHERE name = 'next_part'",
        "UPDATE counters SET value = 2 WHERE name = 'next_part'",
    ],
)
def test_damaged_counter_is_noticed(index, sql):
    change_catalogue(index, sql)
    assert problems_of(index)


def test_altered_copy_of_the_settings_is_noticed(index):
    change_catalogue(index, "UPDATE facts SET value = replace(value, 'ffff', 'fffe')")
    assert problems_of(index)


def test_damaged_page_is_told_in_one_line(index):
    path = index / CATALOGUE_NAME
    flip(path, path.stat().st_size - PAGE_BYTES + 8)  # the place of the page's first entry
    assert problems_of(index)


def test_filter_over_a_damaged_page_is_refused_in_one_line(index):
    path = index / CATALOGUE_NAME
    flip(path, path.stat().st_size - PAGE_BYTES)  # what sort of page it is
    assert hits_if_any(index) is None
    assert hits_if_any(index, EVEN) is None


def test_filter_does_not_pass_over_a_damaged_entry(index):
    sound = Sound(index)
    change_catalogue(index, "UPDATE videos SET metadata = '{}' WHERE key = '8.mp4'")
    assert hits_if_any(index, EVEN) in (None, sound.even)


def test_schema_that_is_no_text_is_told_with_the_remedy(index):
    path = index / CATALOGUE_NAME
    flip(path, path.read_bytes().index(b"CREATE TABLE videos") + 3, 0x80)
    (problem,) = problems_of(index)
    assert CATALOGUE_NAME in problem
    assert "reelseek repair" in problem


# Tricks


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sub/x", "sub/../x", "."])
@pytest.mark.parametrize("field", ["name", "table", "deleted"])
def test_manifest_that_leads_out_of_the_folder_is_refused(index, name, field):
    def change(values):
        level = values["levels"]["moment"]
        (level if field == "deleted" else level["main"])[field] = name

    change_manifest(index, change)
    (problem,) = problems_of(index)
    assert "manifest.json is damaged" in problem
    assert hits_if_any(index) is None


def test_manifest_that_names_the_folder_above_is_refused(index):
    change_manifest(index, lambda values: values["levels"]["moment"].update(deleted=".."))
    assert problems_of(index)
    assert hits_if_any(index) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("levels"),
        lambda values: values.update(levels=[]),
        lambda values: values.update(settings=None),
        lambda values: values["levels"]["video"].update(main="main"),
        lambda values: values["levels"]["video"]["main"].pop("name"),
        lambda values: values.update(more=1),
    ],
)
def test_manifest_of_other_fields_is_damaged(index, change):
    change_manifest(index, change)
    (problem,) = problems_of(index)
    assert "manifest.json is damaged" in problem


# The command line


def test_command_says_that_all_is_well(index):
    process = run_tool("verify", f"index={index}")  # the videos' files are not there to encode
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout) == {"problems": 0, "encoded_again": 0}


def test_command_names_problems_and_the_remedy(index):
    damage_embedding(index, "8.mp4")
    damage_embedding(index, "26.mp4", 1)
    process = run_tool("verify", f"index={index}", "sample=0")
    assert process.returncode == 1
    *problems, summary = process.stdout.splitlines()
    assert [problem.partition(":")[0] for problem in problems] == ["8.mp4", "26.mp4"]
    assert json.loads(summary) == {"problems": 2, "encoded_again": 0}
    assert process.stderr == f"run reelseek repair --index {index}\n"


def test_wrong_options_are_one_line(tmp_path, index):
    assert_user_error(run_tool("verify", f"index={tmp_path}/none"), "none", "no such folder")
    assert_user_error(run_tool("verify", f"index={index}", "sample=-1"), "sample=-1")
    assert_user_error(run_tool("verify", f"index={index}", "k=1"), "unknown option k")
    assert_user_error(run_tool("verify"), "index is missing")
    file = tmp_path / "file"
    file.touch()
    assert_user_error(run_tool("verify", f"index={file}"), "file")


def test_folder_that_is_no_index_is_a_problem(tmp_path):
    assert_user_error(run_tool("verify", f"index={tmp_path}"), "is not an index")
    (problem,) = problems_of(tmp_path)
    assert "is not an index" in problem


def test_copy_of_an_index_is_sound(index, tmp_path):
    forget_log(index)
    shutil.copytree(index, tmp_path / "copy")
    assert problems_of(tmp_path / "copy") == []
    assert hits(tmp_path / "copy") == hits(index)


def test_reader_that_was_open_before_answers_on(tmp_path):
    random_index(tmp_path / "index", 10)
    sound = hits(tmp_path / "index")
    reader = IndexReader(tmp_path / "index")
    query = np.ones(8, np.float32)
    before = search(reader, query, k=5)
    overwrite(Manifest.path(tmp_path / "index"), b"garbage")
    assert search(reader, query, k=5) == before
    reader.close()
    assert sound and problems_of(tmp_path / "index")
