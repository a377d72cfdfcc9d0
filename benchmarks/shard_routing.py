"""What asking few shards costs and saves, where videos are placed by cluster.

    python benchmarks/shard_routing.py data=FILE.jsonl[,FILE.jsonl] folder=DIR [videos=20000]
        [segments=5] [shards=4,16] [indexed=4000]

Grows videos from real frames (`benchmarks/grown_vectors.py`), learns clusters of a sample, places
all, and compares the ten nearest segments in the nearest shards with the ten nearest of all. Real
captions and segments of other grown videos are the queries. The same with runs of real frames for
videos. Then what updates cost: the clusters are learned of half the clips, videos of the other half
are added, and the clusters learned anew. Last, an index of the first `indexed` videos is divided by
hash and by cluster, and searched for moments. Embeddings of real frames and captions are kept as
DIR/real.npz.
"""

import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.grown_vectors import Grower, real_embeddings  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import IndexReader, IndexSettings  # noqa: E402
from reelseek.indexing.shards.clusters import ClusterMap, num_to_ask  # noqa: E402
from reelseek.indexing.shards.dividing import divide_index  # noqa: E402
from reelseek.indexing.shards.learning import (  # noqa: E402
    Sample,
    learn_clusters,
    measure_routing,
    sample_size,
)
from reelseek.indexing.store.manifest import FaissOptions  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402
from reelseek.ranking.request import VISUAL, Request  # noqa: E402
from reelseek.ranking.retrieval import Retriever  # noqa: E402

K = 10
RECALL = 0.95  # as an index has it by default


