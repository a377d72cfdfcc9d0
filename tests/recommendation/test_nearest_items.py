"""What FAISS finds against comparing every item."""

from pathlib import Path

import numpy as np
import pytest

from reelseek.indexing.vectors.shard import write_index
from reelseek.recommendation import nearest_items
from reelseek.recommendation.nearest_items import (
    NearestItems,
    make_cells,
    needs_cells,
    read_cells,
)


def unit_vectors(num: int, *, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_small_catalogue_is_compared_whole() -> None:
    items, asked = unit_vectors(100, seed=0), unit_vectors(3, seed=1)
    scores, found = NearestItems(items).search(asked, 5)
    every = asked @ items.T
    assert np.array_equal(found, np.argsort(-every, axis=1)[:, :5])
    np.testing.assert_allclose(scores, -np.sort(-every, axis=1)[:, :5], rtol=1e-5)


def test_fewer_items_than_asked_for() -> None:
    _, found = NearestItems(unit_vectors(3, seed=0)).search(unit_vectors(1, seed=1), 5)
    assert sorted(found[0].tolist()) == [-1, -1, 0, 1, 2]


def test_a_large_catalogue_is_found_nearly_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest_items, "_ITEMS_PER_CELL", 50)
    monkeypatch.setattr(nearest_items, "_SEARCHED_FRACTION", 0.5)
    items, asked = unit_vectors(2000, seed=0), unit_vectors(20, seed=1)
    write_index(tmp_path / "cells.faiss", make_cells(items))
    cells = read_cells(tmp_path / "cells.faiss")
    _, found = NearestItems(items, cells).search(asked, 10)
    best = np.argsort(-(asked @ items.T), axis=1)[:, :10]
    shared = [len(set(a) & set(b)) for a, b in zip(best.tolist(), found.tolist(), strict=True)]
    assert np.mean(shared) > 9


def test_cells_are_for_catalogues_that_take_long_to_compare() -> None:
    assert (needs_cells(20_000), needs_cells(1_000_000)) == (False, True)


def test_damaged_cells_are_said(tmp_path: Path) -> None:
    (tmp_path / "cells.faiss").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is damaged"):
        read_cells(tmp_path / "cells.faiss")
