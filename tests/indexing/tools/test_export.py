import gc
import json
import math
import sys
from contextlib import closing, suppress

import numpy as np
import pytest

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.tools import export
from reelseek.indexing.tools.export import export_index
from tests.command_lines import assert_user_error
from tests.indexing.damage import aged_index, damage_embedding, forget_log, records
from tests.indexing.in_process import run_tool
from tests.indexing.small_index import D, contents, failed_video, make_index, random_video

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "new" / "output"


def read(path):
    """Columns as lists, and the embeddings `(n, D)`."""
    table = parquet.read_table(path)
    vectors = table.column("embedding").to_pylist()
    columns = {name: table.column(name).to_pylist() for name in table.column_names[:-1]}
    assert table.column_names[-1] == "embedding"
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
    assert str(table.schema.field("embedding").type.value_type) == "halffloat"
    return columns, np.array(vectors, np.float32).reshape(-1, D)


def assert_exported(folder, output, oracle, *, frames=True):
    """Each searchable video once, its segments and frames in their order, and nothing else."""
    ids = {key: record["id"] for key, record in records(folder).items()}
    searchable = [
        (ids[key], video, rows) for key, (video, rows) in oracle.held.items() if len(rows)
    ]
    searchable.sort(key=lambda entry: entry[0])
    columns, vectors = read(output / "videos.parquet")
    assert columns["video_id"] == [number for number, _, _ in searchable]
    for name in ("key", "path", "outcome", "duration_seconds"):
        assert columns[name] == [getattr(video, name) for _, video, _ in searchable]
    metadata = [json.loads(text) for text in columns["metadata"]]
    assert metadata == [video.metadata for _, video, _ in searchable]
    np.testing.assert_array_equal(vectors, np.array([rows[0] for _, _, rows in searchable]))

    columns, vectors = read(output / "segments.parquet")
    spans = [(n, *span) for n, video, _ in searchable for span in video.spans.tolist()]
    got = zip(*(columns[n] for n in ("video_id", "start_seconds", "end_seconds")), strict=True)
    assert list(got) == spans
    segments = [rows[1 : 1 + len(video.spans)] for _, video, rows in searchable]
    np.testing.assert_array_equal(vectors, np.concatenate(segments))
    assert (output / "frames.parquet").exists() == frames
    if not frames:
        return
    columns, vectors = read(output / "frames.parquet")
    times = [(n, second) for n, video, _ in searchable for second in video.frame_times.tolist()]
    assert list(zip(columns["video_id"], columns["seconds"], strict=True)) == times
    rows_of_frames = [rows[1 + len(video.spans) :] for _, video, rows in searchable]
    np.testing.assert_array_equal(vectors, np.concatenate(rows_of_frames))


@pytest.mark.parametrize("frames", [False, True])
def test_what_is_exported_is_what_was_put_in(folder, output, frames):
    oracle = aged_index(folder)
    before = contents(folder)
    counts = export_index(folder, output, frames=frames)
    held = [(video, rows) for video, rows in oracle.held.values() if len(rows)]
    expected = {"videos": len(held), "segments": sum(len(video.spans) for video, _ in held)}
    if frames:
        expected["frames"] = sum(len(video.frame_times) for video, _ in held)
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        texts = catalogue.texts(catalogue.searchable_ids().tolist())
    assert counts == expected | {"texts": sum(map(len, texts.values()))}
    assert counts["texts"] > 0
    assert_exported(folder, output, oracle, frames=frames)
    assert contents(folder) == before


@pytest.mark.parametrize("rows", [1, 5])
def test_row_groups_do_not_show(monkeypatch, folder, output, rows):
    monkeypatch.setattr(export, "_ROWS", rows)
    oracle = aged_index(folder)
    export_index(folder, output, frames=True)
    assert parquet.ParquetFile(output / "segments.parquet").num_row_groups > 5
    assert_exported(folder, output, oracle)


