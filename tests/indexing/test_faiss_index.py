import faiss
import numpy as np
import pytest

from indexing.faiss_index import nearest, read_faiss, write_faiss


def unit_rows(rng, n, d):
    rows = rng.normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_neighbours_equal_brute_force(tmp_path):
    rng = np.random.default_rng(0)
    xb = unit_rows(rng, 500, 32)
    ids = rng.permutation(10_000)[:500]
    write_faiss(tmp_path / "a.faiss", xb, ids)
    index = read_faiss(tmp_path / "a.faiss")
    for xq in unit_rows(rng, 20, 32):
        scores, found = nearest(index, xq, k=25)
        similarity = xb @ xq
        best = np.argsort(-similarity)[:25]
        np.testing.assert_array_equal(found, ids[best])
        np.testing.assert_allclose(scores, similarity[best], atol=1e-6)


def test_fewer_come_back_where_the_index_holds_fewer(tmp_path):
    xb = np.eye(3, dtype=np.float32)
    write_faiss(tmp_path / "a.faiss", xb, np.array([7, 8, 9]))
    scores, ids = nearest(read_faiss(tmp_path / "a.faiss"), xb[1], k=10)
    assert scores.tolist() == [1.0, 0.0, 0.0]
    assert ids[0] == 8 and sorted(ids.tolist()) == [7, 8, 9]


def test_empty_index_has_no_neighbours(tmp_path):
    write_faiss(tmp_path / "a.faiss", np.empty((0, 3), np.float32), np.empty(0, np.int64))
    scores, ids = nearest(read_faiss(tmp_path / "a.faiss"), np.ones(3, np.float32), k=5)
    assert (scores.shape, ids.shape) == ((0,), (0,))


def test_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_faiss(tmp_path / "a.faiss")


def test_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "a.faiss"
    write_faiss(path, np.eye(3, dtype=np.float32), np.arange(3))
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a.faiss is damaged: run python -m indexing"):
            read_faiss(path)


def test_file_that_claims_more_memory_than_there_is_is_refused(tmp_path, monkeypatch):
    # What FAISS raises where a damaged length asks for 2**50 bytes.
    def read_index(path):
        raise MemoryError("std::bad_alloc")

    (tmp_path / "a.faiss").write_bytes(b"damaged")
    monkeypatch.setattr(faiss, "read_index", read_index)
    with pytest.raises(ValueError, match=r"a.faiss is damaged"):
        read_faiss(tmp_path / "a.faiss")
