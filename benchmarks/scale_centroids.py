"""What finding a vector's list costs: comparing with all centroids, or through a graph over them.

    python benchmarks/scale_centroids.py data=FILE.jsonl folder=DIR [lists=2048,8192,32768]

Vectors made of real frames stand in for centroids. Prints a line of JSON for each number of lists:
processor microseconds a vector of assigning 5,000 vectors in one call, milliseconds of finding the
64 nearest lists of one query (the median of 300), and how often the graph names the true nearest.
"""

import json
import sys
import time
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.grown_vectors import Grower, real_embeddings  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402

VECTORS = 5_000
QUERIES = 300
NPROBE = 64


def assign_microseconds(index: faiss.Index, vectors: np.ndarray) -> tuple[float, np.ndarray]:
    started = time.thread_time()
    _, found = index.search(vectors, 1)
    return 1e6 * (time.thread_time() - started) / len(vectors), found


def probe_milliseconds(index: faiss.Index, queries: np.ndarray) -> float:
    seconds = []
    for query in queries:
        started = time.thread_time()
        index.search(query[None], NPROBE)
        seconds.append(time.thread_time() - started)
    return 1e3 * float(np.median(seconds))


def measure(centroids: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
    dim = centroids.shape[1]
    flat = faiss.IndexFlatIP(dim)
    flat.add(centroids)
    graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
    started = time.thread_time()
    graph.add(centroids)
    building = time.thread_time() - started
    flat_assign, true = assign_microseconds(flat, vectors)
    graph_assign, found = assign_microseconds(graph, vectors)
    flat_probe = probe_milliseconds(flat, vectors[:QUERIES])
    graph.hnsw.efSearch = 2 * NPROBE
    return {
        "centroids": len(centroids),
        "flat_assign_us": flat_assign,
        "graph_assign_us": graph_assign,
        "agreement": float((found == true).mean()),
        "flat_probe_ms": flat_probe,
        "graph_probe_ms": probe_milliseconds(graph, vectors[:QUERIES]),
        "graph_build_seconds": building,
    }


def main() -> None:
    options = parse_options(__doc__, data=None, folder=None, lists="2048,8192,32768")
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    faiss.omp_set_num_threads(1)
    grower = Grower(real_embeddings(options["data"].split(","), folder / "real.npz")["frames"])
    lists = [int(number) for number in options["lists"].split(",")]
    centroids, vectors = grower.block(max(lists), (7, 0)), grower.block(VECTORS, (8, 0))
    for number in lists:
        print(json.dumps(measure(centroids[:number], vectors)), flush=True)


if __name__ == "__main__":
    main()
