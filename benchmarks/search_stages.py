"""What each stage of a search costs, from the sentence to the page.

    python benchmarks/search_stages.py data=FILE.jsonl[,FILE.jsonl] folder=DIR [count=100000]
                                       [queries=200] [ranker=DIR] [model=mini]

Makes an index of `count` segments, ten a video, of vectors grown from real frames
(benchmarks/grown_vectors.py), each video with a real caption as its title and the words of another
read at one of its seconds. Then captions are asked, one at a time, of an open `Searcher` with the
model: level=moment, ten hits. Printed: median and 99th percentile of each stage in
milliseconds, as the results of whole searches say; `all` is what a caller waits for.
"""

import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.grown_vectors import Grower, real_embeddings
from benchmarks.options import parse_options
from reelseek.configs.command_line import load_model_config
from reelseek.indexing import IndexReader, IndexSettings, collect_videos
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.learning.ranker import LearnedRanker
from reelseek.ranking.page import write_page
from reelseek.ranking.searcher import Searcher
from reelseek.vision import load_model

SEGMENTS = 10  # of a video
SECONDS = 4.0  # of a segment


def make_index(folder: Path, real: dict[str, np.ndarray], captions: list[str], count: int) -> None:
    vectors = Grower(real["frames"]).grow(count, seed=0)
    settings = IndexSettings({"name": "mini"}, "0" * 64, real["frames"].shape[1], {}, {})
    spans = np.stack([np.arange(SEGMENTS), np.arange(SEGMENTS) + 1], axis=1) * SECONDS
    random = np.random.default_rng(0)
    with IndexWriter(folder, settings) as writer:
        for first in range(0, count, SEGMENTS):
            segments = vectors.block(first, first + SEGMENTS)
            whole = segments.mean(axis=0, keepdims=True)
            whole /= np.linalg.norm(whole)
            name = f"{first // SEGMENTS:08d}.mp4"
            title = captions[random.integers(len(captions))]
            video = NewVideo(
                key=name,
                path=f"/videos/{name}",
                signature=FileSignature(1, 1, name),
                outcome="ok",
                duration_seconds=SECONDS * SEGMENTS,
                metadata={"title": title, "tags": ["even" if first % 20 else "odd"]},
                spans=spans,
            )
            writer.add(video, np.concatenate([whole, segments]))
        writer.save()
        for record in list(writer.catalogue.scan()):
            text = TimedText("ocr", 8.0, 10.0, captions[random.integers(len(captions))])
            writer.catalogue.store_texts(record.id, "ocr", [text], engine="none")
        writer.publish(sentences=lambda: real["everyday"])


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        folder=None,
        count="100000",
        queries="200",
        ranker="",
        model="mini",
    )
    folder, count = Path(options["folder"]), int(float(options["count"]))
    folder.mkdir(parents=True, exist_ok=True)
    lists = options["data"].split(",")
    real = real_embeddings(lists, folder / "real.npz")
    items = [item for name in lists for item in collect_videos(name)]
    captions = list(dict.fromkeys(item.captions[0] for item in items if item.captions))
    index = folder / f"stages-{count}"
    if not index.exists():
        make_index(index, real, captions, count)
    ranker = LearnedRanker.load(Path(options["ranker"])) if options["ranker"] else None
    model = load_model(load_model_config(options["model"]).spec())
    searcher = Searcher(IndexReader(index), model, ranker=ranker)
    level = "video" if options["ranker"] else "moment"
    queries = np.random.default_rng(1).choice(len(captions), int(options["queries"]), replace=False)
    taken: dict[str, list[float]] = defaultdict(list)
    for number, index in enumerate([*queries[:20], *queries]):  # the first are not counted
        started = time.perf_counter()
        hits = searcher.search(captions[index], level=level)
        whole = 1e3 * (time.perf_counter() - started)
        spent = {stage: 1e3 * seconds for stage, seconds in hits.stage_seconds.items()}
        spent["the rest"] = whole - sum(spent.values())
        started = time.perf_counter()
        write_page(folder / "page.html", [(captions[index], hits)])
        spent |= {"all": whole, "page": 1e3 * (time.perf_counter() - started)}
        if number >= 20:
            for stage, milliseconds in spent.items():
                taken[stage].append(milliseconds)
    print("| stage | p50 ms | p99 ms |\n|---|---|---|")
    for stage in taken:
        p50, p99 = np.percentile(taken[stage], [50, 99])
        print(f"| {stage} | {p50:.2f} | {p99:.2f} |")


if __name__ == "__main__":
    main()
