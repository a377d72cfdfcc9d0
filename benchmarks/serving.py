"""The service under load on loopback, beside the service one writes in an afternoon.

    python benchmarks/serving.py [videos=10000] [segments=10] [seconds=8] [rounds=3] [workers=0]
        [folder=]

Indexes random stretches near sentences' embeddings in the space of `mini`, starts both services,
and measures, interleaved:

- overhead: HTTP against `Searcher.search` in this process, one query after the other, all new;
- throughput: requests a second with 8 connections, of queries that are all new, and of queries
  repeated as people repeat them (Zipf's law, exponent 1, over 2,000 sentences);
- repeated: a query asked again against a new one;
- open loop: Poisson arrivals at 70 % of the highest load, and at twice the capacity.

The generator runs on the same cores; its share of one is printed.
"""

import asyncio
import functools
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.http_load import (  # noqa: E402
    Outcome,
    closed_loop,
    open_loop,
    search_target,
)
from benchmarks.options import parse_options  # noqa: E402
from reelseek import Searcher  # noqa: E402
from reelseek.configs.command_line import load_model_config  # noqa: E402
from reelseek.indexing import IndexSettings, Manifest  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402

SEGMENT_SECONDS = 4.0
NUM_CONNECTIONS = 6  # as many as a worker runs and lets wait: none is turned away
_PARTS = (
    "a small,an old,a young,a tired,a happy,a wet,a brown,a white,a loud,a slow".split(","),
    "dog,cat,man,woman,child,horse,bird,car,train,boat,cook,dancer,singer,farmer".split(","),
    "runs,waits,sleeps,turns,jumps,sings,plays,falls,looks around,moves away".split(","),
    "on the beach,in the street,in a kitchen,near a river,under a bridge,at night".split(","),
    "in the rain,in bright sun,beside a fence,with a red ball,before a crowd,alone".split(","),
)


@functools.cache
def sentences(num: int, *, seed: int) -> list[str]:
    """Different sentences, in random order."""
    every = [" ".join(parts) for parts in itertools.product(*_PARTS)]
    random.Random(seed).shuffle(every)
    assert num <= len(every)
    return every[:num]


def build(folder: Path, *, num_videos: int, num_segments: int) -> None:
    """An index, and the same for the peer: segments lie near the embeddings of sentences."""
    from reelseek.indexing.building.sentences import everyday_embeddings
    from reelseek.text import TextEncoder, Tokenizer
    from reelseek.vision import load_model

    config = load_model_config("mini")
    model = load_model(config.spec())
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    texts = sentences(2000, seed=1)
    centres = TextEncoder(model.clip, tokenizer).encode(texts).numpy()
    dim, rng = model.embedding_dim, np.random.default_rng(0)
    starts = SEGMENT_SECONDS * np.arange(num_segments)
    settings = IndexSettings(asdict(config), model.fingerprint, dim, {}, {"kind": "windows"})
    all_segments, described = [], []
    with IndexWriter(folder / "index", settings) as writer:
        for number in range(num_videos):
            title = int(rng.integers(len(texts)))
            around = centres[[title, *rng.integers(len(texts), size=num_segments - 1)]]
            segments = _unit(around + 1.5 / np.sqrt(dim) * rng.normal(size=around.shape))
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=SEGMENT_SECONDS * num_segments,
                metadata={"title": texts[title]},
                spans=np.stack([starts, starts + SEGMENT_SECONDS], axis=1),
            )
            writer.add(video, np.concatenate([_unit(segments.mean(axis=0)[None]), segments]))
            all_segments.append(segments)
            described += [
                {
                    **{"id": str(number), "video": video.key, "metadata": {"title": texts[title]}},
                    **{"start_seconds": start, "end_seconds": start + SEGMENT_SECONDS},
                }
                for start in starts.tolist()
            ]
        writer.publish(sentences=lambda: everyday_embeddings(model, torch.device("cpu")))
    np.save(folder / "segments.npy", np.concatenate(all_segments))
    (folder / "segments.json").write_text(json.dumps(described))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@contextmanager
