"""Milliseconds of a search in an index of random embeddings, by kind of request and level.

    python benchmarks/retrieval.py [videos=10000] [segments=10] [queries=120] [folder=]

`visual` is an embedding alone; `fused` has four words beside it, of 3,000 that titles of five words
have by Zipf's law; `excluded` also has a phrase and a word that should not be there. Prints the
median and the 90th percentile of open `Retriever`s; the index is kept in `folder` where one is
named.
"""

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import IndexReader, IndexSettings, Manifest  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402
from reelseek.ranking.request import Request  # noqa: E402
from reelseek.ranking.retrieval import Retriever  # noqa: E402

DIM = 512
SEGMENT_SECONDS = 4.0
WORDS = np.array([f"word{number}" for number in range(3000)])
_ZIPF = 1 / np.arange(1, len(WORDS) + 1)


def some_words(rng: np.random.Generator, num: int) -> list[str]:
    return rng.choice(WORDS, size=num, p=_ZIPF / _ZIPF.sum()).tolist()


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def build(folder: Path, *, num_videos: int, num_segments: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, DIM))
    starts = SEGMENT_SECONDS * np.arange(num_segments)
    settings = IndexSettings({"name": "given"}, "f" * 32, DIM, {}, {"kind": "windows"})
    with IndexWriter(folder, settings) as writer:
        for number in range(num_videos):
            noise = 0.8 * rng.normal(size=(num_segments, DIM))
            segments = unit(centres[rng.integers(len(centres))] + noise)
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=SEGMENT_SECONDS * num_segments,
                metadata={"title": " ".join(some_words(rng, 5))},
                spans=np.stack([starts, starts + SEGMENT_SECONDS], axis=1),
            )
            writer.add(video, np.concatenate([unit(segments.mean(axis=0)[None]), segments]))
        writer.publish(sentences=lambda: unit(rng.normal(size=(348, DIM))))


def requests(num: int) -> dict[str, list[Request]]:
    rng = np.random.default_rng(5)

    def embedding() -> np.ndarray:
        return unit(rng.normal(size=DIM))

    fused = [Request(embedding(), words=some_words(rng, 4)) for _ in range(num)]
    excluded = [
        Request(
            embedding(),
            words=some_words(rng, 4),
            excluded=embedding()[None],
            excluded_words=["word7"],
        )
        for _ in range(num)
    ]
    visual = [Request(request.query_embedding) for request in fused]
    return {"visual": visual, "fused": fused, "excluded": excluded}


def measure(retriever: Retriever, asked: Sequence[Request], level: str) -> np.ndarray:
    retriever.search(asked[0], k=10, level=level)
    times = []
    for request in asked:
        started = time.perf_counter()
        retriever.search(request, k=10, level=level)
        times.append(1e3 * (time.perf_counter() - started))
    return np.array(times)


def main() -> None:
    options = parse_options(__doc__, videos="10000", segments="10", queries="120", folder="")
    with TemporaryDirectory() as temporary:
        folder = Path(options["folder"] or temporary)
        if not Manifest.exists(folder):
            build(
                folder,
                num_videos=int(options["videos"]),
                num_segments=int(options["segments"]),
            )
        with closing(IndexReader(folder)) as reader:
            retriever = Retriever(reader)
            for kind, asked in requests(int(options["queries"])).items():
                for level in ("video", "moment"):
                    times = measure(retriever, asked, level)
                    middle, slow = np.percentile(times, [50, 90])
                    print(f"{kind:>8} {level:>6}: {middle:6.1f} ms, 90 % under {slow:6.1f}")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
