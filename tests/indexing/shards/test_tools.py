"""The tools on an index in shards say and do what they do on the ordinary one."""

import json
import shutil
from contextlib import closing

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.shards.opening import open_catalogue, open_writer
from reelseek.indexing.store.catalogue import Catalogue
from tests.indexing.in_process import run_tool
from tests.indexing.shards.collection import collection, make_index
from tests.indexing.shards.test_dividing import entries
from tests.indexing.shards.test_writer import add, is_whole, keys, videos
from tests.indexing.small_index import Oracle

pytest.importorskip("tantivy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An ordinary index, and the same in three shards."""
    folder = tmp_path_factory.mktemp("made")
    held, texts = collection(num=30)
    for num_shards in (1, 3):
        make_index(folder / str(num_shards), held, texts, num_shards=num_shards)
    return folder


@pytest.fixture
def both(made, tmp_path):
    return [shutil.copytree(made / name, tmp_path / name) for name in ("1", "3")]


def test_status_adds_up(both):
    one, shards = (run_tool("status", f"index={folder}", "json=true").metrics for folder in both)
    for name in ("videos", "searchable_videos", "searchable_segments", "model", "words", "recall"):
        if name != "words":
            assert shards[name] == one[name], name
    for name in ("videos", "timed_texts"):
        assert shards["words"][name] == one["words"][name]
    for level in ("video", "moment"):
        (whole,), (added,) = one["faiss"][level], shards["faiss"][level]
        assert (added["kind"], added["vectors"]) == (whole["kind"], whole["vectors"])
    parts = [each["searchable_videos"] for each in shards["shards"].values()]
    assert len(parts) == 3 and sum(parts) == one["searchable_videos"]
    said = run_tool("status", f"index={both[1]}").stdout
    assert f"shards: 3, of {', '.join(map(str, parts))} videos" in said


def test_export_has_the_same_rows(both, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    tables = []
    for folder in both:
        output = tmp_path / f"tables-{folder.name}"
        assert run_tool("export", f"index={folder}", f"output={output}", "frames=true").metrics
        rows = {}
        ids = {r["video_id"]: r["id"] for r in pq.read_table(output / "videos.parquet").to_pylist()}
        assert len(set(ids.values())) == len(ids)
        for name in ("videos", "segments", "frames", "texts"):
            table = pq.read_table(output / f"{name}.parquet").to_pylist()
            named = [json.dumps(row | {"video_id": ids[row["video_id"]]}) for row in table]
            rows[name] = sorted(named)
        tables.append(rows)
    assert tables[0] == tables[1]


def test_delete_by_filter_and_by_name(both):
    with closing(IndexReader(both[0])) as reader:
        name = reader.video_ids()[5]
    for arguments in (["where=year = 2002"], [f"keys=[{name}]"], ["keys=[broken.mp4]"]):
        one, shards = (run_tool("delete", f"index={folder}", *arguments) for folder in both)
        assert one.metrics == shards.metrics
        assert sorted(one.stdout.splitlines()[:-1]) == sorted(shards.stdout.splitlines()[:-1])
    one, shards = (run_tool("delete", f"index={folder}", "keys=[no.mp4]") for folder in both)
    assert one.returncode == shards.returncode == 2 and one.stderr == shards.stderr
    np.testing.assert_equal(entries(both[0]), entries(both[1]))


def test_merging_from_and_into_shards(both, tmp_path):
    for sources, index in ((both[1], tmp_path / "merged"), (both[0], tmp_path / "more")):
        if index.name == "more":
            add(index, [])
        done = run_tool("merge", f"sources=[{sources}]", f"index={index}")
        assert done.metrics == {"added": 31, "known": 0}
        with closing(open_catalogue(index)) as merged, closing(open_catalogue(both[0])) as one:
            assert merged.public_ids() == one.public_ids()
            texts = [len(list(c.text_entries([r.id for r in c.scan()]))) for c in (merged, one)]
            assert texts[0] == texts[1] > 0
        assert len(Manifest.read(index).shard_manifests(index)) == (
            3 if index.name == "more" else 1
        )
        assert run_tool("merge", f"sources=[{sources}]", f"index={index}").metrics["added"] == 0


# Verifying and repairing


def verified(folder) -> list[str]:
    done = run_tool("verify", f"index={folder}", "sample=0")
    assert done.returncode == (1 if len(done.stdout.splitlines()) > 1 else 0)
    return done.stdout.splitlines()[:-1]


def flip(path, at=-40):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.usefixtures("without_words")
@pytest.mark.parametrize("damaged", ["faiss", "embeddings", "shard manifest", "manifest", "both"])
def test_what_is_damaged_is_found_and_repaired(tmp_path, monkeypatch, damaged):
    monkeypatch.setattr("reelseek.indexing.snapshot._OPEN_ATTEMPTS", 2)
    add(tmp_path, videos(0, 9))
    assert verified(tmp_path) == []
    shard = tmp_path / "shards" / "0001"
    if damaged == "faiss":
        flip(next(shard.glob("moment-*.faiss")))
    if damaged == "embeddings":
        flip(next(shard.glob("embeddings/*.npy")))
    if damaged in ("shard manifest", "both"):
        flip(shard / "manifest.json")
    if damaged in ("manifest", "both"):
        flip(tmp_path / "manifest.json")
    found = verified(tmp_path)
    assert found and ("manifest" in damaged or damaged == "both" or "shards/0001: " in found[0])
    done = run_tool("repair", f"index={tmp_path}")
    assert done.metrics["searchable"] == (8 if damaged == "embeddings" else 9)
    assert verified(tmp_path) == []
    if damaged != "embeddings":
        is_whole(tmp_path, Oracle({v.key: (v, rows) for v, rows in videos(0, 9)}))
    add(tmp_path, videos(0, 12))
    assert len(keys(tmp_path)) == 12


@pytest.mark.usefixtures("without_words")
def test_a_shard_that_has_lost_its_place_is_repaired(tmp_path):
    add(tmp_path, videos(0, 6))
    with closing(Catalogue(tmp_path / "shards" / "0002" / CATALOGUE_NAME)) as catalogue:
        catalogue._connection.execute("DELETE FROM facts WHERE name = 'shard'")
        catalogue._connection.commit()
    assert verified(tmp_path) == ["shards/0002: is not shard 2 of this index"]
    assert run_tool("repair", f"index={tmp_path}").metrics == {"dropped": 0, "searchable": 6}
    assert verified(tmp_path) == []


@pytest.mark.usefixtures("without_words")
def test_shards_that_do_not_belong_together_are_one_line(tmp_path):
    add(tmp_path, videos(0, 6))
    (tmp_path / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "shards" / "0000")
    done = run_tool("repair", f"index={tmp_path}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "say any more what belongs together" in done.stderr
    shutil.rmtree(tmp_path / "shards")
    add(tmp_path / "other", videos(0, 6))
    shutil.rmtree(tmp_path / "other" / "shards" / "0002")
    done = run_tool("repair", f"index={tmp_path / 'other'}")
    assert done.returncode == 2 and "0002 is missing" in done.stderr


@pytest.mark.usefixtures("without_words")
def test_strays_are_found(tmp_path):
    add(tmp_path, videos(0, 6))
    with open_writer(tmp_path) as writer:
        for video, rows in videos(6, 12):
            writer.shards[0].add(video, rows)
        writer.publish()
    assert any("of its videos belong in other shards" in line for line in verified(tmp_path))
