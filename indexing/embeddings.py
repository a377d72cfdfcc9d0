"""Embeddings on disk: numbered files of float16 rows that are written once and never changed.

They are the truth of an index; whatever FAISS holds is derived from them. A row is known by the
number of its part and its place in it.
"""

from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

from indexing.atomic import publish_file


class EmbeddingParts:
    """The folder of parts.

    Args:
        folder: made if missing.
        embedding_dim: D.
    """

    def __init__(self, folder: Path, *, embedding_dim: int) -> None:
        self._folder = folder
        self._embedding_dim = embedding_dim
        self._open_parts: dict[int, np.ndarray] = {}

    def append(self, embeddings: np.ndarray, *, part: int) -> None:
        """Writes `(n, D)` as a part of this number, durably."""
        rows = np.ascontiguousarray(embeddings, dtype=np.float16)
        assert rows.ndim == 2 and rows.shape[1] == self._embedding_dim

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, rows, allow_pickle=False)

        self._folder.mkdir(exist_ok=True)
        publish_file(self._path(part), write)

    def read(self, locations: np.ndarray) -> np.ndarray:
        """Gathers rows.

        Args:
            locations: `(n, 2)` int64 of part and row.

        Returns:
            `(n, D)` float32.

        Raises:
            ValueError: a part is missing or damaged.
        """
        gathered = np.empty((len(locations), self._embedding_dim), dtype=np.float32)
        for part in np.unique(locations[:, 0]).tolist():
            here = locations[:, 0] == part
            rows = locations[here, 1]
            embeddings = self._part(part)
            if rows.max() >= len(embeddings):
                raise ValueError(f"{self._path(part)} is damaged: it lacks row {rows.max()}")
            gathered[here] = embeddings[rows]
        return gathered

    def keep_only(self, parts: set[int]) -> None:
        """Deletes the files of all other parts, and what a killed run has left half-written."""
        self._open_parts.clear()
        kept = {self._path(part) for part in parts}
        for path in self._folder.glob("part-*.npy*"):
            if path not in kept:
                path.unlink()

    def _part(self, part: int) -> np.ndarray:
        if part not in self._open_parts:
            path = self._path(part)
            try:
                embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError, BadZipFile, TokenError) as error:
                raise ValueError(
                    f"{path} is missing or damaged: index again into a new folder"
                ) from error
            is_rows = isinstance(embeddings, np.ndarray) and embeddings.dtype == np.float16
            if not is_rows or embeddings.shape[1:] != (self._embedding_dim,):
                raise ValueError(f"{path} is damaged: it does not hold rows of float16")
            self._open_parts[part] = embeddings
        return self._open_parts[part]

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:08d}.npy"
