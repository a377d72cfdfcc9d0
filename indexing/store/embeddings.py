"""Embeddings on disk: numbered files of float16 rows that are written once and never changed.

They are the truth of an index; the FAISS indexes are derived from them. The address of a row is the
number of its part and its place in it. Each row carries a checksum of its bytes and its address, so
that whoever opens the folder notices a damaged or misplaced row when reading it first.
"""

import zlib
from pathlib import Path

import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.atomic import make_folder, publish_file

_ADDRESS_FACTOR = 0x9E3779B1  # spreads the parts' numbers over the checksum's start values
_ROWS_AT_ONCE = 256


class EmbeddingParts:
    """The folder of parts.

    Args:
        folder: made if missing.
        embedding_dim: D.
    """

    def __init__(self, folder: Path, *, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim
        self._folder = folder
        self._dtype = np.dtype([("embedding", "<f2", (embedding_dim,)), ("checksum", "<u4")])
        self._open_parts: dict[int, np.ndarray] = {}
        # Which rows of each open part were checked; threads may both check a row.
        self._known_whole: dict[int, np.ndarray] = {}

    def append(self, embeddings: np.ndarray, *, part: int) -> None:
        """Writes `(n, D)`, finite, durably as a new part."""
        assert not self._path(part).exists()
        assert np.isfinite(embeddings).all()
        rows = np.empty(len(embeddings), self._dtype)
        rows["embedding"] = embeddings
        rows["checksum"] = _checksums(rows, np.full(len(rows), part), np.arange(len(rows)))

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, rows, allow_pickle=False)

        make_folder(self._folder)
        self._open_parts.pop(part, None)
        self._known_whole.pop(part, None)
        publish_file(self._path(part), write)

    def num_rows(self, part: int) -> int:
        """Returns the number of rows in a part.

        Raises:
            ValueError: it is missing or damaged.
        """
        return len(self._part(part))

    def open(self, parts: np.ndarray) -> None:
        """Maps these parts, so that they stay readable even when the writer deletes them.

        Raises:
            ValueError: a part is missing or damaged.
        """
        for part in np.unique(parts).tolist():
            self._part(part)

    def read(self, locations: np.ndarray) -> np.ndarray:
        """Gathers rows. Checks each when it is first read: checksums take four times as long as
        all else here, and searches meet the same rows again.

        Args:
            locations: `(n, 2)` int of part and row.

        Returns:
            `(n, D)` float32.

        Raises:
            ValueError: a part is missing, or a row is damaged.
        """
        parts = np.unique(locations[:, 0]).tolist()
        if len(parts) == 1:
            return self._read_part(parts[0], locations[:, 1])
        embeddings = np.empty((len(locations), self.embedding_dim), np.float32)
        for part in parts:
            here = locations[:, 0] == part
            embeddings[here] = self._read_part(part, locations[here, 1])
        return embeddings

    def read_run(self, part: int, first: int, count: int) -> np.ndarray:
        """Returns consecutive rows, as `(count, D)` float32.

        Raises:
            ValueError: a part is missing, or a row is damaged.
        """
        rows = self._part(part)[first : first + count]
        if len(rows) < count:
            raise ValueError(self._damaged(part, first + len(rows)))
        self._check(part, rows, np.arange(first, first + count))
        return half_to_single(rows["embedding"])

    def damaged_rows(self, part: int, num_rows: int) -> np.ndarray:
        """Returns the damaged ones of a part's first rows; all, where it cannot be read."""
        everything = np.arange(num_rows)
        try:
            rows = self._part(part)[:num_rows]
        except ValueError:
            return everything
        numbers = np.arange(len(rows))
        wrong = rows["checksum"] != _checksums(rows, np.full(len(rows), part), numbers)
        return np.concatenate([np.flatnonzero(wrong), everything[len(rows) :]])

    def numbers(self) -> set[int]:
        """Returns the parts that have a file."""
        return {int(path.stem.removeprefix("part-")) for path in self._folder.glob("part-*.npy")}

    def keep_only(self, parts: set[int]) -> None:
        """Deletes the files of all other parts, and those that a killed run left half-written."""
        self._open_parts.clear()
        self._known_whole.clear()
        kept = {self._path(part) for part in parts}
        for path in self._folder.glob("part-*.npy*"):
            if path not in kept and not path.is_dir():
                path.unlink()

    def _read_part(self, part: int, numbers: np.ndarray) -> np.ndarray:
        """Reads rows of a part as float32; checks those that were not checked before."""
        embeddings = np.empty((len(numbers), self.embedding_dim), np.float32)
        # Few enough at once for all steps to find them in the processor's cache.
        for first in range(0, len(numbers), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            half_to_single(self._whole_rows(part, numbers[some]), out=embeddings[some])
        return embeddings

    def _whole_rows(self, part: int, numbers: np.ndarray) -> np.ndarray:
        """Reads rows of a part as float16; checks those that were not checked before."""
        every_row = self._part(part)
        if numbers.max() >= len(every_row):
            raise ValueError(self._damaged(part, numbers.max()))
        known = self._known_whole.get(part)
        if known is None:
            known = self._known_whole[part] = np.zeros(len(every_row), dtype=bool)
        rows = every_row.take(numbers)
        is_new = ~known[numbers]
        if is_new.any():
            self._check(part, rows[is_new], numbers[is_new])
            known[numbers] = True
        return rows["embedding"]

    def _check(self, part: int, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Raises a ValueError where a row is not what was written to its address."""
        found = _checksums(rows, np.full(len(rows), part), numbers)
        wrong = np.flatnonzero(rows["checksum"] != found)
        if len(wrong):
            raise ValueError(self._damaged(part, numbers[wrong[0]]))

    def _part(self, part: int) -> np.ndarray:
        if part not in self._open_parts:
            path = self._path(part)
            try:
                rows = read_array(path, mapped=True)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{path} is missing or damaged; run reelseek repair --index DIR"
                ) from error
            if rows.dtype != self._dtype or rows.ndim != 1:
                raise ValueError(
                    f"{path} is damaged: it does not hold rows of float16; run "
                    "reelseek repair --index DIR"
                )
            self._open_parts[part] = rows.view(np.ndarray)  # its slices are made faster
        return self._open_parts[part]

    def _damaged(self, part: int, row: int) -> str:
        return f"{self._path(part)} is damaged at row {row}; run reelseek repair --index DIR"

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:08d}.npy"


def half_to_single(halves: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
    """Converts finite float16 to float32, exactly, five times as fast as `astype`.

    Moves sign, exponent and mantissa to their places in float32; the factor 2^112 makes up for the
    exponents' different biases (127 and 15), for subnormal numbers too.
    """
    single = np.empty(halves.shape, np.float32) if out is None else out
    bits = single.view(np.int32)
    bits[...] = halves.view(np.int16)
    bits <<= 13
    bits &= np.int32(~0x7000_0000)  # copies of the sign
    single *= np.float32(2.0**112)
    return single


def _checksums(rows: np.ndarray, parts: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the CRC-32 of each row's embedding, started with the row's address."""
    size = rows.dtype["embedding"].itemsize
    step = rows.dtype.itemsize
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(-1).data
    starts = (parts.astype(np.uint64) * _ADDRESS_FACTOR + numbers.astype(np.uint64)) & 0xFFFFFFFF
    # A search checks thousands of rows: `map` spares the interpreter's work for each.
    slices = map(slice, range(0, len(data), step), range(size, len(data), step))
    values = map(zlib.crc32, map(data.__getitem__, slices), starts.tolist())
    return np.fromiter(values, np.uint32, count=len(rows))