def sample_of(videos: np.ndarray, num_shards: int) -> Sample:
    """The first videos, as an index takes those with the smallest ids, which are hashes."""
    _, num_segments, dim = videos.shape
    taken = videos[: -(-sample_size(num_shards) // num_segments)]
    whole = taken.mean(axis=1)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    counts = np.full(len(taken), num_segments)
    ids = [str(number) for number in range(len(taken))]
    return Sample(whole, taken.reshape(-1, dim), counts, ids, np.zeros(len(taken), np.int64))


def placed(clusters: ClusterMap, videos: np.ndarray) -> np.ndarray:
    """`(V,)`, the shard of each video."""
    count, num_segments, dim = videos.shape
    whole = videos.mean(axis=1)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    counts = np.full(count, num_segments)
    return clusters.place_videos(whole, videos.reshape(-1, dim), counts=counts)


def recalls(
    clusters: ClusterMap, shards: np.ndarray, nearest: np.ndarray, queries: np.ndarray
) -> np.ndarray:
    """`(num_shards,)`: the fraction of the ten nearest in the first 1, 2, ... shards.

    Args:
        shards: `(V,)`, of the videos.
        nearest: `(q, K)`, the videos of the nearest segments.
    """
    rank = np.argsort(clusters.nearest_shards(queries), axis=1)
    ranks = np.take_along_axis(rank, shards[nearest], axis=1)
    return np.bincount(ranks.ravel(), minlength=clusters.num_shards).cumsum() / ranks.size


def nearest_videos(videos: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """`(q, K)`, the videos of the nearest segments of all."""
    rows = videos.reshape(-1, videos.shape[2])
    _, found = faiss.knn(queries, rows, K, metric=faiss.METRIC_INNER_PRODUCT)
    return found // videos.shape[1]


def moved(before: np.ndarray, after: np.ndarray, num_shards: int) -> float:
    """The fraction of videos in another shard. A new shard is taken for the old one that it shares
    most with, the largest shares first."""
    table = np.zeros((num_shards, num_shards), np.int64)
    np.add.at(table, (before, after), 1)
    kept = 0
    for _ in range(num_shards):
        old, new = np.unravel_index(table.argmax(), table.shape)
        kept += table[old, new]
        table[old], table[:, new] = -1, -1
    return 1 - kept / len(before)


def line(name: str, clusters: ClusterMap, videos: np.ndarray, asked: dict, num: int) -> np.ndarray:
    """Prints one row of the table; returns the videos' shards."""
    shards = placed(clusters, videos)
    sizes = np.bincount(shards, minlength=clusters.num_shards)
    found = [
        recalls(clusters, shards, nearest_videos(videos, queries), queries)
        for queries in asked.values()
    ]
    at = [f"{each[num - 1]:.3f}" for each in found]
    curve = [
        " ".join(f"{each[n - 1]:.2f}" for n in (1, 2, 4, 8) if n <= len(each)) for each in found
    ]
    scanned = np.mean(
        [
            sizes[order[:num]].sum() / sizes.sum()
            for order in clusters.nearest_shards(asked["captions"])
        ]
    )
    print(
        f"| {clusters.num_shards} | {name} | {num} | {at[0]} ({curve[0]}) | {at[1]} ({curve[1]}) | "
        f"{scanned:.2f} | {sizes.max() / sizes.mean():.2f} | {sizes.min() / sizes.mean():.2f} |",
        flush=True,
    )
    return shards


def build(folder: Path, videos: np.ndarray, sentences: np.ndarray) -> None:
    """Indexes grown videos of four seconds a segment."""
    _, num_segments, dim = videos.shape
    starts = 4.0 * np.arange(num_segments)
    settings = IndexSettings({"name": "grown"}, "f", dim, {}, {"kind": "windows"})
    with IndexWriter(folder, settings) as writer:
        for number, segments in enumerate(videos):
            whole = segments.mean(axis=0, keepdims=True)
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=4.0 * num_segments,
                spans=np.stack([starts, starts + 4.0], axis=1),
            )
            writer.add(video, np.concatenate([whole / np.linalg.norm(whole), segments]))
        writer.publish(FaissOptions(kind="flat"), sentences=lambda: sentences)


def searched(folder: Path, queries: np.ndarray, *, shards: str) -> tuple[float, list[set]]:
    """The median seconds of a search for ten moments, and the videos that each finds."""
    seconds, found = [], []
    with closing(IndexReader(folder, shards_asked=shards)) as reader:
        retriever = Retriever(reader)
        retriever.warm_up()
        for query in [*queries[:20], *queries]:
            started = time.perf_counter()
            hits = retriever.search(Request(query, sources=(VISUAL,)), k=K, level="moment")
            seconds.append(time.perf_counter() - started)
            found.append({(hit.id, hit.start_seconds) for hit in hits})
    return float(np.median(seconds[20:])), found[20:]


def compare_indexes(folder: Path, videos: np.ndarray, real: dict, *, num_shards: int) -> None:
    """Prints what a search takes in real indexes, and how many hits are those of all shards."""
    queries = real["captions"].astype(np.float32)[:200]
    with TemporaryDirectory(dir=folder) as temporary:
        index = Path(temporary)
        build(index, videos, real["everyday"])
        one, expected = searched(index, queries, shards="all")
        print(f"one index: p50 {1e3 * one:.1f} ms")
        for placement in ("hash", "cluster"):
            started = time.perf_counter()
            divide_index(index, num_shards, placement=placement)
            dividing = time.perf_counter() - started
            asked = ["all"] if placement == "hash" else ["all", "auto"]
            for shards in asked:
                seconds, found = searched(index, queries, shards=shards)
                same = [len(one & other) / K for one, other in zip(found, expected, strict=True)]
                print(
                    f"{num_shards} shards by {placement}, divided in {dividing:.0f} s, {shards} "
                    f"asked: p50 {1e3 * seconds:.1f} ms, {np.mean(same):.3f} of the hits of one "
                    "index"
                )


def main() -> None:
    options = parse_options(
        __doc__, data=None, folder=None, videos="20000", segments="5", shards="4,16", indexed="4000"
    )
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    real = real_embeddings(options["data"].split(","), folder / "real.npz")
    grower = Grower(real["frames"])
    count, size = int(options["videos"]), int(options["segments"])
    every = grower.videos(count, num_segments=size, seed=0)
    first = grower.videos(count // 2, num_segments=size, seed=1, part=0.5)
    second = grower.videos(count // 2, num_segments=size, seed=2, part=-0.5)
    asked = {
        "captions": real["captions"].astype(np.float32),
        "segments": grower.videos(400, num_segments=1, seed=3)[:, 0],
    }
    # Real frames that follow each other, of which 300 runs are kept for their queries.
    num_runs = len(real["frames"]) // size
    runs: np.ndarray = real["frames"][: num_runs * size].reshape(num_runs, size, -1)
    runs = runs[np.random.default_rng(5).permutation(num_runs)]
    held, runs = runs[:300, size // 2], runs[300:]
    print(f"{len(real['frames'])} real frames, {count} videos of {size} segments")
    print(
        "| shards | what | asked | captions (1 2 4 8) | segments (1 2 4 8) | read | most | least |"
    )
    print("|---|---|---|---|---|---|---|---|")
    updates = []
    for num_shards in map(int, options["shards"].split(",")):
        started = time.perf_counter()
        sample = sample_of(every, num_shards)
        clusters = learn_clusters(sample, num_shards)
        measured = measure_routing(
            clusters, sample, sample.placed(clusters), queries={"sentences": real["everyday"]}
        )
        num = num_to_ask(measured, RECALL, num_shards)
        seconds = time.perf_counter() - started
        line("all at once", clusters, every, asked, num)
        of_real = learn_clusters(sample_of(runs, num_shards), num_shards)
        line("real frames", of_real, runs, asked | {"segments": held}, num)

        half = learn_clusters(sample_of(first, num_shards), num_shards)
        before = line("half of the clips", half, first, asked, num)
        both = np.concatenate([first, second])
        line("the other half added", half, both, asked, num)
        mixed = both[np.random.default_rng(4).permutation(len(both))]
        anew = learn_clusters(sample_of(mixed, num_shards), num_shards)
        line("learned anew", anew, both, asked, num)
        drift = moved(placed(half, both), placed(anew, both), num_shards)
        old = moved(before, placed(anew, first), num_shards)
        updates.append(
            f"{num_shards} shards: learned in {seconds:.1f} s; learning anew moves {drift:.0%} of "
            f"all videos, {old:.0%} of the first half"
        )
    print("\n".join(updates))
    if num_indexed := int(options["indexed"]):
        compare_indexes(folder, every[:num_indexed], real, num_shards=num_shards)


if __name__ == "__main__":
    main()
