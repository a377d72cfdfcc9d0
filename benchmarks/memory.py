"""Memory over a long run: thousands of videos in one `python -m indexing`.

    python benchmarks/memory.py videos=PATH [num_videos=3000] [frames=4]

The clips are repeated under new names, each copy with some bytes at its end (an MP4 `free` box)
that make it another file, since the index decodes equal contents once. Twice a second the resident
size of the indexing process and of each of its workers is read; what is printed for each tenth of
the run is the process's median, and the most that any worker had.
"""

import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402


def make_copies(items: list[Path], folder: Path, num_videos: int) -> None:
    for number in range(num_videos):
        source = items[number % len(items)]
        ending = struct.pack(">I4sQ", 16, b"free", number)
        (folder / f"{number:06d}.mp4").write_bytes(source.read_bytes() + ending)


def resident(process: psutil.Process) -> tuple[float, list[float]]:
    """MB of the process, and of each of its workers, which are children of its fork server."""
    own = process.memory_info().rss / 1e6
    workers = []
    for child in process.children():
        for worker in child.children():
            try:
                workers.append(worker.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
    return own, workers


def main() -> None:
    options = parse_options(__doc__, videos=None, num_videos="3000", frames="4")
    num_videos = int(options["num_videos"])
    num_frames = int(options["frames"])
    items = [item.path for item in collect_videos(options["videos"])]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "videos"
        folder.mkdir()
        make_copies(items, folder, num_videos)
        command = [sys.executable, "-m", "indexing", f"videos={folder}", f"index={name}/index"]
        command += ["sampling=uniform", f"sampling.num_frames={num_frames}"]
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        process = psutil.Process(running.pid)
        samples = []
        while running.poll() is None:
            try:
                samples.append(resident(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.5)
        assert running.stdout is not None
        summary = json.loads(running.stdout.read().splitlines()[-1])

    busy = [sample for sample in samples if sample[1]]  # from the first worker to the last
    print(f"{summary['indexed']} indexed, {summary['failed']} failed, {summary['seconds']} s")
    for tenth in range(10):
        part = busy[tenth * len(busy) // 10 : (tenth + 1) * len(busy) // 10]
        own = statistics.median(own for own, _ in part)
        maximum = max(max(workers) for _, workers in part)
        print(f"{10 * (tenth + 1):>3} %: process {own:6.0f} MB, largest worker {maximum:6.0f} MB")


if __name__ == "__main__":
    main()