def test_odd_names_and_metadata_arrive_as_they_are(folder, output):
    rng = np.random.default_rng(0)
    metadata = {"title": "Ünï\n'\"", "nested": {"a": [1, None, 2.5]}, "n": 2**60}
    oracle = make_index(
        folder,
        [random_video(rng, "ü/a b.mp4", metadata=metadata), random_video(rng, "", metadata={})],
    )
    export_index(folder, output, frames=True)
    assert_exported(folder, output, oracle)


def test_endless_number_in_the_metadata_is_null(folder, output):
    rng = np.random.default_rng(0)
    make_index(folder, [random_video(rng, "a.mp4", metadata={"score": math.inf})])
    export_index(folder, output)
    (text,) = read(output / "videos.parquet")[0]["metadata"]
    assert json.loads(text, parse_constant=pytest.fail) == {"score": None}


@pytest.mark.parametrize("videos", [[], [failed_video("failed.mp4")]])
def test_index_in_which_nothing_can_be_found_gives_files_without_rows(folder, output, videos):
    make_index(folder, videos)
    counts = export_index(folder, output, frames=True)
    assert counts == {"videos": 0, "segments": 0, "frames": 0, "texts": 0}
    for name in ("videos", "segments", "frames"):
        assert parquet.read_table(output / f"{name}.parquet").num_rows == 0


def test_earlier_export_is_replaced(folder, output):
    oracle = aged_index(folder)
    output.mkdir(parents=True)
    (output / "videos.parquet").write_bytes(b"garbage")
    (output / "notes.txt").touch()
    export_index(folder, output)
    assert_exported(folder, output, oracle, frames=False)
    names = sorted(path.name for path in output.iterdir())
    assert names == ["notes.txt", "segments.parquet", "texts.parquet", "videos.parquet"]


def test_damaged_embedding_is_refused_and_nothing_is_half_written(folder, output):
    oracle = aged_index(folder)
    export_index(folder, output)
    damage_embedding(folder, "8.mp4")
    with pytest.raises(ValueError, match="is damaged at row"):
        export_index(folder, output)
    assert_exported(folder, output, oracle, frames=False)
    assert sorted(path.suffix for path in output.iterdir()) == [".parquet"] * 3


def test_refusal_is_all_that_is_said(monkeypatch, folder, output):
    aged_index(folder)
    damage_embedding(folder, "8.mp4")
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with suppress(ValueError):
        export_index(folder, output)
    gc.collect()
    assert said == []


# The command line


def test_command_says_how_many_rows(folder, output):
    oracle = aged_index(folder)
    process = run_tool("export", f"index={folder}", f"output={output}", "frames=true")
    assert (process.returncode, process.stderr) == (0, "")
    assert json.loads(process.stdout)["videos"] == 26
    assert_exported(folder, output, oracle)


def test_mistakes_are_one_line(tmp_path, folder, output):
    aged_index(folder)
    process = run_tool("export", f"index={tmp_path}/none", f"output={output}")
    assert_user_error(process, "none", "no such folder")
    assert_user_error(run_tool("export", f"index={folder}"), "output is missing")
    assert not output.exists()
    forget_log(folder)
    (folder / CATALOGUE_NAME).unlink()
    process = run_tool("export", f"index={folder}", f"output={output}")
    assert_user_error(process, CATALOGUE_NAME, "is missing or damaged")


@pytest.mark.parametrize("position", ["file", "file/output"])
def test_output_that_cannot_be_a_folder_is_one_line(tmp_path, folder, position):
    aged_index(folder)
    (tmp_path / "file").touch()
    process = run_tool("export", f"index={folder}", f"output={tmp_path}/{position}")
    assert_user_error(process, "output=")


def test_missing_pyarrow_is_named_with_what_installs_it(monkeypatch, folder, output):
    aged_index(folder)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    process = run_tool("export", f"index={folder}", f"output={output}")
    assert_user_error(process, "pyarrow", "pip install 'reelseek[parquet]'")
    assert not output.exists()
