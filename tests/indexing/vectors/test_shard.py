import pickle
import subprocess
import sys
import zlib
from dataclasses import replace
from functools import lru_cache

import faiss
import numpy as np
import pytest

from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.shard import (
    TABLE_DTYPE,
    Shard,
    ShardInfo,
    file_checksum,
    write_index,
    write_table,
)
from tests.command_lines import PROJECT
from tests.indexing.small_index import unit

D = 32
KINDS = [
    "Flat",
    "HNSW32,SQ8",
    "IVF16,SQ8",
    "IVF16,RaBitQ2",
    "PCA16,IVF16,SQ8",
    "OPQ8_16,IVF16,PQ8x4",
]
IVF_KINDS = [kind for kind in KINDS if "IVF" in kind]


def random_rows(num, *, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(num, D)))


def table_of(num, *, rows_a_video=3):
    """Of videos with an id of 10, 20, ..."""
    table = np.zeros(num, TABLE_DTYPE)
    table["video"] = 10 * (1 + np.arange(num) // rows_a_video)
    table["part"], table["row"] = 1, np.arange(num)
    return table


@lru_cache
def build(kind, num, data):
    rows = np.frombuffer(data, np.float32).reshape(num, D)
    return faiss_tuning.build(kind, num, lambda a, b: rows[a:b], embedding_dim=D)


def write_shard(folder, rows, *, kind="Flat", tuning=None):
    index = build(kind, len(rows), rows.tobytes())
    info = ShardInfo("main", "main", len(rows), kind, tuning=tuning or {}, trained_on=len(rows))
    faiss_path, table_path = info.files(folder)
    return replace(
        info,
        faiss_checksum=write_index(faiss_path, index),
        table_checksum=write_table(table_path, table_of(len(rows))),
    )


def with_checksums(info, folder):
    """What the manifest would say if the files had been written as they are now."""
    faiss_path, table_path = info.files(folder)
    return replace(
        info,
        faiss_checksum=file_checksum(faiss_path),
        table_checksum=file_checksum(table_path),
    )


def open_shard(folder, info):
    return Shard(folder, info, embedding_dim=D)


# Searching


def test_flat_neighbours_equal_brute_force(tmp_path):
    rows = random_rows(500)
    shard = open_shard(tmp_path, write_shard(tmp_path, rows))
    for xq in random_rows(20, seed=1):
        np.testing.assert_array_equal(shard.nearest(xq, k=25)[0], np.argsort(-rows @ xq)[:25])


def test_fewer_come_back_where_there_are_fewer(tmp_path):
    shard = open_shard(tmp_path, write_shard(tmp_path, random_rows(3)))
    assert sorted(shard.nearest(random_rows(1)[0], k=10)[0].tolist()) == [0, 1, 2]


def test_shard_of_nothing_has_no_neighbours(tmp_path):
    shard = open_shard(tmp_path, write_shard(tmp_path, np.empty((0, D), np.float32)))
    assert shard.nearest(np.ones(D, np.float32), k=5)[0].shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.5, 0.02])
def test_only_what_is_allowed_is_found(tmp_path, kind, fraction):
    rows = random_rows(1000)
    tuning = {"nprobe": 16, "efSearch": 1024, "candidates": 1}
    shard = open_shard(tmp_path, write_shard(tmp_path, rows, kind=kind, tuning=tuning))
    is_allowed = np.random.default_rng(2).random(1000) < fraction
    allowed = np.packbits(is_allowed, bitorder="little")
    for xq in random_rows(5, seed=1):
        found = shard.nearest(xq, k=10, allowed=allowed)[0]
        assert len(found) == len(set(found.tolist())) == 10
        assert is_allowed[found].all()
        nothing = shard.nearest(xq, k=10, allowed=np.zeros_like(allowed))[0]
        assert len(nothing) == 0


@pytest.mark.parametrize("kind", IVF_KINDS)
def test_exhaustive_search_of_an_inverted_file_finds_everything(tmp_path, kind):
    rows = random_rows(1000)
    shard = open_shard(tmp_path, write_shard(tmp_path, rows, kind=kind, tuning={"nprobe": 1}))
    xq = random_rows(1, seed=1)[0]
    assert len(shard.nearest(xq, k=1000)[0]) < 1000
    everything = shard.nearest(xq, k=1000, exhaustive=True)[0]
    assert sorted(everything.tolist()) == list(range(1000))
    # And the last one that is allowed, wherever it lies.
    farthest = int((rows @ xq).argmin())
    only = np.packbits(np.arange(1000) == farthest, bitorder="little")
    assert shard.nearest(xq, k=1, allowed=only, exhaustive=True)[0].tolist() == [farthest]


