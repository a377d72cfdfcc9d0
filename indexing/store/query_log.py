"""Embeddings of sentences that people search with, on which recall is measured and FAISS is tuned.

Sentences lie elsewhere than the stored embeddings of videos. No text is kept. `sentences.log` holds
everyday sentences, from when the index was made; `queries.log` the queries to the index, if a
searcher was told to log them.
"""

import os
import zlib
from pathlib import Path

import numpy as np

SENTENCES = "sentences.log"
QUERIES = "queries.log"
_LIMIT_BYTES = 8 << 20


def append(folder: Path, name: str, queries: np.ndarray) -> None:
    """Adds `(n, D)` query embeddings; several processes may do so at once.

    Args:
        name: `SENTENCES` or `QUERIES`.

    Raises:
        OSError: the folder cannot be written to.
    """
    rows = np.ascontiguousarray(queries, dtype="<f2")
    records = [
        row + zlib.crc32(row).to_bytes(4, "little") for row in (row.tobytes() for row in rows)
    ]
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size < _LIMIT_BYTES:
            os.write(descriptor, b"".join(records))
    finally:
        os.close(descriptor)


def read(folder: Path, name: str, *, embedding_dim: int) -> np.ndarray:
    """Returns the queries so far, `(n, D)` float32, without damaged ones."""
    dtype = np.dtype([("query", "<f2", (embedding_dim,)), ("checksum", "<u4")])
    try:
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        return np.empty((0, embedding_dim), np.float32)
    rows = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype)
    good = [zlib.crc32(row["query"].tobytes()) == row["checksum"] for row in rows]
    return rows["query"][np.array(good, dtype=bool)].astype(np.float32)
