"""Item vectors -> the items that score best for a user, by FAISS."""

from pathlib import Path

import faiss
import numpy as np

__all__ = ["NearestItems", "make_cells", "needs_cells", "read_cells"]

# Up to here every item is compared: about a millisecond.
_MAX_EXHAUSTIVE = 50_000
_ITEMS_PER_CELL = 500
_SAMPLES_PER_CELL = 50  # that the cells' centres are trained on
_SEARCHED_FRACTION = 0.02  # of the cells


class NearestItems:
    """Finds the items of the greatest inner product. Threads may share it.

    Args:
        item_vectors: `(N, V)` float32.
        cells: of the same vectors, see `make_cells`; None to compare every item.
    """

    def __init__(self, item_vectors: np.ndarray, cells: faiss.Index | None = None) -> None:
        if cells is None:
            cells = faiss.IndexFlatIP(item_vectors.shape[1])
            cells.add(np.ascontiguousarray(item_vectors, np.float32))
        self._index = cells

    def search(self, user_vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `(B, k)` scores, falling, and `(B, k)` item indices; -1 where there are fewer.

        Args:
            user_vectors: `(B, V)`.
            k: how many, those of the history among them.
        """
        scores, items = self._index.search(np.ascontiguousarray(user_vectors, np.float32), k)
        return scores, items


def needs_cells(num_items: int) -> bool:
    """Whether there are so many items that comparing all takes too long."""
    return num_items > _MAX_EXHAUSTIVE


def make_cells(item_vectors: np.ndarray) -> faiss.Index:
    """Divides a large catalogue into cells, of which a search looks at the nearest few (Jégou et
    al., TPAMI 2011, "Product Quantization for Nearest Neighbor Search", section IV), with a byte
    for each component."""
    num_items, dim = item_vectors.shape
    vectors = np.ascontiguousarray(item_vectors, np.float32)
    num_cells = max(1, num_items // _ITEMS_PER_CELL)
    index = faiss.index_factory(dim, f"IVF{num_cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(index).nprobe = max(1, round(_SEARCHED_FRACTION * num_cells))
    rows = np.random.default_rng(0).permutation(num_items)[: _SAMPLES_PER_CELL * num_cells]
    index.train(vectors[np.sort(rows)])
    index.add(vectors)
    return index


def read_cells(path: Path) -> faiss.Index:
    """Maps cells into memory.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: it is no FAISS index") from error
