"""What shards cost on one machine: dividing an index, opening it, and a search in it.

    python benchmarks/sharding.py [videos=4000] [segments=10] [queries=200] [shards=1,2,4,16]
        [kind=flat]

Indexes random segments of 512 dimensions around 200 centres, divides the index into each number
of shards in turn, compares the answers, and prints medians of the requests' times. With another
kind than `flat` each division has its own recall.
"""

import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import IndexReader, IndexSettings  # noqa: E402
from reelseek.indexing.shards.dividing import divide_index  # noqa: E402
from reelseek.indexing.store.manifest import FaissOptions  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402
from reelseek.ranking.request import Request  # noqa: E402
from reelseek.ranking.retrieval import Retriever  # noqa: E402

DIM = 512
WORDS = "dog cat sea boat red running snow child ball river fire night goal street rain".split()
SETTINGS = IndexSettings({"name": "random"}, "f", DIM, {}, {"kind": "windows"})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def build(folder: Path, *, num_videos: int, num_segments: int, kind: str = "flat") -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, DIM), dtype=np.float32)
    starts = 4.0 * np.arange(num_segments)
    with IndexWriter(folder, SETTINGS) as writer:
        for number in range(num_videos):
            rows = centres[rng.integers(len(centres), size=1 + num_segments)]
            rows = rows + 1.5 * rng.standard_normal(rows.shape, dtype=np.float32)
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=4.0 * num_segments,
                metadata={"title": " ".join(rng.choice(WORDS, size=4))},
                spans=np.stack([starts, starts + 4.0], axis=1),
            )
            writer.add(video, unit(rows))
        writer.publish(FaissOptions(kind=kind))


def measure(folder: Path, requests: list[Request]) -> tuple[float, float, float, list]:
    """Seconds to open, medians for videos and for moments, and the hits."""
    started = time.perf_counter()
    with closing(IndexReader(folder)) as reader:
        retriever = Retriever(reader)
        retriever.search(requests[0], k=10, level="video")
        opening = time.perf_counter() - started
        medians, found = [], []
        for level in ("video", "moment"):
            seconds = []
            for request in requests:
                started = time.perf_counter()
                hits = retriever.search(request, k=10, level=level)
                seconds.append(time.perf_counter() - started)
                found.append([(hit.id, hit.score) for hit in hits])
            medians.append(float(np.median(seconds)))
    return opening, medians[0], medians[1], found


def main() -> None:
    options = parse_options(
        __doc__, videos="4000", segments="10", queries="200", shards="1,2,4,16", kind="flat"
    )
    rng = np.random.default_rng(1)
    queries = unit(rng.standard_normal((int(options["queries"]), DIM), dtype=np.float32))
    requests = [Request(query, words=rng.choice(WORDS, size=2).tolist()) for query in queries]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        build(
            folder,
            num_videos=int(options["videos"]),
            num_segments=int(options["segments"]),
            kind=options["kind"],
        )
        expected = None
        print("| shards | divided in | opened in | p50, videos | p50, moments | same answers |")
        print("|---|---|---|---|---|---|")
        for num_shards in map(int, options["shards"].split(",")):
            started = time.perf_counter()
            divide_index(folder, num_shards)
            dividing = time.perf_counter() - started
            opening, videos, moments, found = measure(folder, requests)
            expected = found if expected is None else expected
            same = sum(one == other for one, other in zip(found, expected, strict=True))
            print(
                f"| {num_shards} | {dividing:.1f} s | {opening:.2f} s | {1e3 * videos:.1f} ms | "
                f"{1e3 * moments:.1f} ms | {same} of {len(found)} |"
            )


if __name__ == "__main__":
    main()
