"""Kills parts of a cluster while it indexes, and counts what is lost, doubled or done twice.

    python benchmarks/cluster_failures.py [driver=30] [writer=30] [node=10] [decoder=10]
                                          [encoder=10] [store=10] [num_videos=40] [seed=0]
                                          [max_seconds=0] [log=FILE]

Each run indexes generated videos with the model that sees only colour, on three Ray nodes of this
machine, kills one process at a random moment (a driver is started again), and compares all rows
with those of one machine. `store` kills nothing: its frames are several times what the object
stores hold, so that these are full and put frames on disk. Runs that do not kill the driver or a
node follow each other in one process. Prints a line of JSON for each run: what of the index is
wrong (videos that were lost or doubled or have other rows), and how many videos were decoded twice,
beside those that were in hand, begun and not yet on disk. With a log, lines are appended there,
too. A run that has begun is finished; none is begun after `max_seconds`, where that is not 0. The
last lines count the runs of each kind, those that the log had before included. Needs Ray: pip
install 'reelseek[cluster]'.
"""

import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from tests.indexing.cluster.colour_runs import (  # noqa: E402
    ColourRun,
    begin,
    decoded,
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
LONG_SIZE, LONG_SECONDS, LONG_BYTES = 224, 0.06, 400 << 20
NUM_LONG, LONG_FRAMES = 10, 500
MAX_SECONDS = 240  # of a run


@dataclass(frozen=True)
class Collection:
    """Videos, and their rows on one machine."""

    videos: Path
    expected: dict[str, tuple]


class Drivers:
    """Does runs, one after the other, in a process that is started again after it was killed.

    Args:
        folder: for what it writes.
        nodes: that work.
    """

    def __init__(self, folder: Path, nodes: SmallCluster) -> None:
        self._folder = folder
        self._nodes = nodes
        self._process: subprocess.Popen | None = None
        self._reader = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def measure(self, kind: str, collection: Collection, *, moment: int) -> dict[str, object]:
        """Does a run, in which something dies when this many videos were begun, and compares what
        it gives."""
        started = time.monotonic()
        index, log = self._folder / "index", self._folder / "log"
        shutil.rmtree(index, ignore_errors=True)
        num_before = len(decoded(log))
        run = ColourRun(str(collection.videos), str(index), self._nodes.address, str(log))
        if kind == "store":
            run = replace(run, frame_size=LONG_SIZE, encode_seconds=LONG_SECONDS)
            run = replace(run, frames_bytes=LONG_BYTES)
        else:
            run = replace(run, seconds=SECONDS)
        summary: dict = {}
        try:
            summary = self._do(run, kind, num_begun=num_before + moment)
            wrong = problems(index, collection.expected)
        except (AssertionError, TimeoutError) as error:
            wrong = [f"it failed: {error}"[-600:]]
            self.close()
        names = decoded(log)[num_before:]
        return {
            "killed": kind,
            "moment": moment,
            "videos": len(collection.expected),
            "wrong": wrong,
            "twice": len(names) - len(set(names)),
            "in_hand": summary.get("repeated", 0),
            "spilled_mb": summary.get("spilled_mb", 0),
            "mapped_mb": summary.get("mapped_mb", 0),
            "seconds": round(time.monotonic() - started),
        }

    def _do(self, run: ColourRun, kind: str, *, num_begun: int) -> dict:
        """Does a run to its end, and returns its last summary."""
        if kind in ("node", "store"):
            self.close()  # nodes that come later have no encoders
        process = self._begin(run)
        if kind == "store":
            summary = self._finish(process)
            assert summary["spilled_mb"] or summary["mapped_mb"], "the object stores were not full"
            return summary
        log = Path(run.log)
        num_before = len(decoded(log))
        wait_until(lambda: len(decoded(log)) >= num_begun or process.poll() is not None)
        if kind == "driver":
            self.close()
            num_done = len(decoded(log)) - num_before
            summary = self._finish(self._begin(run))
            return summary | {"repeated": num_done - summary["unchanged"]}
        if kind == "node":
            self._nodes.kill_node()
            self._nodes.add_node()
        else:
            wait_until(lambda: processes(TITLES[kind]) or process.poll() is not None)
            for victim in processes(TITLES[kind])[:1]:
                victim.kill()
        return self._finish(process)

    def _begin(self, run: ColourRun) -> subprocess.Popen:
        if self._process is None:
            self._process = start()
        begin(self._process, run)
        return self._process

    def _finish(self, process: subprocess.Popen) -> dict:
        assert process.stdout is not None and process.stderr is not None
        while True:
            line = self._reader.submit(process.stdout.readline).result(timeout=MAX_SECONDS)
            assert line, process.stderr.read()[-3000:]
            if line.startswith("{"):  # Ray has been seen to write there, too
                return json.loads(line)


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
        "runs_beyond_in_hand": sum(run["twice"] > run["in_hand"] for run in runs),
        "spilled_mb": sum(run["spilled_mb"] for run in runs),
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = _collection(make_videos(folder / "videos", int(options["num_videos"])))
        nodes = SmallCluster(2)
        drivers = Drivers(folder, nodes)
        try:
            for kind in chain.from_iterable([name] * int(options[name]) for name in kinds):
                if 0 < float(options["max_seconds"]) < time.monotonic() - started:
                    break
                own = _long_collection(folder / "long") if kind == "store" else short
                moment = draw(1, len(own.expected) - 1)
                runs.append(drivers.measure(kind, own, moment=moment))
                line = json.dumps(runs[-1])
                print(line, flush=True)
                if log is not None:
                    with log.open("a") as file:
                        file.write(f"{line}\n")
        finally:
            drivers.close()
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
