"""Vectors in shards, made piece by piece: a folder that goes on after the last whole piece.

A piece's rows, the true nearest of some queries among them, and the FAISS index of its shard with
the piece added are on disk before the piece is reported; its report is written last.
"""

import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import faiss
import numpy as np

from benchmarks.eight_bit_rows import EightBitParts, decoded
from benchmarks.grown_vectors import Grower, real_embeddings
from reelseek.indexing.store.atomic import publish_file
from reelseek.indexing.store.manifest import FaissOptions, LevelInfo
from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.vectors.builder import LevelBuilder, Quantiser
from reelseek.indexing.vectors.level import LevelSearcher
from reelseek.indexing.vectors.shard import TABLE_DTYPE, ShardInfo, write_index

K = 10
SEGMENTS = 10  # of a video
QUERIES = 100  # of each of two types
_BLOCK = 100_000  # vectors made at once
_DELTA = 2_000  # rows that a shard's delta takes up
_TRAINED = 64  # vectors a list that k-means sees, as the index's own training


@dataclass(frozen=True)
class Run:
    """A folder that is filled piece by piece."""

    folder: Path
    data: list[str]
    count: int
    shards: int
    piece: int
    lists: int
    kind: str
    marks: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.piece <= _DELTA or self.count % (self.shards * self.piece):
            raise ValueError(
                f"piece={self.piece}: must be over {_DELTA}, which an index would keep apart, and "
                f"divide count / shards = {self.count // self.shards}"
            )

    @cached_property
    def real(self) -> dict[str, np.ndarray]:
        return real_embeddings(self.data, self.folder / "real.npz")

    @cached_property
    def grower(self) -> Grower:
        return Grower(self.real["frames"])

    @cached_property
    def parts(self) -> EightBitParts:
        return EightBitParts(self.folder / "rows", embedding_dim=self.real["frames"].shape[1])

    @cached_property
    def queries(self) -> np.ndarray:
        """`(2 * QUERIES, D)`: captions, then vectors like the stored ones."""
        captions = self.real["captions"]
        chosen = np.random.default_rng(0).choice(len(captions), QUERIES, replace=False)
        return np.concatenate([captions[chosen], self.grower.grow(QUERIES, seed=1).all()])

    @property
    def num_pieces(self) -> int:
        return self.count // self.piece

    @property
    def pieces_a_shard(self) -> int:
        return self.num_pieces // self.shards

    def state_path(self, piece: int) -> Path:
        return self.folder / f"piece-{piece:04d}.json"

    def state(self, piece: int) -> dict | None:
        path = self.state_path(piece)
        return json.loads(path.read_text()) if path.exists() else None

    def quantiser(self) -> Quantiser:
        """Trains it, as `SharedQuantisers` does, on vectors of all shards; or reads it."""
        kind, path = f"IVF{self.lists},{self.kind}", self.folder / "quantiser.faiss"
        if not path.exists():
            # As many blocks as training needs, spread over all that there will be.
            number = -(-_TRAINED * self.lists // _BLOCK)
            starts = np.linspace(0, self.count - _BLOCK, number).astype(int) // _BLOCK * _BLOCK
            some = np.concatenate([self.block(start) for start in np.unique(starts).tolist()])
            started = time.process_time()
            index = faiss_tuning.trained(
                kind,
                len(some),
                lambda first, last: some[first:last],
                embedding_dim=some.shape[1],
            )
            seconds = time.process_time() - started
            write_index(path, index)
            print(
                json.dumps({"trained": kind, "vectors": len(some), "cpu_seconds": seconds}),
                flush=True,
            )
        return Quantiser(kind, faiss.read_index(str(path)))

    def block(self, start: int) -> np.ndarray:
        return self.grower.block(min(_BLOCK, self.count - start), (0, start))

    def grow_piece(self, piece: int, quantiser: Quantiser) -> dict:
        """Makes, writes and adds a piece; returns what is to be known of it."""
        times: dict[str, float] = {}
        started = time.process_time()
        stored, truth = self._write_rows(piece, times)
        times["all_rows"] = time.process_time() - started
        np.savez(self.folder / f"truth-{piece:04d}.npz", stored=truth[0], exact=truth[1])

        shard = piece // self.pieces_a_shard
        first_piece = shard * self.pieces_a_shard
        level = "moment"
        folder = self.folder / f"shard-{shard:04d}"
        folder.mkdir(exist_ok=True)
        builder = LevelBuilder(
            folder,
            level,
            piece + 1,
            self.parts,  # type: ignore[arg-type]  # of the same methods
            FaissOptions(kind=quantiser.kind),
            self._table(first_piece, piece + 1),
            quantiser=quantiser,
        )
        started = time.process_time()
        before = self.state(piece - 1) if piece > first_piece else None
        if before is None:
            info = builder.rebuilt()
        else:
            info = builder.extended(LevelInfo(main=ShardInfo(**before["main"])))
        times["add"] = time.process_time() - started
        assert info.main is not None
        return {
            "piece": piece,
            "shard": shard,
            "vectors": stored,
            "main": asdict(info.main),
            "cpu_seconds": times,
            "faiss_bytes": info.main.files(folder)[0].stat().st_size,
            "row_bytes": self.parts.row_bytes * stored,
        }

    def _write_rows(
        self, piece: int, times: dict[str, float]
    ) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
        """Writes the rows of a piece; returns how many, and the true nearest within it, by the rows
        as stored and by the vectors that they were made of."""
        rows = []
        found: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for start in range(piece * self.piece, (piece + 1) * self.piece, _BLOCK):
            clock = [time.process_time()]
            vectors = self.grower.block(min(_BLOCK, self.piece), (0, start))
            clock.append(time.process_time())
            rows.append(self.parts.quantised(vectors))
            clock.append(time.process_time())
            for nearest, some in zip(found, (decoded(rows[-1]), vectors), strict=True):
                nearest.append(self._nearest(some, start))
            clock.append(time.process_time())
            for name, seconds in zip(("grow", "quantise", "truth"), np.diff(clock), strict=True):
                times[name] = times.get(name, 0.0) + float(seconds)
        started = time.process_time()
        self.parts.append(np.concatenate(rows), part=piece)
        times["write"] = time.process_time() - started
        stored, exact = (merge_nearest(np.concatenate(some, axis=1)) for some in found)
        return sum(map(len, rows)), (stored, exact)

    def _nearest(self, vectors: np.ndarray, start: int) -> np.ndarray:
        """`(Q, K)` of score and position: the nearest in a block."""
        positions = faiss_tuning.exact_neighbours(
            self.queries, len(vectors), lambda first, last: vectors[first:last]
        )
        scores = np.einsum("qkd,qd->qk", vectors[positions], self.queries)
        return np.stack([scores, positions + start], axis=2, dtype=np.float64)

    def _table(self, first_piece: int, last_piece: int) -> np.ndarray:
        """The table of a shard that holds these pieces."""
        table = np.empty((last_piece - first_piece) * self.piece, TABLE_DTYPE)
        positions = first_piece * self.piece + np.arange(len(table))
        table["video"] = positions // SEGMENTS + 1
        table["start"] = positions % SEGMENTS * 4.0
        table["end"] = table["start"] + 4.0
        table["part"], table["row"] = positions // self.piece, positions % self.piece
        return table

    def remove_replaced(self, piece: int) -> None:
        """Deletes the files of a shard before this piece was added, unless they are a mark's."""
        before = self.state(piece - 1) if piece % self.pieces_a_shard else None
        if before is None or piece * self.piece in self.marks:
            return
        folder = self.folder / f"shard-{before['shard']:04d}"
        for path in ShardInfo(**before["main"]).files(folder):
            path.unlink(missing_ok=True)

    def grow(self) -> None:
        quantiser = self.quantiser()
        for piece in range(self.num_pieces):
            if self.state(piece) is None:
                started = time.perf_counter()
                state = self.grow_piece(piece, quantiser)
                state["wall_seconds"] = time.perf_counter() - started
                text = json.dumps(state)
                publish_file(self.state_path(piece), partial(Path.write_text, data=text))
                print(text, flush=True)
            self.remove_replaced(piece)

    def searchers(self, count: int) -> list[LevelSearcher]:
        """The shards as they were when so many vectors were in them."""
        last = count // self.piece - 1
        ends = [*range(self.pieces_a_shard - 1, last, self.pieces_a_shard), last]
        searchers = []
        for piece in ends:
            state = self.state(piece)
            assert state is not None
            info = LevelInfo(main=ShardInfo(**state["main"]))
            folder = self.folder / f"shard-{state['shard']:04d}"
            parts: EightBitParts = self.parts
            searchers.append(LevelSearcher(folder, info, parts, None))  # type: ignore[arg-type]
        return searchers

    def truth(self, count: int, name: str) -> np.ndarray:
        """`(Q, K)` positions of the true nearest among the first vectors."""
        pieces = []
        for piece in range(count // self.piece):
            with np.load(self.folder / f"truth-{piece:04d}.npz") as loaded:
                pieces.append(loaded[name])
        return merge_nearest(np.concatenate(pieces, axis=1))[:, :, 1].astype(np.int64)


def merge_nearest(found: np.ndarray) -> np.ndarray:
    """`(Q, n, 2)` of score and position -> `(Q, K, 2)`, the best of each query first."""
    order = np.argsort(-found[:, :, 0], axis=1, kind="stable")[:, :K]
    return np.take_along_axis(found, order[:, :, None], axis=1)
