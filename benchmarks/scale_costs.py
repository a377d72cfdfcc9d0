"""What making and searching vectors costs: constants fitted to measured points, and plans made of
them.

`benchmarks/scale_points.jsonl` holds the points as benchmarks/scale_run.py and
benchmarks/scale_centroids.py printed them, `scale_points_avx512.jsonl` those of another processor.
Constants come from at most 300,000 vectors; the larger points only check them.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from scipy.optimize import nnls

from reelseek.indexing.vectors.tuning import num_lists

POINTS = Path(__file__).with_name("scale_points.jsonl")
FITTED = 300_000  # vectors: larger points are held out
DIM = 512  # of all measured points
K = 10
TRAINED = 64  # vectors that k-means sees for each list
_CACHE_BYTES = 32 << 20  # of the processor that the points were measured on


def read_points(path: Path = POINTS) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass(frozen=True)
class Setting:
    """One shard and how it is searched."""

    count: int
    lists: int
    nprobe: int
    candidates: int
    dim: int = DIM
    bits: int = 1
    graph: bool = False  # lists are found through a graph over their centroids

    @property
    def codes(self) -> float:
        """Codes that a search compares, if all lists were equally long."""
        return self.nprobe * self.count / self.lists

    @property
    def features(self) -> np.ndarray:
        """What each constant of `QueryCost` is multiplied by."""
        width = self.dim / DIM
        return np.array(
            [
                1.0,
                self.lists * width,
                self.nprobe * width,
                self.codes * width * self.bits,
                K * self.candidates * width,
            ]
        )


@dataclass(frozen=True)
class QueryCost:
    """Processor seconds of a search in one shard: fixed, for each centroid, for each list that is
    looked into, for each code of one bit a dimension, for each row that is scored again; all for
    512 dimensions."""

    fixed: float
    centroid: float
    visited: float
    code: float
    row: float

    def seconds(self, setting: Setting) -> float:
        return float(setting.features @ np.array(list(vars(self).values())))

    @classmethod
    def fit(cls, points: list[dict]) -> "QueryCost":
        """Fits to searches, in relative error; no constant is negative."""
        features = np.stack([p["shards"] * setting_of(p).features for p in points])
        seconds = np.array([p["cpu_ms"] / 1e3 for p in points])
        constants, _ = nnls(features / seconds[:, None], np.ones(len(points)))
        return cls(*constants.tolist())


def setting_of(point: dict) -> Setting:
    """The setting of each shard of a measured search."""
    count = point["count"] // point["shards"]
    return Setting(count, point["lists"], point["nprobe"], point["candidates"])


@dataclass(frozen=True)
class BuildCost:
    """Processor seconds of making an index: to train, for each list squared; to add a vector of 512
    dimensions, for itself and for each centroid it is compared with; to write its row."""

    train: float
    vector: float
    centroid: float
    row: float

    @classmethod
    def fit(cls, trained: list[dict], pieces: list[dict]) -> "BuildCost":
        lists = np.array([_lists(p["trained"]) for p in trained], float)
        seconds = np.array([p["cpu_seconds"] for p in trained])
        train = float(np.sum(seconds * lists**2) / np.sum(lists**4))
        counts = np.array([p["vectors"] for p in pieces], float)
        centroids = np.array([_lists(p["main"]["kind"]) for p in pieces], float)
        adding = np.array([p["cpu_seconds"]["add"] for p in pieces]) / counts
        features = np.stack([np.ones(len(pieces)), centroids], axis=1)
        (vector, centroid), _ = nnls(features / adding[:, None], np.ones(len(pieces)))
        rows = [p["cpu_seconds"]["quantise"] + p["cpu_seconds"]["write"] for p in pieces]
        return cls(train, float(vector), float(centroid), float(np.mean(rows / counts)))

    def train_seconds(self, lists: int, dim: int = DIM) -> float:
        return self.train * lists**2 * dim / DIM

    def add_seconds(self, lists: int, dim: int = DIM) -> float:
        """Of one vector that is compared with all centroids, its row included."""
        return (self.vector + self.centroid * lists + self.row) * dim / DIM


def _lists(kind: str) -> int:
    return int(kind.partition(",")[0].removeprefix("IVF"))


@lru_cache
def code_bytes(dim: int, bits: int) -> int:
    """Bytes of memory a vector: RaBitQ's code with its factors, and an id."""
    index: Any = faiss.index_factory(dim, f"IVF1,RaBitQ{bits}")
    return int(index.code_size) + 8


@dataclass(frozen=True)
class Model:
    """All constants that points say."""

    points: list[dict]

    @cached_property
    def searches(self) -> list[dict]:
        """Of codes of one bit."""
        return [p for p in self.points if p.get("kind") == "RaBitQ" and "cpu_ms" in p]

    @cached_property
    def pieces(self) -> list[dict]:
        return [p for p in self.points if "piece" in p and "main" in p]

    @cached_property
    def hot(self) -> QueryCost:
        """Where the codes stay in the processor's cache."""
        return QueryCost.fit([p for p in self.searches if p["count"] <= FITTED and not p["cold"]])

    @cached_property
    def cold(self) -> QueryCost:
        """Where each query finds the caches emptied, as in an index many times their size."""
        return QueryCost.fit([p for p in self.searches if p["count"] <= FITTED and p["cold"]])

    def graph_seconds(self, lists: int, what: str, dim: int = DIM) -> float:
        """Processor seconds of `assign`, the list of a vector, or of `probe`, the 64 nearest lists
        of a query, through a graph; linear in the logarithm of the number of lists."""
        measured = [p for p in self.points if "graph_probe_ms" in p]
        unit, name = (1e-6, "graph_assign_us") if what == "assign" else (1e-3, "graph_probe_ms")
        logarithms = np.log2([p["centroids"] for p in measured])
        slope, offset = np.polyfit(logarithms, [unit * p[name] for p in measured], 1)
        return float(slope * np.log2(lists) + offset) * dim / DIM

    @cached_property
    def build(self) -> BuildCost:
        return BuildCost.fit(
            [p for p in self.points if "trained" in p and _lists(p["trained"]) <= 2048],
            [p for p in self.pieces if _lists(p["main"]["kind"]) <= 2048],
        )

    def search_seconds(self, setting: Setting, *, shards: int = 1) -> float:
        """Processor seconds of a search in one shard, of those that one process keeps.

        Codes and centroids are either in the processor's cache from one query to the next, or are
        read from memory; the interpreter's own data stay in the cache.
        """
        codes = shards * setting.count * code_bytes(setting.dim, setting.bits)
        probed = setting.codes * code_bytes(setting.dim, setting.bits)
        centroids = setting.lists * setting.dim * 4
        hot, cold = self.hot, self.cold
        of_codes = hot if codes <= _CACHE_BYTES else cold
        of_centroids = hot if shards * (centroids + probed) <= _CACHE_BYTES else cold
        constants = QueryCost(
            hot.fixed, of_centroids.centroid, of_codes.visited, of_codes.code, hot.row
        )
        if not setting.graph:
            return constants.seconds(setting)
        without = replace(constants, centroid=0.0)
        return without.seconds(setting) + self.graph_seconds(setting.lists, "probe", setting.dim)

    def predicted_seconds(self, point: dict) -> float:
        """What a measured search over all its shards is expected to take."""
        shards = point["shards"]
        return shards * self.search_seconds(setting_of(point), shards=shards)


def lists_of(count: float) -> int:
    """The lists that the index itself gives a shard."""
    return num_lists(int(count))
