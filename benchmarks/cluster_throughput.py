"""Videos a second of `engine=ray` on this machine, beside the one-machine pipeline, in turns.

    python benchmarks/cluster_throughput.py videos=PATH [rounds=3] [num_videos=200] [model=mini]
                                            [precision=bf16]

Both make an index of two shards with the same model in the same precision. What happens once (Ray,
models and libraries start) is timed apart, and a first round of each on 20 videos is not counted.
Prints each round, then the medians with their spread, and the share of the time that the engine
costs. Needs Ray: pip install 'reelseek[cluster]'.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.command_line import load_model_config  # noqa: E402
from reelseek.indexing import IndexSettings, update_index  # noqa: E402
from reelseek.indexing.cluster.connection import connect  # noqa: E402
from reelseek.indexing.cluster.engine import load_encoder, start_cluster  # noqa: E402
from reelseek.indexing.cluster.run import ClusterRun  # noqa: E402
from reelseek.indexing.sources.collection import (  # noqa: E402
    Source,
    VideoItem,
    collect_videos,
    read_source,
)
from reelseek.vision import (  # noqa: E402
    DecodePool,
    FrameSettings,
    IntervalSampler,
    load_model,
    start_decode_server,
)

NUM_SHARDS = 2
NUM_WARM_UP = 20
EVERY_SECONDS = 1.0


def write_list(path: Path, items: list[VideoItem]) -> Source:
    path.write_text("".join(f"{item.path}\n" for item in items))
    return read_source(str(path))


def main() -> None:
    options = parse_options(
        __doc__, videos=None, rounds="3", num_videos="200", model="mini", precision="bf16"
    )
    start_decode_server()
    config = load_model_config(options["model"])
    model = load_model(config.spec(), known_names=[options["model"]])
    frames = FrameSettings(IntervalSampler(EVERY_SECONDS, min_frames=4), model.preprocessing)
    settings = IndexSettings(
        model=asdict(config),
        fingerprint=model.fingerprint,
        embedding_dim=model.embedding_dim,
        sampling={"kind": "interval", "every_seconds": EVERY_SECONDS, "min_frames": 4},
        segments={"kind": "scenes", "seconds": 4.0, "overlap_seconds": 2.0},
    )
    make_encoder = partial(
        load_encoder, spec=model.spec, device="cpu", known_names=[options["model"]]
    )
    seconds: dict[str, list[float]] = {"local": [], "ray": []}
    with tempfile.TemporaryDirectory() as name, connect(None, frames_bytes=48 << 20):
        folder = Path(name)
        items = collect_videos(options["videos"])[: int(options["num_videos"])]
        source = write_list(folder / "videos.txt", items)
        warm_up = write_list(folder / "first.txt", items[:NUM_WARM_UP])
        started = time.monotonic()
        cluster = start_cluster(model, make_encoder, frames, precision=options["precision"])
        start_seconds = time.monotonic() - started
        local = {"encoder": make_encoder(options["precision"])}
        remote = {"encoder": cluster.encoder, "make_run": partial(ClusterRun, cluster=cluster)}
        with DecodePool(frames) as pool:
            for number in range(int(options["rounds"]) + 1):
                for engine, own in (("local", local), ("ray", remote)):
                    started = time.monotonic()
                    summary = update_index(
                        folder / f"{engine}{number}",
                        [source if number else warm_up],
                        settings=settings,
                        pool=pool,
                        num_shards=NUM_SHARDS,
                        show_progress=False,
                        **own,
                    )
                    assert summary.indexed == len(items if number else items[:NUM_WARM_UP])
                    if number:
                        seconds[engine].append(time.monotonic() - started)
                        took = round(seconds[engine][-1], 1)
                        print(json.dumps({"round": number, engine: took}), flush=True)
    rates = {engine: [len(items) / each for each in own] for engine, own in seconds.items()}
    medians = {engine: statistics.median(own) for engine, own in rates.items()}
    found = {
        "videos": len(items),
        "threads": torch.get_num_threads(),
        "start_seconds": round(start_seconds, 1),
        **{f"{engine}_videos_per_second": round(rate, 2) for engine, rate in medians.items()},
        **{f"{e}_spread": [round(min(own), 2), round(max(own), 2)] for e, own in rates.items()},
        "share_lost": round(1 - medians["ray"] / medians["local"], 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
