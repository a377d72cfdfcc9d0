"""Embeddings and their ids -> an exact FAISS index in a file, and its nearest neighbours."""

from pathlib import Path

import faiss
import numpy as np

from indexing.atomic import publish_file


def write_faiss(path: Path, xb: np.ndarray, ids: np.ndarray) -> None:
    """Builds an exact inner-product index and publishes it at the path.

    Args:
        xb: `(nb, d)` float32, L2-normalised, so that inner product is cosine.
        ids: `(nb,)` int64.
    """
    nb, d = xb.shape
    index = faiss.index_factory(d, "IDMap,Flat", faiss.METRIC_INNER_PRODUCT)
    if nb:
        index.add_with_ids(xb, ids)
    publish_file(path, lambda temporary: faiss.write_index(index, str(temporary)))


def read_faiss(path: Path) -> faiss.Index:
    """Reads an index.

    Raises:
        FileNotFoundError: it is not there, as when a newer generation has replaced it.
        ValueError: the file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        return faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"{path} is damaged: run python -m indexing again to rebuild it"
        ) from error


def nearest(index: faiss.Index, xq: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of one query.

    Args:
        xq: `(d,)` float32.
        k: how many; fewer come back where the index holds fewer.

    Returns:
        `(n,)` float32 scores, best first, and `(n,)` int64 ids.
    """
    k = min(k, index.ntotal)
    if k == 0:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, ids = index.search(np.ascontiguousarray(xq[None], dtype=np.float32), k)
    return scores[0], ids[0]
