"""Factors of many videos -> a FAISS index that finds the largest inner products."""

from pathlib import Path
from typing import Any

import faiss
import numpy as np

__all__ = ["make_index", "read_index", "search"]

_PROBED = 16  # lists that a search looks at
_TRAINED_ON = 64  # vectors for each list


def make_index(factors: np.ndarray, *, seed: int = 0) -> Any:
    """Makes an inverted file over `(N, F)` float32."""
    num, dim = factors.shape
    num_lists = max(1, int(np.sqrt(num)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, num_lists, faiss.METRIC_INNER_PRODUCT)
    draws = np.random.default_rng(seed).permutation(num)[: _TRAINED_ON * num_lists]
    index.train(factors[np.sort(draws)])
    index.add(factors)
    return index


def search(index: Any, user: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns numbers and inner products, the best first; fewer than k where the lists that are
    looked at hold fewer."""
    parameters = faiss.SearchParametersIVF(nprobe=_PROBED)  # type: ignore[call-arg]
    products, numbers = index.search(user[None], k, params=parameters)
    is_there = numbers[0] >= 0
    return numbers[0][is_there], products[0][is_there]


def read_index(path: Path) -> Any:
    """Maps an index into memory.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged: it is no FAISS index") from error
