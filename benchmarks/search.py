"""Searching many vectors: this index beside exact search and other libraries, in the same run.

    python benchmarks/search.py data=FILE.jsonl[,FILE.jsonl] folder=DIR [count=1000000] [rounds=3]
                                [queries=200] [peers=flat,hnsw,usearch,hnswlib] [small=true]

Makes `count` vectors of 512 dimensions out of the real frames of the videos (benchmarks/
grown_vectors.py), stores them as segments of ten a video, and builds two indexes:
`index.kind=auto`, and the same with at most 200 bytes of memory a vector (not with `small=false`).
They are tuned as an index without captions is: for stored vectors and for everyday sentences, none
of which is asked here. Then questions are asked one at a time, each system in turn, on one thread:
captions (`text`), and vectors like the stored ones (`like`).
Printed: recall of the true ten nearest, median and 99th percentile of the latency, bytes of memory
a vector, and seconds of processor time to build (which depends little on what else the machine
does; of two cores, divide by two). `own` is what `Retriever.search(level="moment")` takes beyond
the search for the nearest segments that the other columns are about (FAISS, then refining from
float16): ids, times, merging and metadata. What is in the folder already is used again, so that
`rounds=0` builds, and a second run measures on a quiet machine. Peers: `pip install usearch
hnswlib`; `flat16` is exact search among float16, which takes half the memory that `flat` does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.grown_vectors import Grower, Grown, real_embeddings  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing.reader import IndexReader  # noqa: E402
from reelseek.indexing.store.manifest import FaissOptions, IndexSettings  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.vectors.level import Neighbours  # noqa: E402
from reelseek.indexing.vectors.shard import locations  # noqa: E402
from reelseek.indexing.vectors.tuning import exact_neighbours  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402
from reelseek.ranking.request import Request  # noqa: E402
from reelseek.ranking.retrieval import Retriever  # noqa: E402

K = 10
SEGMENTS = 10  # of a video
BYTES_LIMIT = 200  # of memory a vector, in the second row
Search = Callable[[np.ndarray], np.ndarray]  # a query -> positions of its ten nearest

OPEN_AND_ASK = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from typing import Any
import numpy as np
from reelseek.indexing.reader import IndexReader
from reelseek.ranking.request import Request
from reelseek.ranking.retrieval import Retriever
imported = time.perf_counter()
reader = IndexReader(Path(sys.argv[1]))
Retriever(reader).search(Request(np.load(sys.argv[2])[0]), k=10, level="moment")
print(time.perf_counter() - imported, imported - started)
"""


def make_index(
    folder: Path, vectors: Grown, options: FaissOptions, *, sentences: np.ndarray
) -> tuple[float, float]:
    """Returns the processor seconds that adding and publishing took."""
    times = folder / "benchmark-seconds.json"
    if times.exists():
        adding, publishing = json.loads(times.read_text())
        return adding, publishing
    dim = sentences.shape[1]
    settings = IndexSettings({"name": "mini"}, "0" * 64, dim, {}, {"kind": "windows"})
    spans = np.stack([np.arange(SEGMENTS), np.arange(SEGMENTS) + 1], axis=1) * 4.0
    with IndexWriter(folder, settings) as writer:
        started = time.process_time()
        for first in range(0, len(vectors), SEGMENTS):
            segments = vectors.block(first, min(len(vectors), first + SEGMENTS))
            whole = segments.mean(axis=0, keepdims=True)
            whole /= np.linalg.norm(whole)
            name = f"{first // SEGMENTS:08d}.mp4"
            video = NewVideo(
                key=name,
                path=f"/videos/{name}",
                signature=FileSignature(1, 1, name),
                outcome="ok",
                duration_seconds=4.0 * SEGMENTS,
                metadata={"title": name, "tags": ["even" if first % 20 else "odd"]},
                spans=spans[: len(segments)],
            )
            writer.add(video, np.concatenate([whole, segments]))
        writer.save()
        added = time.process_time()
        writer.publish(options, sentences=lambda: sentences)
        seconds = added - started, time.process_time() - added
    times.write_text(json.dumps(seconds))
    return seconds


def _keys(places: np.ndarray) -> np.ndarray:
    return places[:, 0].astype(np.int64) << 32 | places[:, 1]


