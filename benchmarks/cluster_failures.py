"""Kills parts of a cluster while it indexes, and counts what is lost, doubled or done twice.

    python benchmarks/cluster_failures.py [driver=30] [writer=30] [node=10] [decoder=10]
                                          [encoder=10] [store=10] [num_videos=40] [seed=0]
                                          [max_seconds=0] [log=FILE]

Each run indexes generated videos with the model that sees only colour, on three Ray nodes of this
machine, kills one process at a random moment (a driver is started again), and compares all rows
with those of one machine. `store` kills nothing: its frames are several times what the object
stores hold, so that these are full and put frames on disk. Prints a line of JSON for each run:
what of the index is wrong (videos that were lost or doubled or have other rows), and how many
videos were decoded twice; with a log it is appended there, too. A run that has begun is finished;
none is begun after `max_seconds`, where that is not 0. The last lines count the runs of each kind,
those that the log had before included. Needs Ray: pip install 'reelseek[cluster]'.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from tests.indexing.cluster.colour_runs import (  # noqa: E402
    ColourRun,
    decoded,
    finish,
    index_here,
    make_long_videos,
    make_videos,
    problems,
    rows_of,
    start,
)
from tests.indexing.cluster.conftest import SmallCluster, processes, wait_until  # noqa: E402

SECONDS = 0.1  # of each video, besides its decoding
TITLES = {"writer": "ShardActor", "decoder": "decode_video", "encoder": "EncoderActor"}
# Two tasks with 500 frames of 224 x 224 under way, 75 MB each, beside stores of 80 MiB in which
# batches stay for the seconds that encoding takes.
LONG_SIZE, LONG_SECONDS, LONG_BYTES = 224, 3.0, 400 << 20
NUM_LONG, LONG_FRAMES = 10, 500


@dataclass(frozen=True)
class Collection:
    """Videos, and their rows on one machine."""

    videos: Path
    expected: dict[str, tuple]


def run_once(run: ColourRun, kind: str, *, moment: int, nodes: SmallCluster) -> dict:
    """Does one run, in which something dies when this many videos were begun; returns its last
    summary."""
    if kind == "store":
        run = replace(run, frame_size=LONG_SIZE, encode_seconds=LONG_SECONDS)
        return finish(start(replace(run, frames_bytes=LONG_BYTES)), timeout=240)
    process = start(replace(run, seconds=SECONDS))
    wait_until(lambda: len(decoded(Path(run.log))) >= moment or process.poll() is not None)
    if kind == "driver":
        process.kill()
        process.wait()
        process = start(run)
    elif kind == "node":
        nodes.kill_node()
        nodes.add_node()
    else:
        wait_until(lambda: processes(TITLES[kind]) or process.poll() is not None)
        for victim in processes(TITLES[kind])[:1]:
            victim.kill()
    return finish(process, timeout=240)


def measure(
    kind: str, collection: Collection, *, folder: Path, draw: Callable, nodes: SmallCluster
) -> dict[str, object]:
    """Does a run of one kind, and compares what it gives."""
    started = time.monotonic()
    index, log = folder / "index", folder / "log"
    shutil.rmtree(index, ignore_errors=True)
    log.unlink(missing_ok=True)
    run = ColourRun(str(collection.videos), str(index), nodes.address, str(log))
    moment = draw(1, len(collection.expected) - 1)
    try:
        summary = run_once(run, kind, moment=moment, nodes=nodes)
        wrong = problems(index, collection.expected)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        summary, wrong = {}, [f"it failed: {error}"[-600:]]
    names = decoded(log)
    more = {name: summary.get(name, 0) for name in ("repeated", "spilled_mb", "mapped_mb")}
    return {
        "killed": kind,
        "moment": moment,
        "videos": len(collection.expected),
        "wrong": wrong,
        "twice": len(names) - len(set(names)),
        "seconds": round(time.monotonic() - started),
    } | more


def counts(kind: str, runs: list[dict]) -> dict[str, object]:
    """Puts the runs of one kind together."""
    twice = [run["twice"] for run in runs]
    return {
        "killed": kind,
        "runs": len(runs),
        "runs_wrong": sum(bool(run["wrong"]) for run in runs),
        "videos": sum(run["videos"] for run in runs),
        "twice_max": max(twice),
        "twice_mean": round(sum(twice) / len(runs), 2),
        "seconds_median": statistics.median(run["seconds"] for run in runs),
    }


def main() -> None:
    kinds = {"driver": "30", "writer": "30", "node": "10", "decoder": "10"}
    kinds |= {"encoder": "10", "store": "10"}
    options = parse_options(
        __doc__, **kinds, num_videos="40", seed=str(int(time.time())), max_seconds="0", log=""
    )
    started, draw = time.monotonic(), random.Random(int(options["seed"])).randint
    log = Path(options["log"]) if options["log"] else None
    earlier = log.read_text().splitlines() if log is not None and log.exists() else []
    runs = [json.loads(line) for line in earlier]
    # In turns, so that what is stopped early has runs of each kind.
    todo = [(number, kind) for kind in kinds for number in range(int(options[kind]))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = _collection(make_videos(folder / "videos", int(options["num_videos"])))
        nodes = SmallCluster(2)
        try:
            for _, kind in sorted(todo, key=lambda each: each[0]):
                if 0 < float(options["max_seconds"]) < time.monotonic() - started:
                    break
                own = _long_collection(folder / "long") if kind == "store" else short
                runs.append(measure(kind, own, folder=folder, draw=draw, nodes=nodes))
                line = json.dumps(runs[-1])
                print(line, flush=True)
                if log is not None:
                    with log.open("a") as file:
                        file.write(f"{line}\n")
        finally:
            nodes.close()
    for kind in kinds:
        if own_runs := [run for run in runs if run["killed"] == kind]:
            print(json.dumps(counts(kind, own_runs)), flush=True)


@cache
def _long_collection(folder: Path) -> Collection:
    videos = make_long_videos(folder, NUM_LONG, num_frames=LONG_FRAMES)
    return _collection(videos, frame_size=LONG_SIZE)


def _collection(videos: Path, *, frame_size: int = 16) -> Collection:
    with tempfile.TemporaryDirectory() as name:
        index_here(videos, Path(name) / "one", frame_size=frame_size)
        return Collection(videos, rows_of(Path(name) / "one"))


if __name__ == "__main__":
    main()
