"""The memory of a service over many vectors, and what one more worker adds to it.

    python benchmarks/serving_memory.py [videos=20000] [segments=50] [queries=200] [folder=]

Indexes random segments around 2,000 centres, starts the service with one worker and then with two,
asks each some queries, and reads from `/proc/PID/smaps` (Linux) how much of every process is its
own, how much it shares, and how much of either is files of the index.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.http_load import closed_loop, search_target  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from benchmarks.serving import free_port, sentences, service  # noqa: E402
from benchmarks.serving_faults import worker_pids  # noqa: E402
from reelseek.indexing import Manifest  # noqa: E402

MIB = 1 << 20


def build(folder: Path, *, num_videos: int, num_segments: int) -> None:
    from dataclasses import asdict

    from reelseek.configs.command_line import load_model_config
    from reelseek.indexing import IndexSettings
    from reelseek.indexing.building.sentences import everyday_embeddings
    from reelseek.indexing.store.manifest import FaissOptions
    from reelseek.indexing.store.videos import FileSignature, NewVideo
    from reelseek.indexing.vectors.tuning import num_lists
    from reelseek.indexing.writer import IndexWriter
    from reelseek.vision import load_model

    config = load_model_config("mini")
    model = load_model(config.spec())
    settings = IndexSettings(
        asdict(config), model.fingerprint, model.embedding_dim, {}, {"kind": "windows"}
    )
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, model.embedding_dim), dtype=np.float32)
    titles = sentences(2000, seed=1)
    starts = 4.0 * np.arange(num_segments)
    with IndexWriter(folder / "index", settings) as writer:
        for number in range(num_videos):
            rows = centres[rng.integers(len(centres), size=1 + num_segments)]
            rows = rows + 1.5 * rng.standard_normal(rows.shape, dtype=np.float32)
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=4.0 * num_segments,
                metadata={"title": titles[number % len(titles)]},
                spans=np.stack([starts, starts + 4.0], axis=1),
            )
            writer.add(video, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        lists = num_lists(num_videos * num_segments)
        kind = FaissOptions(kind=f"IVF{lists},SQ8")  # trying others too takes many minutes
        writer.publish(kind, sentences=lambda: everyday_embeddings(model, torch.device("cpu")))


def memory(pid: int, folder: Path) -> dict[str, float]:
    """MiB of a process: `own` and `shared` by the way their pages are, `index` of either that are
    files of the index, `index_own` of these that nobody shares."""
    found = dict.fromkeys(("own", "shared", "index", "index_own"), 0.0)
    of_index = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if " " in name:  # a mapping begins, with its addresses and its file
            of_index = str(folder) in line
            continue
        kind = {"Private_Clean": "own", "Private_Dirty": "own"}.get(name)
        kind = "shared" if name in ("Shared_Clean", "Shared_Dirty") else kind
        if kind:
            amount = int(rest.split()[0]) / 1024
            found[kind] += amount
            found["index"] += amount * of_index
            found["index_own"] += amount * (of_index and name == "Private_Dirty")
    return found


@contextmanager
def serving(folder: Path, *, workers: int, queries: int) -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    command = ("-m", "serving", f"index={folder / 'index'}", f"port={port}", f"workers={workers}")
    with service(*command, port=port):
        targets = [search_target(query) for query in sentences(queries, seed=4 + workers)]
        asyncio.run(closed_loop(port, targets, num_connections=4))
        children = psutil.Process(os.getpid()).children()
        yield next(c for c in children if str(port) in " ".join(c.cmdline())), port


def main() -> None:
    options = parse_options(__doc__, videos="20000", segments="50", queries="200", folder="")
    with TemporaryDirectory() as temporary:
        folder = Path(options["folder"] or temporary)
        if not Manifest.exists(folder / "index"):
            folder.mkdir(parents=True, exist_ok=True)
            build(folder, num_videos=int(options["videos"]), num_segments=int(options["segments"]))
        size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
        print(f"index: {size / MIB:.0f} MiB")
        totals = {}
        for workers in (1, 2):
            with serving(folder, workers=workers, queries=int(options["queries"])) as (root, port):
                processes = [root, *root.children(recursive=True)]
                totals[workers] = sum(p.memory_full_info().pss for p in processes) / MIB
                pids = worker_pids(port)
                print(f"workers={workers}: {totals[workers]:.0f} MiB in all (PSS)")
                for process in processes:
                    role = "worker" if process.pid in pids else " ".join(process.cmdline())[-40:]
                    held = memory(process.pid, folder)
                    print(
                        f"  {held['own']:6.0f} MiB own, {held['shared']:6.0f} shared, of the index "
                        f"{held['index']:6.0f} ({held['index_own']:.0f} written)  {role}"
                    )
        print(f"one more worker adds {totals[2] - totals[1]:.0f} MiB")


if __name__ == "__main__":
    main()
