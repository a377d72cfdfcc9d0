"""Sixteen million vectors in shards on one machine, in pieces that a stop does not lose.

    python benchmarks/scale_run.py data=FILE.jsonl folder=DIR [stage=grow|measure] [count=16000000]
        [shards=4] [piece=500000] [lists=4096] [kind=RaBitQ] [marks=1000000,4000000]

`grow` trains one quantiser for all shards, then makes one piece of vectors after the other
(benchmarks/grown_vectors.py), writes its rows in 8 bits, and adds them to the FAISS index of its
shard with the index's own code. Pieces fill the first shard, then the next. It runs on one thread,
prints a line for each piece, and goes on after the last whole piece when it is started again.
Meanwhile it finds the true ten nearest of 200 queries (100 captions, 100 vectors like the stored
ones) among the rows as stored and among the float32 vectors that they were made of.

`measure` asks the queries one at a time, through `LevelSearcher` of each shard in turn (FAISS, then
exact scores from the rows), at each mark and at `count`, as far as that is grown. It prints a line
of JSON for each setting: recall@10 of captions and of the others, median and 99th percentile of the
milliseconds, and the median of processor milliseconds, which other processes disturb less. With
`cold=true` the processor's caches are emptied before each query, as if the index were many times as
large.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.scale_pieces import QUERIES, K, Run  # noqa: E402
from reelseek.indexing.vectors.level import EmbeddingReads, LevelSearcher, Neighbours  # noqa: E402


def ask(searchers: list[LevelSearcher], run: Run, query: np.ndarray) -> np.ndarray:
    """Positions of the nearest in all shards, asked in turn: the best estimates of all are compared
    exactly, as by `indexing.shards.gathering`."""
    reads = EmbeddingReads(run.parts)  # type: ignore[arg-type]
    found = Neighbours.concatenate(
        [searcher.neighbours(query, reads, k=K, only=None) for searcher in searchers]
    )
    order = np.argsort(-found.scores, kind="stable")[: max(K, found.num_candidates)]
    places = found.locations[order]
    best = np.argsort(-(reads.read(places) @ query), kind="stable")[:K]
    return places[best, 0].astype(np.int64) * run.piece + places[best, 1]


def set_tuning(searchers: list[LevelSearcher], tuning: dict) -> None:
    for searcher in searchers:
        searcher._shards = [
            shard.tuned(replace(shard.info, tuning=tuning)) for shard in searcher._shards
        ]


def measure(run: Run, count: int, *, settings: list[dict], rounds: int, cold: bool) -> None:
    searchers, queries = run.searchers(count), run.queries
    truths = {name: run.truth(count, name) for name in ("stored", "exact")}
    other = np.zeros(8 << 20, np.float64)  # twice the caches, to empty them with
    for tuning in settings:
        set_tuning(searchers, tuning)
        wall: list[float] = []
        cpu: list[float] = []
        for number in range(rounds + 1):
            found = []
            for query in queries:
                if cold:
                    other += 1
                started, cpu_started = time.perf_counter(), time.thread_time()
                found.append(ask(searchers, run, query))
                if number:  # the first round reads what is on disk
                    cpu.append(time.thread_time() - cpu_started)
                    wall.append(time.perf_counter() - started)
        row: dict = {"count": count, "shards": len(searchers), "lists": run.lists, "cold": cold}
        row |= {"kind": run.kind, "piece": run.piece} | tuning
        for name, truth in truths.items():
            hits = np.array(
                [np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]
            ).reshape(2, QUERIES)
            row[f"recall_{name}"] = hits.mean(axis=1).round(4).tolist()
        row["p50_ms"], row["p99_ms"] = (np.percentile(wall, [50, 99]) * 1e3).round(3).tolist()
        row["cpu_ms"] = round(float(np.median(cpu)) * 1e3, 3)
        print(json.dumps(row), flush=True)


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        folder=None,
        stage="grow",
        count="16000000",
        shards="4",
        piece="500000",
        lists="4096",
        kind="RaBitQ",
        marks="1000000,4000000",
        nprobe="16,32,64,128,256",
        candidates="8,16,32,64",
        rounds="2",
        cold="false",
    )
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    marks = tuple(int(mark) for mark in options["marks"].split(",") if mark)
    run = Run(
        folder,
        options["data"].split(","),
        int(options["count"]),
        shards=int(options["shards"]),
        piece=int(options["piece"]),
        lists=int(options["lists"]),
        kind=options["kind"],
        marks=marks,
    )
    if options["stage"] == "grow":
        os.cpu_count = lambda: 1  # FAISS is given as many threads: seconds are those of one core
        run.grow()
        return
    faiss.omp_set_num_threads(1)
    settings = [
        {"nprobe": int(nprobe), "candidates": int(candidates)}
        for nprobe in options["nprobe"].split(",")
        for candidates in options["candidates"].split(",")
    ]
    for count in sorted({*marks, run.count}):
        if count <= run.count and run.state(count // run.piece - 1) is not None:
            measure(
                run,
                count,
                settings=settings,
                rounds=int(options["rounds"]),
                cold=options["cold"] == "true",
            )


if __name__ == "__main__":
    main()