class Ours:
    """An index's own search."""

    def __init__(self, folder: Path) -> None:
        self.reader = IndexReader(folder)
        self.retriever = Retriever(self.reader)
        self.level = self.reader.shards[0].snapshot._levels["moment"]
        self.finding = 0.0
        # Where each segment's embedding lies -> its place in the table.
        self._table = np.concatenate([shard.table for shard in self.level._shards])
        self._keys = _keys(locations(self._table))
        self._order = np.argsort(self._keys)
        neighbours = self.level.neighbours

        def timed(*args: Any, **options: Any) -> Neighbours:
            started = time.perf_counter()
            found = neighbours(*args, **options)
            self.finding += time.perf_counter() - started
            return found

        self.level.neighbours = timed  # type: ignore[method-assign]

    def segments(self, query: np.ndarray) -> np.ndarray:
        reads = self.reader.shards[0].snapshot.reads()
        found = self.level.neighbours(query, reads, k=K, only=None)
        scores = reads.read(found.locations) @ query
        best = _keys(found.locations[np.argsort(-scores)[:K]])
        at = self._order[np.searchsorted(self._keys, best, sorter=self._order)]
        rows = self._table[at]
        return (rows["video"] - 1) * SEGMENTS + (rows["start"] // 4).astype(int)

    def beyond_finding(self, query: np.ndarray) -> float:
        """Searches for moments; returns the seconds that finding segments did not take."""
        self.finding = 0.0
        started = time.perf_counter()
        self.retriever.search(Request(query), k=K, level="moment")
        return time.perf_counter() - started - self.finding


def peer(name: str, grown: Grown, path: Path) -> tuple[Search, float, float]:
    """A peer at its defaults: its search, bytes a vector, and processor seconds to build.

    Args:
        path: of the file that it is kept in.
    """
    count, dim = len(grown), grown.block(0, 1).shape[1]
    if name == "flat16":
        return (*half_flat(grown, dim), 0.0)
    vectors = grown.all()
    times = path.with_suffix(".json")
    search: Search
    is_built = times.exists()
    started = time.process_time()
    if name == "flat":
        flat = faiss.IndexFlatIP(dim)
        flat.add(vectors)
        search = lambda query: flat.search(query[None], K)[1][0]  # noqa: E731
        size = dim * 4.0
    elif name == "hnsw":
        if is_built:
            links = faiss.read_index(str(path))
        else:
            links = faiss.index_factory(dim, "HNSW32", faiss.METRIC_INNER_PRODUCT)
            links.add(vectors)
            faiss.write_index(links, str(path))
        search = lambda query: links.search(query[None], K)[1][0]  # noqa: E731
        size = path.stat().st_size / count
    elif name == "usearch":
        from usearch.index import Index

        other = Index(ndim=dim, metric="ip", dtype="f32")
        if is_built:
            other.load(str(path))
        else:
            other.add(np.arange(count), vectors, threads=2)
            other.save(str(path))
        search = lambda query: np.array(other.search(query, K).keys)  # noqa: E731
        size = path.stat().st_size / count
    elif name == "hnswlib":
        import hnswlib

        graph = hnswlib.Index(space="ip", dim=dim)
        if is_built:
            graph.load_index(str(path), max_elements=count)
        else:
            graph.init_index(max_elements=count)
            graph.add_items(vectors, num_threads=2)
            graph.save_index(str(path))
        graph.set_num_threads(1)
        search = lambda query: graph.knn_query(query, k=K)[0][0].astype(int)  # noqa: E731
        size = path.stat().st_size / count
    else:
        raise SystemExit(f"peers: {name} is not flat, flat16, hnsw, usearch or hnswlib")
    if not is_built:
        times.write_text(json.dumps(time.process_time() - started))
    return search, size, json.loads(times.read_text())


def half_flat(grown: Grown, dim: int) -> tuple[Search, float]:
    """Exact search among float16: its search, and bytes a vector."""
    flat = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    for first in range(0, len(grown), 100_000):
        flat.add(grown.block(first, min(len(grown), first + 100_000)))
    return lambda query: flat.search(query[None], K)[1][0], dim * 2.0


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        folder=None,
        count="1000000",
        rounds="3",
        queries="200",
        peers="flat,hnsw,usearch,hnswlib",
        small="true",
    )
    folder, count = Path(options["folder"]), int(float(options["count"]))
    num_queries = int(options["queries"])
    folder.mkdir(parents=True, exist_ok=True)
    real = real_embeddings(options["data"].split(","), folder / "real.npz")
    captions = real["captions"]
    grower = Grower(real["frames"])
    vectors = grower.grow(count, seed=0)
    random = np.random.default_rng(0)
    queries = {
        "text": captions[random.choice(len(captions), num_queries, replace=False)],
        "like": grower.grow(num_queries, seed=1).all(),
    }
    truth = {name: exact_neighbours(some, count, vectors.block) for name, some in queries.items()}
    searches: dict[str, Search] = {}
    rows: dict[str, dict] = {}
    limits = {"auto": 0, "auto, small": BYTES_LIMIT * count}
    if options["small"] != "true":
        del limits["auto, small"]
    for name, limit in limits.items():
        where = folder / f"index-{count}-{'small' if limit else 'any'}"
        adding, publishing = make_index(
            where, vectors, FaissOptions(memory_bytes=limit), sentences=real["everyday"]
        )
        ours = Ours(where)
        shard = ours.reader.manifest.levels["moment"].main
        assert shard is not None
        searches[name] = ours.segments
        rows[name] = {
            "kind": f"{shard.kind} {shard.tuning}",
            "bytes": shard.files(where)[0].stat().st_size / count,
            "build": publishing,
            "adding": adding,
        }
        for sort, some in queries.items():
            for query in some:  # so that what is measured next is in memory, as with the peers
                ours.beyond_finding(query)
            own = [ours.beyond_finding(query) for query in some]
            rows[name][f"own {sort}"] = np.percentile(own, [50, 99])
        np.save(folder / "query.npy", queries["text"])
        done = subprocess.run(
            [sys.executable, "-c", OPEN_AND_ASK, str(where), str(folder / "query.npy")],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        rows[name]["open"] = float(done.stdout.split()[0])
    for name in options["peers"].split(",") if options["peers"] else []:
        searches[name], size, seconds = peer(name, vectors, folder / f"{name}-{count}.index")
        rows[name] = {"kind": name, "bytes": size, "build": seconds}
    if options["rounds"] == "0":
        return
    faiss.omp_set_num_threads(1)
    measure(searches, queries, truth, rounds=int(options["rounds"]), rows=rows)
    for name, row in rows.items():
        print(name, json.dumps(row, default=lambda value: np.round(value, 7).tolist()))
    print_table(rows, queries)


def measure(
    searches: dict[str, Search],
    queries: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    *,
    rounds: int,
    rows: dict[str, dict],
) -> None:
    """Fills in recall and latencies: one query at a time, the systems in turn."""
    for sort, some in queries.items():
        seconds: dict[str, list[float]] = {name: [] for name in searches}
        found: dict[str, list[np.ndarray]] = {name: [] for name in searches}
        for _ in range(rounds):
            for name, search in searches.items():
                found[name] = []
                for query in some[: 20 if name.startswith("flat") else None]:
                    started = time.perf_counter()
                    positions = search(query)
                    seconds[name].append(time.perf_counter() - started)
                    found[name].append(positions)
        for name, row in rows.items():
            hits = [
                np.isin(known, got).mean()
                for known, got in zip(truth[sort], found[name], strict=False)
            ]
            row[f"recall {sort}"] = float(np.mean(hits))
            row[f"ms {sort}"] = np.percentile(seconds[name], [50, 99]) * 1e3


def print_table(rows: dict[str, dict], queries: dict[str, np.ndarray]) -> None:
    exact = rows.get("flat") or rows.get("flat16")
    flat = {sort: exact[f"ms {sort}"][0] for sort in queries} if exact else {}
    print("\n| system | recall@10 text / like | p50 ms | p99 ms | flat / p50 | bytes | build s |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        recall = " / ".join(f"{row[f'recall {sort}']:.3f}" for sort in queries)
        p50 = " / ".join(f"{row[f'ms {sort}'][0]:.2f}" for sort in queries)
        p99 = " / ".join(f"{row[f'ms {sort}'][1]:.2f}" for sort in queries)
        times = " / ".join(f"{flat[s] / row[f'ms {s}'][0]:.0f}" for s in queries if flat)
        label = f"{name} ({row['kind']})" if row["kind"] != name else name
        print(
            f"| {label} | {recall} | {p50} | {p99} | {times} | {row['bytes']:.0f} | "
            f"{row['build']:.0f} |"
        )


if __name__ == "__main__":
    main()
