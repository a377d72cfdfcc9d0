"""Tables of shards: where samples lie, from headers and from the cache."""

import os
import tarfile

import numpy as np
import pytest

from reelseek.indexing.shutdown import StopRequest
from reelseek.training.shards.collection import find_all_shards, read_collection
from reelseek.training.shards.table import BrokenShardError, read_table, scan
from tests.training.shards.generated import write_shard

FILES = [
    ("./a/0001.jpg", b"first"),
    ("./a/0001.txt", "a cat"),
    ("0002.jpg", b"thumbnail"),
    ("0002.en.json", "{}"),
    ("0002.json", '{"caption": "a dog"}'),
    ("0002.mp4", b"second, a video"),
    ("0003.txt", "without a picture"),
    ("0004.png", b"without a caption"),
    ("0005.png", b"one"),
    ("0005.webp", b"two"),
    ("0005.txt", "two pictures"),
    ("ünï.JPG", b"third"),
    ("ünï.json", '{"width": 9}'),
    ("ünï.txt", "a bird"),
    ("../0006.jpg", b"outside"),
    ("../0006.txt", "outside"),
    (".jpg", b"no name"),
    (".txt", "no name"),
]


@pytest.fixture
def shard(tmp_path):
    return write_shard(tmp_path / "s" / "0.tar", FILES)


def contents_of(table):
    """Name, picture or video, ending and captions of each sample, read at its offsets."""
    whole = table.shard.read_bytes()
    return [
        (
            at.name,
            whole[at.offset : at.offset + at.size_bytes],
            at.captions_ending,
            whole[at.captions_offset : at.captions_offset + at.captions_bytes].decode(),
        )
        for at in map(table.sample, range(len(table)))
    ]


EXPECTED = [
    ("./a/0001.jpg", b"first", "txt", "a cat"),
    ("0002.mp4", b"second, a video", "json", '{"caption": "a dog"}'),
    ("ünï.JPG", b"third", "txt", "a bird"),
]


def test_offsets_lead_to_each_samples_files(shard):
    table = scan(shard)
    assert contents_of(table) == EXPECTED
    assert table.left_out == (
        "'0003' has no picture or video",
        "'0004' has no captions",
        "'0005' has 2 pictures or videos",
    )


def test_cached_table_is_the_same_and_reads_no_headers(shard, tmp_path, monkeypatch):
    first = read_table(shard, tmp_path / "cache")
    monkeypatch.setattr(tarfile, "open", None)
    again = read_table(shard, tmp_path / "cache")
    assert contents_of(again) == contents_of(first) == EXPECTED
    assert again.left_out == first.left_out


def test_changed_shard_and_damaged_cache_are_read_anew(shard, tmp_path):
    cache = tmp_path / "cache"
    read_table(shard, cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert contents_of(read_table(shard, cache)) == EXPECTED
    write_shard(shard, FILES[:2])
    os.utime(shard, ns=(1, 1))
    assert contents_of(read_table(shard, cache)) == EXPECTED[:1]


@pytest.mark.parametrize("num_bytes", [0, 100, 512, 700, 2048, 5000])
def test_shard_that_is_cut_off_is_broken(shard, tmp_path, num_bytes):
    shard.write_bytes(shard.read_bytes()[:num_bytes])
    with pytest.raises(BrokenShardError, match="is not a whole, uncompressed tar"):
        read_table(shard, tmp_path / "cache")


# All shards of a run.


def read(names, tmp_path, **changes):
    options = {
        "cache_folder": tmp_path / "cache",
        "max_failed_fraction": 0.4,
        "stop": StopRequest(),
    }
    return read_collection([str(name) for name in names], **(options | changes))


def test_samples_are_numbered_through_all_whole_shards(tmp_path, caplog):
    for number, count in enumerate([2, 0, 3]):
        files = [(f"{i}.{end}", f"{number}") for i in range(count) for end in ("jpg", "txt")]
        write_shard(tmp_path / "s" / f"{number}.tar", files)
    (tmp_path / "s" / "1b.tar").write_bytes(b"no tar" * 300)
    collection = read([tmp_path / "s"], tmp_path)
    names = [(at.shard.stem, at.name) for at in map(collection.sample, range(5))]
    assert names == [("0", "0.jpg"), ("0", "1.jpg"), ("2", "0.jpg"), ("2", "1.jpg"), ("2", "2.jpg")]
    np.testing.assert_array_equal(collection.sizes, [2, 0, 3])
    ((path, reason),) = collection.broken
    assert path == str(tmp_path / "s" / "1b.tar")
    assert f"left out: {path}: {reason}" in caplog.text


def test_too_many_broken_shards_are_refused_with_the_first(tmp_path):
    write_shard(tmp_path / "0.tar", FILES)
    (tmp_path / "1.tar").write_bytes(b"no tar")
    message = r"1 of 2 shards are broken, .*max_failed_fraction=0\.1 .*1\.tar: is not a whole"
    with pytest.raises(ValueError, match=message):
        read([tmp_path / "{0..1}.tar"], tmp_path, max_failed_fraction=0.1)


def test_shards_without_a_sample_are_refused(tmp_path):
    write_shard(tmp_path / "0.tar", FILES[6:8])
    with pytest.raises(ValueError, match=r"hold 0 samples.*0\.tar: holds no captioned sample"):
        read([tmp_path / "0.tar"], tmp_path)


def test_list_names_shards_beside_it(tmp_path):
    for number in range(4):
        write_shard(tmp_path / "s" / f"{number}.tar", FILES)
    (tmp_path / "list.txt").write_text("s/3.tar\n\ns/{0..1}.tar\ns/3.tar\n")
    paths = find_all_shards([str(tmp_path / "list.txt"), str(tmp_path / "s" / "2.tar")])
    assert [path.name for path in paths] == ["3.tar", "0.tar", "1.tar", "2.tar"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("{0..2}.tar", None, r"data\.train=.*2\.tar: no such shard"),
        ("list.txt", "0.tar\n9.tar\n", r"list\.txt, line 2: .*9\.tar: no such shard"),
        ("list.txt", "0.tar\nlist.txt\n", r"line 2: list\.txt is a list itself"),
        ("list.txt", "\n", r"list\.txt: names no shard"),
        ("train.jsonl", "{}", r"train\.jsonl: data\.stream=true reads \.tar shards"),
    ],
)
def test_missing_shard_is_named(tmp_path, name, content, message):
    for number in range(2):
        write_shard(tmp_path / f"{number}.tar", FILES)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        find_all_shards([str(tmp_path / name)])
