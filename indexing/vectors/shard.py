"""A searchable shard: a FAISS index and the table that says what its positions mean.

A level of an index has two: the main one, of a kind that suits its size, and the delta, exact and
small, which holds what came since. Both are derived from the embeddings on disk, and never changed
once written: what has been deleted since is masked.
"""

import copy
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.atomic import publish_file

_faiss: Any = faiss  # its type stubs lack the classes of parameters' keywords

# One row a vector, in the order of the FAISS index: the video, the seconds, and where the embedding
# lies (part -1 where it is deleted). Rows are ordered by video, and within it by time.
TABLE_DTYPE = np.dtype(
    [("video", "<i8"), ("start", "<f8"), ("end", "<f8"), ("part", "<i4"), ("row", "<i4")]
)


def locations(rows: np.ndarray) -> np.ndarray:
    """`(n, 2)` int32, where the embeddings of rows of a table lie, as `EmbeddingParts.read` wants
    them."""
    return np.stack([rows["part"], rows["row"]], axis=1)


@dataclass(frozen=True)
class ShardInfo:
    """What the manifest says of a shard.

    Attributes:
        name: of the file of the FAISS index, without its suffix.
        table: of the file of the table.
        count: vectors.
        kind: what FAISS's `index_factory` made of them.
        tuning: values of the search's parameters, such as `nprobe`; and `candidates`, how many
            vectors FAISS is asked for, for each one wanted, to be scored again exactly.
        trained_on: vectors that there were when the index was last made from nothing.
        faiss_checksum, table_checksum: CRC-32 of the two files.
    """

    name: str
    table: str
    count: int
    kind: str
    tuning: dict = field(default_factory=dict)
    trained_on: int = 0
    faiss_checksum: int = 0
    table_checksum: int = 0

    @property
    def identity(self) -> tuple:
        """What tells its files from others."""
        return self.name, self.table, self.faiss_checksum, self.table_checksum

    def files(self, folder: Path) -> tuple[Path, Path]:
        """The FAISS index and the table."""
        return folder / f"{self.name}.faiss", folder / f"{self.table}.npy"


