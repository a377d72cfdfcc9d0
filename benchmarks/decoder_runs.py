"""What a run costs by each decoder, and how many files each one serves.

    python benchmarks/decoder_runs.py videos=PATH [rounds=5] [num_videos=0] [frames=12] [model=mini]

The work of `python -m indexing` from the path to the embedding, and decoding alone, are each done
with decord first (the default) and by PyAV alone (`decoding.decoder=pyav`), in turn within the same
rounds. Medians with their spread are printed, in seconds of processor time (of this process and its
workers), which other work on the machine changes little; the ratio of each round's two runs; which
decoder has served the files; and the least cosine between the embeddings of the two.
`num_videos=0` is all; `rounds=0` decodes once and only counts.
"""

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402
from reelseek.indexing.pipeline import EncodedVideo, encode_videos  # noqa: E402
from reelseek.vision import (  # noqa: E402
    DecodePool,
    FrameEncoder,
    Frames,
    FrameSettings,
    UniformSampler,
    WorkerLimits,
    start_decode_server,
)

ORDERS = {"decord first": ("decord", "pyav"), "pyav": ("pyav",)}


def processor_seconds() -> float:
    """Of this process and those that it has started, which must all be alive yet."""
    this = psutil.Process()
    return sum(sum(p.cpu_times()[:2]) for p in [this, *this.children(recursive=True)])


def decode(pool: DecodePool, paths: list[Path]) -> Counter[str]:
    """Which decoder has served how many files to their end."""
    served: Counter[str] = Counter()
    for _, item in pool.decode(list(enumerate(paths))):
        if not isinstance(item, Frames):
            served["failed"] += 1
        elif item.end is not None:
            served[item.end.decoder] += 1
    return served


def run(pool: DecodePool, encoder: FrameEncoder, paths: list[Path]) -> list[EncodedVideo[int]]:
    encoded = encode_videos(enumerate(paths), encoder=encoder, pool=pool)
    return sorted(encoded, key=lambda video: video.tag)


def min_cosine(ones: list[EncodedVideo[int]], others: list[EncodedVideo[int]]) -> float:
    """Of the frames; 0 where one of two videos has more of them."""
    cosines = [
        float((one.embeddings * other.embeddings).sum(dim=-1).min())
        if one.embeddings.shape == other.embeddings.shape
        else 0.0
        for one, other in zip(ones, others, strict=True)
        if len(one.embeddings) or len(other.embeddings)
    ]
    return min(cosines, default=1.0)


def main() -> None:
    options = parse_options(
        __doc__, videos=None, rounds="5", num_videos="0", frames="12", model="mini"
    )
    paths = [item.path for item in collect_videos(options["videos"])]
    paths = paths[: int(options["num_videos"]) or None]
    start_decode_server()
    encoder = FrameEncoder(random_model(options["model"]), compiled=True)
    settings = FrameSettings(UniformSampler(int(options["frames"])), encoder.preprocessing)
    limits = WorkerLimits(max_videos_per_worker=10**9)
    pools = {
        name: DecodePool(settings, decoders=order, limits=limits) for name, order in ORDERS.items()
    }

    served = {name: decode(pool, paths) for name, pool in pools.items()}  # warms the caches up
    encoded: dict[str, list[EncodedVideo[int]]] = {}
    seconds: dict[str, dict[str, list[float]]] = {
        task: {name: [] for name in ORDERS} for task in ("decoding", "run")
    }
    for round_number in range(int(options["rounds"])):
        names = list(pools)[:: 1 if round_number % 2 else -1]
        for name in names:
            tasks: dict[str, Callable[[], Any]] = {
                "decoding": partial(decode, pools[name], paths),
                "run": partial(run, pools[name], encoder, paths),
            }
            for task, work in tasks.items():
                started = processor_seconds()
                done = work()
                seconds[task][name].append(processor_seconds() - started)
                if task == "run":
                    encoded[name] = done
    for pool in pools.values():
        pool.close()

    print(f"{len(paths)} files, {options['frames']} frames each, {torch.get_num_threads()} cores")
    for name, counts in served.items():
        print(f"  {name:<12} served by " + ", ".join(f"{k}: {n}" for k, n in counts.most_common()))
    if not encoded:
        return
    summary: dict[str, object] = {"least_cosine": round(min_cosine(*encoded.values()), 4)}
    for task, by_name in seconds.items():
        for name, values in by_name.items():
            print(
                f"  {task:<8} {name:<12} {statistics.median(values):7.2f} s "
                f"({min(values):.2f}-{max(values):.2f})"
            )
        ratios = [ours / pyav for ours, pyav in zip(*by_name.values(), strict=True)]
        summary[f"{task}_ratio"] = round(statistics.median(ratios), 3)
        summary[f"{task}_ratio_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
