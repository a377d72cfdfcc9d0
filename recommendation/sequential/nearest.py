"""Item vectors -> the items that score best for a history, by FAISS."""

import faiss
import numpy as np

__all__ = ["NearestItems"]

# Up to here every item is compared: about a millisecond.
_MAX_EXHAUSTIVE = 50_000
_ITEMS_PER_CELL = 500
_SAMPLES_PER_CELL = 50  # that the cells' centres are trained on
_SEARCHED_FRACTION = 0.02  # of the cells


class NearestItems:
    """Finds the items of the greatest inner product.

    A large catalogue is divided into cells, of which a search looks at the nearest few (Jégou et
    al., TPAMI 2011, "Product Quantization for Nearest Neighbor Search", section IV), with a byte
    for each component. Item vectors are of one length, so the greatest inner product is that of the
    nearest ones.

    Args:
        item_vectors: `(N, V)` float32, of `SequentialModel.item_vectors`.
    """

    def __init__(self, item_vectors: np.ndarray) -> None:
        num_items, dim = item_vectors.shape
        vectors = np.ascontiguousarray(item_vectors, np.float32)
        self._index: faiss.Index
        if num_items <= _MAX_EXHAUSTIVE:
            self._index = faiss.IndexFlatIP(dim)
        else:
            num_cells = num_items // _ITEMS_PER_CELL
            self._index = faiss.index_factory(
                dim, f"IVF{num_cells},SQ8", faiss.METRIC_INNER_PRODUCT
            )
            faiss.extract_index_ivf(self._index).nprobe = max(
                1, round(_SEARCHED_FRACTION * num_cells)
            )
            rows = np.random.default_rng(0).permutation(num_items)[: _SAMPLES_PER_CELL * num_cells]
            self._index.train(vectors[rows])
        self._index.add(vectors)

    def search(self, history_vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns `(B, k)` scores, falling, and `(B, k)` item indices; -1 where there are fewer.

        Args:
            history_vectors: `(B, V)`, of `SequentialModel.history_vectors`.
            k: how many, those of the history among them.
        """
        scores, items = self._index.search(np.ascontiguousarray(history_vectors, np.float32), k)
        return scores, items