def service(*command: str, port: int, **environment: str) -> Iterator[int]:
    """Runs a service until the block ends; yields its port when it is ready."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_ready(port, process)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the service on port {port} did not become ready")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def overhead(searcher: Searcher, port: int, queries: list[str]) -> None:
    """One new query after the other, over HTTP and in this process, taking turns."""
    times: dict[str, list[float]] = {"HTTP": [], "Searcher.search": []}

    async def run() -> None:
        for first, second in zip(queries[::2], queries[1::2], strict=False):
            outcome = await closed_loop(port, [search_target(first)], num_connections=1)
            times["HTTP"] += outcome.milliseconds[200]
            started = time.perf_counter()
            searcher.search(second)
            times["Searcher.search"].append(1e3 * (time.perf_counter() - started))

    asyncio.run(run())
    for name, measured in times.items():
        low, middle, high = np.percentile(measured, [10, 50, 90])
        print(f"overhead    {name:>16}: {middle:.2f} ms p50 ({low:.2f} to {high:.2f})")


def zipf_targets(num: int, *, seed: int) -> list[str]:
    asked = sentences(2000, seed=seed)
    weights = 1 / np.arange(1, len(asked) + 1)
    rng = np.random.default_rng(seed)
    return [search_target(asked[n]) for n in rng.choice(len(asked), num, p=weights / weights.sum())]


def throughput(ports: dict[str, int], *, seconds: float, rounds: int) -> dict[str, float]:
    """Requests a second of each service, by turns; returns the medians."""
    rates: dict[str, list[float]] = {}
    fresh = iter(sentences(8000, seed=2))
    for number in range(rounds):
        for kind in ("new", "repeated"):
            for name, port in ports.items():
                guess = np.median(rates.get(f"{kind} {name}", [60]))
                count = int(min(4000, max(40, guess * seconds)))
                targets = (
                    [search_target(query) for query in itertools.islice(fresh, min(count, 600))]
                    if kind == "new"
                    else zipf_targets(count, seed=100 + number)  # none of the new ones
                )
                outcome = asyncio.run(closed_loop(port, targets, num_connections=NUM_CONNECTIONS))
                served = len(outcome.milliseconds.get(200, []))
                rates.setdefault(f"{kind} {name}", []).append(served / outcome.wall_seconds)
    for name, measured in rates.items():
        print(
            f"throughput  {name:>20}: {np.median(measured):7.1f} requests/s "
            f"({min(measured):.1f} to {max(measured):.1f})"
        )
    return {name: float(np.median(measured)) for name, measured in rates.items()}


def repeated(port: int) -> None:
    queries = sentences(200, seed=3)

    async def run() -> tuple[Outcome, Outcome]:
        first = await closed_loop(port, list(map(search_target, queries)), num_connections=1)
        again = await closed_loop(port, list(map(search_target, queries)), num_connections=1)
        return first, again

    first, again = asyncio.run(run())
    new, kept = first.percentile(50), again.percentile(50)
    print(f"repeated    new {new:.2f} ms, again {kept:.3f} ms: {new / kept:.0f} times faster")


def open_loops(port: int, *, capacity: float, seconds: float) -> None:
    """New queries only, which cost the most."""
    for name, fraction in (("70 %", 0.7), ("200 %", 2.0)):
        rate = fraction * capacity
        queries = sentences(8000, seed=int(100 * fraction) + 7)[: int(rate * seconds)]
        targets = [search_target(query) for query in queries]
        outcome = asyncio.run(open_loop(port, targets, rate=rate))
        statuses = {status: len(times) for status, times in sorted(outcome.milliseconds.items())}
        print(
            f"open {name:>6} {rate:6.1f}/s: p50 {outcome.percentile(50):.1f}, "
            f"p99 {outcome.percentile(99):.1f} ms; shed p99 {outcome.percentile(99, 503):.1f} ms; "
            f"{statuses}; generator {100 * outcome.generator_fraction:.0f} % of a core"
        )


def main() -> None:
    options = parse_options(
        __doc__, videos="10000", segments="10", seconds="8", rounds="3", workers="0", folder=""
    )
    with TemporaryDirectory() as temporary:
        folder = Path(options["folder"] or temporary)
        if not Manifest.exists(folder / "index"):
            folder.mkdir(parents=True, exist_ok=True)
            build(folder, num_videos=int(options["videos"]), num_segments=int(options["segments"]))
        ours, peer = free_port(), free_port()
        seconds = float(options["seconds"])
        serve = ("-m", "serving", f"index={folder / 'index'}", f"port={ours}")
        uvicorn = ("-m", "uvicorn", "--factory", "benchmarks.afternoon_service:create_app")
        with (
            service(*serve, f"workers={options['workers']}", port=ours),
            service(
                *uvicorn,
                "--port",
                str(peer),
                "--log-level",
                "warning",
                port=peer,
                AFTERNOON_FOLDER=str(folder),
            ),
            Searcher.open(folder / "index") as searcher,
        ):
            searcher.warm_up()
            overhead(searcher, ours, sentences(240, seed=4))
            rates = throughput(
                {"ours": ours, "afternoon": peer},
                seconds=seconds,
                rounds=int(options["rounds"]),
            )
            repeated(ours)
            open_loops(ours, capacity=rates["new ours"], seconds=seconds)


if __name__ == "__main__":
    main()