@pytest.mark.parametrize("kind", KINDS)
def test_candidates_hold_most_of_the_true_neighbours(tmp_path, kind):
    rows = random_rows(1000)
    tuning = {"nprobe": 16, "efSearch": 256, "candidates": 20}
    shard = open_shard(tmp_path, write_shard(tmp_path, rows, kind=kind, tuning=tuning))
    num_found = 0
    for xq in random_rows(20, seed=1):
        true = np.argsort(-rows @ xq)[:10]
        found = shard.nearest(xq, k=10)[0]
        num_found += len(np.intersect1d(found, true))
    assert num_found >= 0.8 * 200


def test_tuned_shard_is_the_same_files_searched_otherwise(tmp_path):
    info = write_shard(tmp_path, random_rows(1000), kind="IVF16,SQ8", tuning={"nprobe": 1})
    shard = open_shard(tmp_path, info)
    other = shard.tuned(replace(info, tuning={"nprobe": 16, "candidates": 3}))
    xq = random_rows(1, seed=1)[0]
    assert len(other.nearest(xq, k=300)[0]) == 900
    assert len(shard.nearest(xq, k=300)[0]) < 300


@pytest.mark.parametrize("rows_a_video", [1, 3])
def test_rows_of_a_video(tmp_path, rows_a_video):
    info = write_shard(tmp_path, random_rows(9))
    table = table_of(9, rows_a_video=rows_a_video)
    write_table(info.files(tmp_path)[1], table)
    shard = open_shard(tmp_path, with_checksums(info, tmp_path))
    for video, first, last in zip(range(101), *shard.of_videos(np.arange(101)), strict=True):
        rows = np.arange(9)[first:last]
        np.testing.assert_array_equal(rows, np.flatnonzero(table["video"] == video))


# Files that have suffered


def test_checksum_is_the_crc_32_of_the_whole_file(tmp_path):
    content = np.random.default_rng(0).bytes((9 << 20) + 5)  # more than is read at once
    (tmp_path / "a").write_bytes(content)
    assert file_checksum(tmp_path / "a") == zlib.crc32(content)


def test_written_checksums_are_those_of_the_files(tmp_path):
    info = write_shard(tmp_path, random_rows(9))
    assert info == with_checksums(info, tmp_path)


@pytest.mark.parametrize("suffix", ["faiss", "npy"])
def test_missing_file_is_file_not_found(tmp_path, suffix):
    info = write_shard(tmp_path, random_rows(9))
    (tmp_path / f"main.{suffix}").unlink()
    with pytest.raises(FileNotFoundError):
        open_shard(tmp_path, info)


@pytest.mark.parametrize("suffix", ["faiss", "npy"])
def test_any_flipped_byte_and_any_cut_are_noticed(tmp_path, suffix):
    info = write_shard(tmp_path, random_rows(4))
    path = tmp_path / f"main.{suffix}"
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position])
        with pytest.raises(ValueError, match=rf"main.{suffix} is damaged: run .*repair"):
            open_shard(tmp_path, info)
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        )
        with pytest.raises(ValueError, match=rf"main.{suffix} is damaged: run .*repair"):
            open_shard(tmp_path, info)
    path.write_bytes(content)
    open_shard(tmp_path, info)


def test_files_that_swapped_places_are_noticed(tmp_path):
    for name, seed in (("main", 0), ("other", 1)):
        info = write_shard(tmp_path, random_rows(9, seed=seed))
        for path in info.files(tmp_path):
            path.rename(tmp_path / f"{name}-kept{path.suffix}")
    other = replace(info, name="main-kept", table="main-kept")
    with pytest.raises(ValueError, match=r"main-kept.faiss is damaged"):
        open_shard(tmp_path, other)


