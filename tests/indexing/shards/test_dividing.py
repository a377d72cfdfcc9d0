"""Dividing and joining: the same index before, after, and wherever it was killed."""

import shutil
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.shards.opening import open_catalogue, open_writer
from reelseek.indexing.tools.verify import find_problems
from tests.indexing.in_process import run_tool
from tests.indexing.searching import search
from tests.indexing.shards.collection import answers, collection, make_index
from tests.indexing.shards.test_writer import add, is_whole, keys, killed_at, steps_of, videos
from tests.indexing.small_index import Oracle, queries

pytest.importorskip("tantivy")


def entries(folder):
    """All that a catalogue holds but where it lies, by public id."""
    with closing(open_catalogue(folder)) as catalogue:
        held = {}
        for record in catalogue.scan():
            texts = [(e.source, e.engine, e.texts) for e in catalogue.text_entries([record.id])]
            values = {k: v for k, v in vars(record).items() if k not in ("id", "location")}
            held[record.public_id] = values, texts
        return held, sorted(catalogue.excluded()), catalogue.edits(), catalogue.index_metadata("m")


def test_divided_and_joined_it_says_the_same(tmp_path):
    made, texts = collection(num=24)

    def change(writer):
        records = sorted(writer.catalogue.scan(), key=lambda record: record.key)
        writer.set_frame_spread(0.25)
        writer.catalogue.set_index_metadata("m", "[]")
        writer.catalogue.exclude(records[4:6])
        writer.catalogue.edit(records[7], {"title": "changed by hand"})

    folder = make_index(tmp_path / "index", made, texts, num_shards=1, change=change)
    with closing(IndexReader(folder)) as reader:
        ids = reader.video_ids()
    expected, held = answers(folder, ids), entries(folder)
    generation = Manifest.read(folder).generation
    for num_shards in (3, 2, 1):
        before = Manifest.read(folder)
        manifest = divide_index(folder, num_shards)
        assert manifest.generation > generation
        generation = manifest.generation
        assert manifest == Manifest.read(folder)
        assert manifest.frame_spread == 0.25 and manifest.settings == before.settings
        assert len(manifest.shard_manifests(folder)) == num_shards
        np.testing.assert_equal(entries(folder), held)
        for one, other in zip(answers(folder, ids), expected, strict=True):
            np.testing.assert_equal(one, other)
    assert list(find_problems(folder)) == []
    assert not (folder / "shards").exists()


@pytest.mark.usefixtures("without_words")
def test_what_only_the_old_division_has_is_deleted(tmp_path):
    add(tmp_path, videos(0, 6))
    divide_index(tmp_path, 1)
    whole = {path.name for path in tmp_path.iterdir()}
    divide_index(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} <= {"manifest.json", "shards", "writer.lock"}
    divide_index(tmp_path, 4)
    assert len(list((tmp_path / "shards").iterdir())) == 4
    divide_index(tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == whole


@pytest.mark.usefixtures("without_words")
def test_as_many_shards_change_nothing(tmp_path):
    add(tmp_path, videos(0, 6))
    before = Manifest.path(tmp_path).read_bytes()
    divide_index(tmp_path, 3)
    assert Manifest.path(tmp_path).read_bytes() == before


@pytest.mark.usefixtures("without_words")
def test_open_readers_go_over(tmp_path):
    add(tmp_path, videos(0, 8))
    with closing(IndexReader(tmp_path)) as reader:
        for num_shards in (5, 1, 2):
            divide_index(tmp_path, num_shards)
            add_more(tmp_path, 8 + num_shards)
            found = {hit.key for hit in search(reader, queries(1)[0], k=99)}
            assert f"{8 + num_shards}.mp4" in found and len(reader.shards) == num_shards
        assert reader.revision >= 0


def add_more(folder, number):
    with open_writer(folder) as writer:
        for video, rows in videos(number, number + 1):
            writer.add(video, rows)
        writer.publish()


@pytest.mark.usefixtures("without_words")
@pytest.mark.parametrize(
    ("before", "after", "placement"), [(1, 2, None), (2, 1, None), (3, 2, "cluster")]
)
def test_killed_anywhere_it_is_the_old_or_the_new_one(tmp_path, before, after, placement):
    start, expected = tmp_path / "start", Oracle({v.key: (v, rows) for v, rows in videos(0, 6)})
    add(start, videos(0, 6))
    divide_index(start, before)
    numbers = set()

    def work(folder):
        divide_index(folder, after, placement=placement)

    for step in steps_of(start, work):
        folder = tmp_path / f"killed-{step}"
        shutil.copytree(start, folder)
        killed_at(step, lambda folder=folder: work(folder))
        numbers.add(len(Manifest.read(folder).shard_manifests(folder)))
        is_whole(folder, expected)
        work(folder)
        is_whole(folder, expected)
        assert len(list(folder.glob("clusters-*"))) == (placement == "cluster")
        assert len(keys(folder)) == 6
        assert list(find_problems(folder)) == []
        shutil.rmtree(folder)
    assert numbers == {before, after}


@pytest.mark.usefixtures("without_words")
def test_command(tmp_path):
    add(tmp_path, videos(0, 6))
    done = run_tool("shard", f"index={tmp_path}", "shards=2")
    assert done.returncode == 0
    assert '"shards": 2, "searchable": 6' in done.stdout
    done = run_tool("shard", f"index={tmp_path}", "shards=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "shards=0: must be 1 to 9999" in done.stderr
