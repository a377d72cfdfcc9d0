"""Chooses, builds and tunes the FAISS index that suits a collection, by measuring.

Exact search while that is fast; then an inverted file over scalar-quantised vectors, or over
RaBitQ's few bits (Gao et al. 2024). All but exact search give candidates only, which are scored
again with the float16 embeddings on disk: a few kilobytes of reading regain what quantisation
loses. Graphs (HNSW) are never chosen automatically: they take several times as long to build, and
find nothing under a filter that leaves little.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import faiss
import numpy as np

from reelseek.indexing.vectors.shard import search_parameters

FLAT = "Flat"
NEIGHBOURS = 10  # at which recall is measured, as in most of the literature

_EXACT_SECONDS = 0.004  # for a query: exact search is chosen up to here
_SAMPLE = 50_000  # vectors on which kinds are compared
_PROBE_QUERIES = 128
_BLOCK = 65_536
_SECONDS_A_CANDIDATE = 1e-6  # to score it again: measured, a row of 512 that is in memory
_ANY_DIM = 512
_CANDIDATES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# That k-means is trained on; the figures in docs/ were reached with as many.
_VECTORS_A_LIST = 64
_VECTORS_TRAINED = 1 << 19  # at most; FAISS's guidelines ask for 30 a list, of 16,384 lists here


@dataclass(frozen=True)
class Measured:
    """A kind measured on the sample, with its needs for the whole."""

    kind: str
    seconds: float
    bytes_each: float
    recall: float


# `block(first, last)` returns vectors, `(last - first, D)` float32.
Block = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Probes:
    """Queries whose true nearest are known.

    Attributes:
        queries: of each type, `(q, D)` float32.
        truth: of each type, `(q, NEIGHBOURS)` positions of their true nearest, or -1.
        allowed: a bit for each live position, the lowest first; None for all.
    """

    queries: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    allowed: np.ndarray | None


def candidate_factories(count: int) -> list[str]:
    """Returns the kinds to try for this number of vectors, the better known first."""
    lists = num_lists(count)
    return [f"IVF{lists},SQ8", f"IVF{lists},RaBitQ2", f"IVF{lists},RaBitQ"]


def num_lists(count: int) -> int:
    """Returns the lists of an inverted file: the power of two next to four times the square root
    (FAISS's wiki, "Guidelines to choose an index")."""
    return int(2 ** np.round(np.log2(max(1.0, 4 * np.sqrt(count)))))


def choose_factory(
    count: int,
    block: Block,
    *,
    recall: float,
    memory_bytes: int,
    sample_queries: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> str:
    """Returns the fastest kind that fits the memory and reaches the recall, on a sample.

    Args:
        count: of all vectors.
        block: returns vectors.
        recall: to reach.
        memory_bytes: for all of them; 0 for no limit.
        sample_queries: `(q, D)` float32 of each type, besides stored vectors.

    Raises:
        ValueError: not even the smallest kind fits.
    """
    sample = _sample(count, block, _SAMPLE)
    known = make_probes(
        {"stored": probe_queries(sample), **sample_queries},
        np.arange(len(sample)),
        lambda first, last: sample[first:last],
        len(sample),
    )
    limit = memory_bytes / count if memory_bytes else np.inf
    if _seconds_exact(sample) * count / len(sample) <= _EXACT_SECONDS and (
        sample.shape[1] * 4 <= limit
    ):
        return FLAT
    measured = [
        _measure(kind, sample, known, recall=recall, count=count)
        for kind in candidate_factories(count)
    ]
    fitting = [kind for kind in measured if kind.bytes_each <= limit]
    if not fitting:
        min_bytes = min(kind.bytes_each for kind in measured)
        raise ValueError(
            f"index.memory_mb={memory_bytes / 2**20:.0f}: {count} vectors need at least "
            f"{math.ceil(min_bytes * count / 2**20)}"
        )
    good = [kind for kind in fitting if kind.recall >= recall]
    if not good:
        return max(fitting, key=lambda kind: kind.recall).kind
    return min(good, key=lambda kind: kind.seconds).kind


def check_factory(kind: str) -> None:
    """Raises a ValueError for a kind that FAISS does not know, before anything is indexed."""
    if kind.lower() in ("auto", "flat"):
        return
    try:
        faiss.index_factory(_ANY_DIM, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        if "could not parse" in str(error):  # other errors may come from the dimension
            raise ValueError(
                f"index.kind={kind}: must be auto, flat, or what FAISS's index_factory takes, such "
                "as IVF1024,SQ8"
            ) from error


def build(kind: str, count: int, block: Block, *, embedding_dim: int) -> faiss.Index:
    """Trains and fills a FAISS index; position i is vector i.

    Raises:
        ValueError: FAISS does not know the kind, or needs more vectors for it.
    """
    index = trained(kind, count, block, embedding_dim=embedding_dim)
    add(index, count, block)
    return index


def trained(kind: str, count: int, block: Block, *, embedding_dim: int) -> faiss.Index:
    """Trains a FAISS index, and adds no vectors.

    Raises:
        ValueError: FAISS does not know the kind, or needs more vectors for it.
    """
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    try:
        index = faiss.index_factory(embedding_dim, kind, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            ivf = faiss.try_extract_index_ivf(index)
            num_candidates = _VECTORS_A_LIST * (ivf.nlist if ivf is not None else 256)
            if ivf is not None:
                ivf.cp.min_points_per_centroid = 1  # no warnings about short lists
                ivf.cp.spherical = True  # lists by direction, since queries are directions
            index.train(_sample(count, block, min(count, num_candidates, _VECTORS_TRAINED)))
    except RuntimeError as error:
        reason = str(error).partition("Error: ")[2] or str(error)
        raise ValueError(f"index.kind={kind}: FAISS says: {reason.strip()}") from error
    return index


def add(index: faiss.Index, count: int, block: Block) -> None:
    """Appends vectors to an index."""
    for first in range(0, count, _BLOCK):
        index.add(block(first, min(count, first + _BLOCK)))


def make_probes(
    queries: dict[str, np.ndarray], live: np.ndarray, block: Block, count: int
) -> Probes:
    """Finds the true nearest of queries of several types, in one pass.

    Args:
        queries: of each type, `(q, D)` float32.
        live: positions of the live vectors, ascending.
        block: returns live vectors.
        count: of all positions.
    """
    nearest = exact_neighbours(np.concatenate(list(queries.values())), len(live), block)
    truth = np.where(nearest >= 0, live[nearest], -1)
    ends = np.cumsum([len(some) for some in queries.values()])[:-1]
    allowed = None
    if len(live) < count:
        is_live = np.zeros(count, dtype=bool)
        is_live[live] = True
        allowed = np.packbits(is_live, bitorder="little")
    return Probes(queries, dict(zip(queries, np.split(truth, ends), strict=True)), allowed)


def tune(index: faiss.Index, probes: Probes, *, recall: float) -> dict:
    """Returns the fastest search parameters with which each type of query reaches the recall; the
    best parameters where none does."""
    fastest: tuple[float, dict] | None = None
    best: tuple[float, dict] = (-1.0, {})
    some_queries = list(probes.queries.values())[-1]  # the type most like real queries
    for candidates in _CANDIDATES:
        rescoring_seconds = _SECONDS_A_CANDIDATE * NEIGHBOURS * candidates
        if fastest is not None and rescoring_seconds >= fastest[0]:
            break  # more candidates only take longer
        for effort in _efforts(index):
            tuning = effort | {"candidates": candidates}
            recalls = measure_recall(index, probes, tuning)
            found = min(recalls.values())
            if found > best[0]:
                best = (found, tuning)
            if all(
                fraction >= _target(recalls, query_type, recall)
                for query_type, fraction in recalls.items()
            ):
                seconds = _seconds_each(index, some_queries, tuning, probes.allowed)
                seconds += rescoring_seconds
                if fastest is None or seconds < fastest[0]:
                    fastest = (seconds, tuning)
                break
    return best[1] if fastest is None else fastest[1]


def _target(query_types: Collection[str], query_type: str, recall: float) -> float:
    """Sentences and stored vectors (even means of two) are easier to find than real queries, so
    where they stand in for these, the target is higher."""
    is_for_questions = query_type == "sentences" or (
        query_type == "stored" and len(query_types) == 1
    )
    return (1 + recall) / 2 if is_for_questions else recall


def measure_recall(index: faiss.Index, probes: Probes, tuning: dict) -> dict[str, float]:
    """Returns the recall of each type of query: the fraction of the true nearest among the
    candidates."""
    parameters = search_parameters(index, tuning, allowed=probes.allowed)
    num_candidates = min(index.ntotal, NEIGHBOURS * tuning.get("candidates", 1))
    recalls = {}
    for name, truth in probes.truth.items():
        _, found = index.search(probes.queries[name], num_candidates, params=parameters)
        hits = (found[:, :, None] == truth[:, None, :]).any(axis=1)
        recalls[name] = float(hits[truth >= 0].mean())
    return recalls


def exact_neighbours(queries: np.ndarray, count: int, block: Block) -> np.ndarray:
    """Returns `(q, NEIGHBOURS)` positions of the nearest among all; -1 where there are fewer."""
    heap = faiss.ResultHeap(len(queries), NEIGHBOURS, keep_max=True)
    for first in range(0, count, _BLOCK):
        last = min(count, first + _BLOCK)
        scores = queries @ block(first, last).T
        k = min(NEIGHBOURS, last - first)
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        heap.add_result(
            np.ascontiguousarray(np.take_along_axis(scores, top, axis=1), dtype=np.float32),
            (top + first).astype(np.int64),
        )
    heap.finalize()
    return np.where(np.isfinite(heap.D), heap.I, -1)


def probe_queries(sample: np.ndarray, num: int = _PROBE_QUERIES) -> np.ndarray:
    """Makes queries of stored vectors: `(num, D)` float32.

    Each is the normalised mean of two of them: a sentence lies between videos rather than on one,
    and is harder to find.
    """
    random = np.random.default_rng(0)
    pairs = sample[random.integers(len(sample), size=(num, 2))]
    mean = pairs.mean(axis=1)
    return (mean / np.maximum(1e-6, np.linalg.norm(mean, axis=1, keepdims=True))).astype(np.float32)


def _efforts(index: faiss.Index) -> Iterator[dict]:
    """Yields search parameters of ascending effort."""
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        nprobe = 1
        while nprobe < ivf.nlist:
            yield {"nprobe": nprobe}
            nprobe = max(nprobe + 1, int(nprobe * 1.5))
        yield {"nprobe": int(ivf.nlist)}
    elif isinstance(faiss.downcast_index(index), faiss.IndexHNSW):
        for ef in (16, 32, 64, 128, 256, 512, 1024):
            yield {"efSearch": ef}
    else:
        yield {}


def _measure(
    kind: str, sample: np.ndarray, known: Probes, *, recall: float, count: int
) -> Measured:
    """Measures a kind on the sample, with lists as long as those of the whole would be."""
    lists = num_lists(len(sample))
    small = kind.replace(f"IVF{num_lists(count)}", f"IVF{lists}")

    def block(first: int, last: int) -> np.ndarray:
        return sample[first:last]

    index = build(small, len(sample), block, embedding_dim=sample.shape[1])
    tuning = tune(index, known, recall=recall)
    found = min(measure_recall(index, known, tuning).values())
    bytes_each = len(faiss.serialize_index(index)) / len(sample)
    seconds = _seconds_each(index, list(known.queries.values())[-1], tuning)
    return Measured(kind, seconds, bytes_each, found)


def _sample(count: int, block: Block, num_candidates: int) -> np.ndarray:
    """Returns vectors in stretches that are spread evenly over all."""
    if num_candidates >= count:
        return block(0, count)
    stretches = 256
    each = max(1, num_candidates // stretches)
    starts = np.linspace(0, count - each, stretches).astype(int)
    return np.concatenate([block(first, first + each) for first in starts.tolist()])


def _seconds_exact(sample: np.ndarray) -> float:
    """Returns the seconds of an exact search in the sample."""
    index = faiss.IndexFlatIP(sample.shape[1])
    index.add(sample)
    return _seconds_each(index, sample[:: max(1, len(sample) // 16)][:16], {})


def _seconds_each(
    index: faiss.Index, queries: np.ndarray, tuning: dict, allowed: np.ndarray | None = None
) -> float:
    """Returns the median seconds of single queries."""
    faiss.omp_set_num_threads(1)
    parameters = search_parameters(index, tuning, allowed=allowed)
    num_candidates = min(index.ntotal, NEIGHBOURS * tuning.get("candidates", 1))
    seconds = []
    for query in queries[:32]:
        started = time.perf_counter()
        index.search(query[None], num_candidates, params=parameters)
        seconds.append(time.perf_counter() - started)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    return float(np.median(seconds))