def write_table(path: Path, table: np.ndarray) -> int:
    """Writes a table durably; returns its checksum."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, table, allow_pickle=False)

    publish_file(path, write)
    return file_checksum(path)


def write_index(path: Path, index: faiss.Index) -> int:
    """Writes a FAISS index durably; returns its checksum."""
    publish_file(path, lambda temporary: faiss.write_index(index, str(temporary)))
    return file_checksum(path)


def file_checksum(path: Path) -> int:
    """CRC-32 of a whole file."""
    checksum = 0
    if path.is_dir():
        raise ValueError(_damaged(path))
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum


class Shard:
    """An open shard, safe to search from several threads.

    Args:
        folder: of the index.
        info: of the manifest.
        embedding_dim: D.

    Raises:
        FileNotFoundError: its files are gone, as when a writer has replaced them.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: Path, info: ShardInfo, *, embedding_dim: int) -> None:
        self.info = info
        faiss_path, table_path = info.files(folder)
        for path, checksum in (
            (faiss_path, info.faiss_checksum),
            (table_path, info.table_checksum),
        ):
            if file_checksum(path) != checksum:
                raise ValueError(_damaged(path))
        self.table = _read_table(table_path, info.count)
        self.index = _read_index(faiss_path)
        if self.index.ntotal != info.count or self.index.d != embedding_dim:
            raise ValueError(_damaged(faiss_path))
        videos = np.ascontiguousarray(self.table["video"])
        # Where each video's rows begin, and the last one's end. NumPy would copy the table's column
        # each time that a video is looked up in it.
        starts = np.flatnonzero(np.diff(videos, prepend=videos[:1] - 1))
        self._videos = videos[starts]
        self._first_rows = np.append(starts, len(videos))

    def tuned(self, info: ShardInfo) -> "Shard":
        """The same files, searched with other values."""
        other = copy.copy(self)
        other.info = info
        return other

    @property
    def is_exact(self) -> bool:
        """Whether FAISS compares the vectors themselves, and all of them."""
        return isinstance(self.index, faiss.IndexFlat)

    def num_candidates(self, k: int, min_candidates: int) -> int:
        """Returns how many vectors to look at for `k` neighbours."""
        return max(k * self.info.tuning.get("candidates", 1), min_candidates)

    def nearest(
        self,
        xq: np.ndarray,
        *,
        k: int,
        min_candidates: int = 0,
        allowed: np.ndarray | None = None,
        exhaustive: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds likely neighbours of a query, without their order being exact.

        Args:
            xq: `(D,)` float32.
            k: how many neighbours are wanted; several times as many candidates come back where
                the kind is not exact.
            min_candidates: how many come back in any case, beyond k less surely the nearest.
            allowed: `(ceil(count / 8),)` uint8, a bit for each position that may be found, the
                lowest bit first; None for all.
            exhaustive: look through all lists of an inverted file.

        Returns:
            Positions, `(n,)` int64, and FAISS's scores, `(n,)` float32.
        """
        num_candidates = min(self.info.count, self.num_candidates(k, min_candidates))
        if not num_candidates:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        parameters = search_parameters(
            self.index, self.info.tuning, allowed=allowed, exhaustive=exhaustive
        )
        faiss.omp_set_num_threads(1)  # of this thread: for one query, waiting for others costs more
        scores, positions = self.index.search(
            np.ascontiguousarray(xq[None], dtype=np.float32), num_candidates, params=parameters
        )
        is_found = (positions[0] >= 0) & (positions[0] < self.info.count)
        return positions[0][is_found], scores[0][is_found]

    def of_videos(self, video_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the first position of each video, and the one after its last."""
        first = np.searchsorted(self._videos, video_ids)
        after = np.searchsorted(self._videos, video_ids, side="right")
        return self._first_rows[first], self._first_rows[after]


def search_parameters(
    index: faiss.Index, tuning: dict, *, allowed: np.ndarray | None = None, exhaustive: bool = False
) -> faiss.SearchParameters | None:
    """FAISS's parameters for one search with these values; None for the index's own."""
    selector = None if allowed is None else _faiss.IDSelectorBitmap(allowed)
    ivf = _ivf_of(index)
    if ivf is not None:
        nprobe = ivf.nlist if exhaustive else min(ivf.nlist, tuning.get("nprobe", ivf.nprobe))
        parameters: Any
        if isinstance(ivf, faiss.IndexIVFRaBitQ | faiss.IndexIVFRaBitQFastScan):
            # Queries of 4 bits: with FAISS's default, float32, a search takes 20 times as long.
            parameters = _faiss.IVFRaBitQSearchParameters(sel=selector, nprobe=nprobe, qb=4)
        else:
            parameters = _faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
    elif _hnsw_of(index) is not None:
        parameters = _faiss.SearchParametersHNSW(
            sel=selector, efSearch=max(16, tuning.get("efSearch", 16))
        )
    elif selector is not None:
        parameters = _faiss.SearchParameters(sel=selector)
    else:
        return None
    if isinstance(faiss.downcast_index(index), faiss.IndexPreTransform):
        return _faiss.SearchParametersPreTransform(index_params=parameters)
    return parameters


def _core(index: faiss.Index) -> faiss.Index:
    """The index behind a transform of the vectors, as its own class."""
    core = faiss.downcast_index(index)
    if isinstance(core, faiss.IndexPreTransform):
        core = faiss.downcast_index(core.index)
    return core


def _ivf_of(index: faiss.Index) -> faiss.IndexIVF | None:
    core = _core(index)
    return core if isinstance(core, faiss.IndexIVF) else None


def _hnsw_of(index: faiss.Index) -> faiss.IndexHNSW | None:
    core = _core(index)
    return core if isinstance(core, faiss.IndexHNSW) else None


def _read_table(path: Path, count: int) -> np.ndarray:
    try:
        table = read_array(path, mapped=True)
    except ValueError as error:
        raise ValueError(_damaged(path)) from error
    if table.dtype != TABLE_DTYPE or table.shape != (count,):
        raise ValueError(_damaged(path))
    return table.view(np.ndarray)  # slices of which are made faster than a memmap's


def _read_index(path: Path) -> faiss.Index:
    """Lists of an inverted file are mapped into memory rather than read."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(_damaged(path)) from error


def _damaged(path: Path) -> str:
    return f"{path} is damaged: run reelseek repair --index DIR to rebuild it"
