"""Runs of `engine=ray` with the model that sees only colour, each in a process of its own.

What is decoded is logged, and takes as long as a test likes.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.indexing import IndexSettings, update_index
from reelseek.indexing.remote.fetching import RemoteOptions
from reelseek.indexing.remote.sources import read_remote_sources
from reelseek.indexing.shards.opening import IndexEmbeddings, open_catalogue
from reelseek.indexing.shutdown import stop_on_signals
from reelseek.indexing.sources.collection import read_source
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.report import read_report
from reelseek.text.urls import is_url
from reelseek.vision import (
    DecodePool,
    DualEncoder,
    FrameEncoder,
    FrameSettings,
    IntervalSampler,
    WorkerLimits,
)
from reelseek.vision.decoding.opening import reader_openers
from reelseek.vision.decoding.reader import OpenReader
from tests.conftest import make_colour_model, write_colours

PROJECT = Path(__file__).parents[3]
NUM_SHARDS = 3
SAMPLER = IntervalSampler(every_seconds=0.5, min_frames=1)


@dataclass(frozen=True)
class ColourRun:
    """Arguments of a run.

    Attributes:
        videos: a path or a URL.
        log: where the names of decoded files are written.
        seconds: that decoding a video takes longer than it does.
        deadly: name of a file that kills the process of Ray that has it decoded.
        slow: name of a file that takes a quarter of an hour the first time.
        frames_bytes: of `start_cluster`.
        slow_options: of `Cluster`.
        frame_size: height and width that frames are encoded at.
        encode_seconds: that encoding a batch takes longer than it does.
        remote_options: fields of `RemoteOptions`.
        fetch_folder: of `start_cluster`; empty for its default.
    """

    videos: str
    index: str
    address: str
    log: str
    seconds: float = 0.0
    deadly: str = ""
    slow: str = ""
    frames_bytes: int = 1 << 20
    slow_options: dict = field(default_factory=dict)
    frame_size: int = 16
    encode_seconds: float = 0.0
    remote_options: dict = field(default_factory=dict)
    fetch_folder: str = ""

    def sources(self) -> dict[str, Any]:
        """Arguments of `update_index`."""
        options = RemoteOptions(**self.remote_options)
        if is_url(self.videos):
            remote = read_remote_sources([self.videos], options)
            return {"sources": [], "remote_sources": remote, "remote_options": options}
        return {"sources": [read_source(self.videos)]}


class SlowEncoder(FrameEncoder):
    """Takes `seconds` longer for each batch."""

    seconds = 0.0

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        time.sleep(self.seconds)
        return super().submit(pixels)


def make_videos(folder: Path, num: int, *, seed: int = 0) -> Path:
    """Writes videos of one to four seconds, in a few colours each."""
    rng = np.random.default_rng(seed)
    for number in range(num):
        colours = [c for c in rng.integers(0, 256, (4, 3)).tolist() for _ in range(10)]
        length = int(rng.integers(10, 41))
        write_colours(folder / f"{number:03d}.mp4", [tuple(c) for c in colours[:length]])
    return folder


def make_long_videos(folder: Path, num: int, *, num_frames: int) -> Path:
    """Writes videos of so many frames, each of another colour and half a second long."""
    rng = np.random.default_rng(0)
    for number in range(num):
        colours = [tuple(colour) for colour in rng.integers(0, 256, (num_frames, 3)).tolist()]
        times_seconds = [index / 2 for index in range(num_frames)]
        write_colours(folder / f"{number:03d}.mp4", colours, times_seconds=times_seconds)
    return folder


def colour_model(frame_size: int = 16) -> DualEncoder:
    """The model that sees only colour, of frames of this height and width."""
    model = make_colour_model()
    size = (frame_size, frame_size)
    return replace(model, preprocessing=replace(model.preprocessing, size=size))


def settings() -> IndexSettings:
    return IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=make_colour_model().fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5, "min_frames": 1, "max_frames": 100_000},
        segments={"kind": "scenes", "seconds": 4.0, "overlap_seconds": 2.0},
    )


def colour_encoder(
    precision: str, *, frame_size: int = 16, encode_seconds: float = 0.0
) -> FrameEncoder:
    model = colour_model(frame_size)
    encoder = SlowEncoder(model, device="cpu", precision=precision, padded=True)
    encoder.seconds = encode_seconds
    return encoder


def openers(path: str | Path, decoders: Sequence[str], *, run: ColourRun) -> Sequence[OpenReader]:
    """Notes that a file is decoded, and does what the run says of it."""
    name = Path(path).name
    first = name not in decoded(Path(run.log))
    with open(run.log, "a") as log:
        log.write(f"{name}\n")
    time.sleep(run.seconds)
    if name == run.deadly:
        os.kill(_ray_process(), 9)
        time.sleep(60)
    if name == run.slow and first:
        time.sleep(900)
    return reader_openers(path, decoders)


def _ray_process() -> int:
    """The process of Ray above this one, which decodes for it."""
    import psutil

    for process in psutil.Process().parents():
        if process.name().startswith("ray::") or process.cmdline()[0].startswith("ray::"):
            return process.pid
    raise AssertionError("no process of Ray is above this one")


def decoded(log: Path) -> list[str]:
    """The names of the files that were decoded so far, in order."""
    return log.read_text().split() if log.exists() else []


def index_on_cluster(run: ColourRun) -> dict:
    """Does a run in this process, and returns its summary."""
    (summary,) = index_in_turn([run])
    return summary


def index_in_turn(runs: Iterable[ColourRun]) -> Iterator[dict]:
    """Does runs in this process, on the cluster that the first one starts, and yields their
    summaries. They may differ in their videos and index."""
    from reelseek.indexing.cluster.connection import connect
    from reelseek.indexing.cluster.engine import start_cluster
    from reelseek.indexing.cluster.run import ClusterRun
    from reelseek.indexing.cluster.writing import wait_for_shards

    runs = iter(runs)
    first = next(runs)
    model = colour_model(first.frame_size)
    frames = FrameSettings(SAMPLER, model.preprocessing)
    make_encoder = partial(
        colour_encoder, frame_size=first.frame_size, encode_seconds=first.encode_seconds
    )
    with connect(first.address or None, frames_bytes=first.frames_bytes):
        cluster = start_cluster(
            model,
            make_encoder,
            frames,
            precision="fp32",
            limits=WorkerLimits(timeout_seconds=1000.0),
            frames_bytes=first.frames_bytes,
            fetch_folder=Path(first.fetch_folder) if first.fetch_folder else None,
            openers=partial(openers, run=first),
        )
        cluster.slow_options.update({"min_seconds": 300.0} | first.slow_options)
        for run in chain([first], runs):
            wait_for_shards(Path(run.index))
            with stop_on_signals() as stop:
                summary = update_index(
                    Path(run.index),
                    **run.sources(),
                    settings=settings(),
                    encoder=cluster.encoder,
                    pool=DecodePool(frames),
                    num_shards=NUM_SHARDS,
                    show_progress=False,
                    stop=stop,
                    make_run=partial(ClusterRun, cluster=cluster),
                )
            yield asdict(summary) | spilled()


def spilled() -> dict[str, int]:
    """The MiB that the nodes' object stores have put on disk, and into files beyond their memory,
    since they were started."""
    import ray
    from ray._private.internal_api import memory_summary

    # By its address: else Ray asks the last one that was started on this machine, dead or alive.
    text = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
    names = {"spilled_mb": r"Spilled (\d+) MiB", "mapped_mb": r"filesystem mmap usage: (\d+) MiB"}
    found = {name: re.search(pattern, text) for name, pattern in names.items()}
    return {name: int(match[1]) if match else 0 for name, match in found.items()}


def index_here(videos: Path | str, index: Path, *, frame_size: int = 16) -> dict:
    """Does the same on one machine."""
    model = colour_model(frame_size)
    with DecodePool(FrameSettings(SAMPLER, model.preprocessing), num_workers=2) as pool:
        summary = update_index(
            index,
            **ColourRun(str(videos), str(index), address="", log="").sources(),
            settings=settings(),
            encoder=colour_encoder("fp32", frame_size=frame_size),
            pool=pool,
            num_shards=NUM_SHARDS,
            show_progress=False,
        )
    return asdict(summary)


def start(*runs: ColourRun) -> subprocess.Popen:
    """Starts runs in a process of their own, which writes a line with the summary of each. It
    takes further ones as lines of JSON."""
    command = [sys.executable, "-m", "tests.indexing.cluster.colour_runs"]
    process = subprocess.Popen(
        command, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for run in runs:
        begin(process, run)
    return process


def begin(process: subprocess.Popen, run: ColourRun) -> None:
    """Gives a process another run."""
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(run)) + "\n")
    process.stdin.flush()


def finish(process: subprocess.Popen, *, timeout: float = 120) -> dict:
    """Waits for the end of a process, and returns the summary of its last run."""
    stdout, stderr = process.communicate(timeout=timeout)
    assert process.returncode == 0, stderr[-3000:]
    # Ray writes lines of its own, also when it is left.
    return json.loads([line for line in stdout.splitlines() if line.startswith("{")][-1])


def rows_of(index: Path) -> dict[str, tuple]:
    """All that an index holds of each video, by key; fails where a video is there twice."""
    manifest = Manifest.read(index)
    embeddings = IndexEmbeddings(index, manifest)
    found: dict[str, tuple] = {}
    with closing(open_catalogue(index)) as catalogue:
        for record in catalogue.scan():
            assert record.key not in found, f"{record.key} is there twice"
            rows = b""
            if record.location is not None:
                run = embeddings.of(record).read_run(*record.location, record.num_rows)
                rows = run.tobytes()
            shard = record.id % len(manifest.shard_manifests(index))
            found[record.key] = (
                *(record.outcome, record.public_id, shard, record.signature, record.metadata),
                *(record.num_frames, record.duration_seconds, record.spans.tolist()),
                *(record.frame_times.tolist(), rows),
            )
    return found


def problems(index: Path, expected: dict[str, tuple]) -> list[str]:
    """How an index and its report differ from the rows that are expected."""
    found = rows_of(index)
    wrong = [f"{key} is lost" for key in expected.keys() - found.keys()]
    wrong += [f"{key} is not expected" for key in found.keys() - expected.keys()]
    wrong += [
        f"{key} has other rows" for key in expected if key in found and found[key] != expected[key]
    ]
    keys = sorted(line.key for line in read_report(index))
    if keys != sorted(expected):
        wrong.append(f"the report has {len(keys)} lines")
    num_ok = sum(values[0] == "ok" for values in expected.values())
    if Manifest.read(index).num_videos != num_ok:
        wrong.append(f"{Manifest.read(index).num_videos} videos are searchable, not {num_ok}")
    return wrong


if __name__ == "__main__":
    # By its name, under which other processes find what it defines.
    from tests.indexing.cluster import colour_runs

    given = (colour_runs.ColourRun(**json.loads(line)) for line in sys.stdin)
    for summary in colour_runs.index_in_turn(given):
        print(json.dumps(summary), flush=True)
