"""Embeddings of the queries that were asked, where a searcher was told to keep them.

They are what recall is measured on and FAISS is tuned for, next to stored vectors: a sentence lies
elsewhere than pictures do. No words are kept.
"""

import os
import zlib
from pathlib import Path

import numpy as np

_NAME = "queries.log"
_LIMIT_BYTES = 8 << 20


def append(folder: Path, query: np.ndarray) -> None:
    """Adds one `(D,)` query embedding; several processes may do so at once.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = folder / _NAME
    row = np.ascontiguousarray(query, dtype="<f2").tobytes()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size < _LIMIT_BYTES:
            os.write(descriptor, row + zlib.crc32(row).to_bytes(4, "little"))
    finally:
        os.close(descriptor)


def read(folder: Path, *, embedding_dim: int) -> np.ndarray:
    """The queries so far, `(n, D)` float32; what is damaged is left out."""
    dtype = np.dtype([("query", "<f2", (embedding_dim,)), ("checksum", "<u4")])
    try:
        data = (folder / _NAME).read_bytes()
    except FileNotFoundError:
        return np.empty((0, embedding_dim), np.float32)
    rows = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
    good = [zlib.crc32(row["query"].tobytes()) == row["checksum"] for row in rows]
    return rows["query"][np.array(good, dtype=bool)].astype(np.float32)