@pytest.mark.parametrize("count", [8, 10, 0])
def test_another_count_than_the_manifest_s_is_refused(tmp_path, count):
    info = write_shard(tmp_path, random_rows(9))
    with pytest.raises(ValueError, match=r"main.npy is damaged"):
        open_shard(tmp_path, replace(info, count=count))
    write_table(tmp_path / "main.npy", table_of(count))  # as long as it says, the index is not
    with pytest.raises(ValueError, match=r"main.faiss is damaged"):
        open_shard(tmp_path, with_checksums(replace(info, count=count), tmp_path))


def test_another_dimension_is_refused(tmp_path):
    info = write_shard(tmp_path, random_rows(9))
    with pytest.raises(ValueError, match=r"main.faiss is damaged"):
        Shard(tmp_path, info, embedding_dim=D + 1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(9),
        np.zeros((9, 1), TABLE_DTYPE),
        np.zeros((), TABLE_DTYPE),
        np.zeros(9, TABLE_DTYPE.newbyteorder(">")),
        np.array([None] * 9),
    ],
    ids=lambda array: str(array.dtype)[:20],
)
def test_table_of_another_type_or_shape_is_refused(tmp_path, array):
    info = write_shard(tmp_path, random_rows(9))
    np.save(tmp_path / "main.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"main.npy is damaged"):
        open_shard(tmp_path, with_checksums(info, tmp_path))


def hostile_files(content):
    """Cuts of a file, and what is none."""
    rng = np.random.default_rng(0)
    cuts = [content[:size] for size in rng.integers(len(content), size=40)]
    return [*cuts, content[:-1], b"", b"garbage" * 99, content[::-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_not_what_was_written_never_reaches_faiss(tmp_path, monkeypatch, kind):
    """Some that are cut off end the process in FAISS itself."""
    info = write_shard(tmp_path, random_rows(1000), kind=kind)
    path = tmp_path / "main.faiss"
    monkeypatch.setattr(faiss, "read_index", lambda *args: pytest.fail("was read"))
    for hostile in hostile_files(path.read_bytes()):
        path.write_bytes(hostile)
        with pytest.raises(ValueError, match=r"main.faiss is damaged: run .*repair"):
            open_shard(tmp_path, info)


def open_hostile_files(folder):
    """What becomes of each of the hostile files of a shard, whose description is read from stdin;
    in a process of its own, since FAISS may end it."""
    info = pickle.load(sys.stdin.buffer)
    path = folder / "main.faiss"
    for hostile in hostile_files(path.read_bytes()):
        path.write_bytes(hostile)
        try:
            open_shard(folder, with_checksums(info, folder))
            print("opened", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)


# Of other kinds FAISS does not notice every cut: it is a right checksum that keeps it from them.
@pytest.mark.parametrize("kind", ["Flat", "HNSW32,Flat"])
def test_hostile_file_with_a_right_checksum_is_an_error_and_no_crash(tmp_path, kind):
    """Whoever writes the file may well write the manifest too."""
    info = write_shard(tmp_path, random_rows(64), kind=kind)
    code = (
        "import sys, pathlib; "
        "from tests.indexing.vectors.test_shard import open_hostile_files as run"
    )
    opening = subprocess.run(
        [sys.executable, "-c", f"{code}; run(pathlib.Path(sys.argv[1]))", tmp_path],
        input=pickle.dumps(info),
        capture_output=True,
        cwd=PROJECT,
    )
    assert opening.returncode == 0, opening.stderr
    assert opening.stdout.split() == [b"ValueError"] * 44


def test_index_of_another_class_is_refused_or_searched_like_any(tmp_path):
    info = write_shard(tmp_path, random_rows(9))
    binary = faiss.IndexIDMap2(faiss.IndexFlatIP(D))
    binary.add_with_ids(random_rows(9), np.arange(9) + 10**12)
    info = replace(info, faiss_checksum=write_index(tmp_path / "main.faiss", binary))
    shard = open_shard(tmp_path, info)
    assert len(shard.nearest(random_rows(1)[0], k=5)[0]) == 0  # positions that there are not


def test_file_that_claims_more_memory_than_there_is_is_refused(tmp_path, monkeypatch):
    # What FAISS raises where a damaged length asks for 2**50 bytes.
    def read_index(path, flags):
        raise MemoryError("std::bad_alloc")

    info = write_shard(tmp_path, random_rows(9))
    monkeypatch.setattr(faiss, "read_index", read_index)
    with pytest.raises(ValueError, match=r"main.faiss is damaged"):
        open_shard(tmp_path, info)
