"""How long a search takes while the same machine indexes, beside how long it takes when it is idle.

    python benchmarks/search_beside_indexing.py index=DIR videos=PATH folder=DIR [rounds=3]
                                                [seconds=20]

Asks an open `Searcher` one sentence after another (text encoding included, never the same twice
running), `level=moment`, with pauses of 20 ms: for some seconds while nothing else runs, then while
`python -m indexing videos=PATH index=FOLDER/index-N` does; in turn, `rounds` times. `index=DIR` is
any index of the model `mini`; the videos should take longer to index than `seconds`.
"""

import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.options import parse_options
from reelseek.ranking.searcher import Searcher

PAUSE_SECONDS = 0.02
SUBJECTS = ("a dog", "two children", "a red car", "an old man", "a woman", "a robot", "a cat")
SCENES = ("on a beach", "in a kitchen", "at night", "on a street", "in the snow", "on a stage")
QUERIES = [f"{subject} {scene}" for subject in SUBJECTS for scene in SCENES]


def latencies(searcher: Searcher, seconds: float) -> np.ndarray:
    taken = []
    end = time.monotonic() + seconds
    for query in cycle(QUERIES):
        started = time.perf_counter()
        searcher.search(query, level="moment")
        taken.append(time.perf_counter() - started)
        if time.monotonic() > end:
            return 1000 * np.array(taken)
        time.sleep(PAUSE_SECONDS)
    raise AssertionError


def wait_until_it_encodes(process: subprocess.Popen, folder: Path) -> None:
    while not (folder / "unsaved.journal").is_file():
        if process.poll() is not None:
            raise SystemExit("indexing ended before it could be measured: give it more videos")
        time.sleep(0.1)


def main() -> None:
    options = parse_options(__doc__, index=None, videos=None, folder=None, rounds="3", seconds="20")
    seconds = float(options["seconds"])
    searcher = Searcher.open(options["index"])
    latencies(searcher, 3)
    idle, beside = [], []
    for number in range(int(options["rounds"])):
        idle.append(latencies(searcher, seconds))
        folder = Path(options["folder"]) / f"index-{number}"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "indexing"),
                *(f"videos={options['videos']}", f"index={folder}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_it_encodes(process, folder)
            beside.append(latencies(searcher, seconds))
            if process.poll() is not None:
                raise SystemExit("indexing ended meanwhile: give it more videos")
        finally:
            process.terminate()
            process.wait()
    searcher.close()
    for name, rounds in (("idle", idle), ("indexing", beside)):
        p50, p99 = np.percentile(np.concatenate(rounds), [50, 99])
        each = [float(np.percentile(some, 99)) for some in rounds]
        print(
            f"{name:9} {sum(map(len, rounds)):5} searches  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  "
            f"(p99 of each round {min(each):.1f}-{max(each):.1f})"
        )
    ratios = [
        np.percentile(b, 99) / np.percentile(i, 99) for i, b in zip(idle, beside, strict=True)
    ]
    print(
        f"p99 beside indexing / idle: {np.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
