"""Embeddings on disk in 8 bits and a scale a row: half the bytes of the index's own float16 rows.

`EightBitParts` stands in for `EmbeddingParts` where FAISS shards are made and searched, so that a
benchmark can say what rows of 8 bits would save and cost. It keeps no checksums.
"""

from pathlib import Path

import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.atomic import make_folder, publish_file

_LARGEST = 127


class EightBitParts:
    """The folder of parts.

    Args:
        folder: made if missing.
        embedding_dim: D.
    """

    def __init__(self, folder: Path, *, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim
        self._folder = folder
        self._dtype = np.dtype([("embedding", "i1", (embedding_dim,)), ("scale", "<f4")])
        self._open_parts: dict[int, np.ndarray] = {}

    @property
    def row_bytes(self) -> int:
        return self._dtype.itemsize

    def quantised(self, embeddings: np.ndarray) -> np.ndarray:
        """`(n, D)` float32 -> `(n,)` rows; the largest component of each becomes 127 or -127."""
        rows = np.empty(len(embeddings), self._dtype)
        largest = np.abs(embeddings).max(axis=1)
        rows["scale"] = np.where(largest > 0, largest / _LARGEST, 1)
        rows["embedding"] = np.rint(embeddings / rows["scale"][:, None])
        return rows

    def append(self, rows: np.ndarray, *, part: int) -> None:
        """Writes quantised rows durably as a part."""

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, rows, allow_pickle=False)

        make_folder(self._folder)
        self._open_parts.pop(part, None)
        publish_file(self._path(part), write)

    def open(self, parts: np.ndarray) -> None:
        for part in np.unique(parts).tolist():
            self._part(part)

    def read(self, locations: np.ndarray) -> np.ndarray:
        """`(n, 2)` of part and row -> `(n, D)` float32."""
        embeddings = np.empty((len(locations), self.embedding_dim), np.float32)
        for part in np.unique(locations[:, 0]).tolist():
            here = locations[:, 0] == part
            embeddings[here] = decoded(self._part(part).take(locations[here, 1]))
        return embeddings

    def read_run(self, part: int, first: int, last: int) -> np.ndarray:
        """Returns consecutive rows, as `(last - first, D)` float32."""
        return decoded(self._part(part)[first:last])

    def _part(self, part: int) -> np.ndarray:
        if part not in self._open_parts:
            rows = read_array(self._path(part), mapped=True)
            if rows.dtype != self._dtype:
                raise ValueError(f"{self._path(part)} does not hold rows of 8 bits")
            self._open_parts[part] = rows.view(np.ndarray)
        return self._open_parts[part]

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:08d}.npy"


def decoded(rows: np.ndarray) -> np.ndarray:
    """`(n,)` rows -> `(n, D)` float32."""
    embeddings = rows["embedding"].astype(np.float32)
    embeddings *= rows["scale"][:, None]
    return embeddings
