"""Kills parts of a cluster while it indexes, and counts what is lost, doubled or done twice.

    python benchmarks/cluster_failures.py [driver=30] [writer=30] [node=10] [decoder=10]
                                          [encoder=10] [store=10] [num_videos=40] [seed=0]

Each run indexes generated videos with the model that sees only colour, on three Ray nodes of this
machine, kills one process at a random moment (a driver is started again), and compares all rows
with those of one machine. `store` has decoded frames fill the object store instead. Prints a line
of JSON for each kind: runs, videos that were lost or doubled or have other rows, and videos that
were decoded twice, at most and on average. Needs Ray: pip install 'reelseek[cluster]'.
"""

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from tests.indexing.cluster.colour_runs import (  # noqa: E402
    ColourRun,
    decoded,
    finish,
    index_here,
    make_videos,
    problems,
    rows_of,
    start,
)
from tests.indexing.cluster.conftest import SmallCluster, processes, wait_until  # noqa: E402

SECONDS = 0.1  # of each video, besides its decoding
TITLES = {"writer": "ShardActor", "decoder": "decode_video", "encoder": "EncoderActor"}


def run_once(
    run: ColourRun, kind: str, *, moment: int, nodes: SmallCluster
) -> tuple[dict, list[str]]:
    """Does one run, in which something dies when this many videos were begun.

    Returns:
        The last summary, and the names of the videos that were decoded.
    """
    if kind == "store":
        return finish(start(replace(run, frames_bytes=400 << 20))), decoded(Path(run.log))
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
    return finish(process, timeout=240), decoded(Path(run.log))


def measure(
    kind: str, num_runs: int, *, folder: Path, expected: dict, nodes: SmallCluster, draw: Callable
) -> dict[str, object]:
    """Does the runs of one kind, and counts."""
    wrong: list[str] = []
    twice: list[int] = []
    started = time.monotonic()
    for number in range(num_runs):
        index, log = folder / "index", folder / "log"
        shutil.rmtree(index, ignore_errors=True)
        log.unlink(missing_ok=True)
        run = ColourRun(str(folder / "videos"), str(index), nodes.address, str(log))
        _, names = run_once(run, kind, moment=draw(1, len(expected) - 1), nodes=nodes)
        wrong += [f"run {number}: {text}" for text in problems(index, expected)]
        twice.append(len(names) - len(set(names)))
    return {
        "killed": kind,
        "runs": num_runs,
        "videos": len(expected),
        "wrong": len(wrong),
        "first_wrong": wrong[:3],
        "twice_max": max(twice),
        "twice_mean": round(sum(twice) / num_runs, 2),
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    kinds = {"driver": "30", "writer": "30"} | dict.fromkeys(("node", "decoder", "encoder"), "10")
    options = parse_options(__doc__, **kinds, store="10", num_videos="40", seed="0")
    draw = random.Random(int(options["seed"])).randint
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_videos(folder / "videos", int(options["num_videos"]))
        index_here(folder / "videos", folder / "one")
        expected = rows_of(folder / "one")
        nodes = SmallCluster(2)
        try:
            for kind in (*kinds, "store"):
                if num_runs := int(options[kind]):
                    found = measure(
                        kind, num_runs, folder=folder, expected=expected, nodes=nodes, draw=draw
                    )
                    print(json.dumps(found), flush=True)
        finally:
            nodes.close()


if __name__ == "__main__":
    main()
