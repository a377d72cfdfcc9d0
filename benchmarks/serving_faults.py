"""The service while things break: searches behind HAProxy, and what became of each of them.

    python benchmarks/serving_faults.py [requests=10000] [videos=2000] [faults=] [rate=120]

Two services of one index stand behind `serving/haproxy.cfg`. For each fault, so many searches come
by a Poisson process while it happens: workers are killed (`kill -9`), ten generations published,
videos are deleted, the disk for thumbnails and events is full, decoders hang (SIGSTOP). Counts
searches that failed or were torn, hits of deleted videos, and events that were acknowledged and
lost. Needs haproxy; a full disk needs the right to mount a tmpfs.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numpy as np
import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.http_load import Connection, search_target  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from benchmarks.serving import free_port, sentences, service  # noqa: E402
from reelseek.recommendation.events.log import EventLog  # noqa: E402

TOKEN = "benchmark-token-of-40-letters-0123456789"
DELETED = 40
_EVENT = {"kind": "click", "session": "s", "video": "v", "time_seconds": 1.7e9}


def build(folder: Path, *, num_videos: int) -> None:
    """An index of random segments in the space of `mini`, of a few real files."""
    from dataclasses import asdict

    from reelseek.configs.command_line import load_model_config
    from reelseek.indexing import IndexSettings
    from reelseek.indexing.building.sentences import everyday_embeddings
    from reelseek.indexing.writer import IndexWriter
    from reelseek.vision import load_model

    config = load_model_config("mini")
    model = load_model(config.spec())
    settings = IndexSettings(
        asdict(config), model.fingerprint, model.embedding_dim, {}, {"kind": "windows"}
    )
    files = [_write_file(folder / f"{number}.mp4", number) for number in range(8)]
    with IndexWriter(folder / "index", settings) as writer:
        for number in range(num_videos):
            _add(writer, number, files[number % len(files)], model.embedding_dim)
        writer.publish(sentences=lambda: everyday_embeddings(model, torch.device("cpu")))


def _add(writer: Any, number: int, file: Path, dim: int) -> None:
    from reelseek.indexing.store.videos import FileSignature, NewVideo

    rng = np.random.default_rng(number)
    rows = rng.normal(size=(5, dim))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    whole = rows.mean(axis=0, keepdims=True)
    state = file.stat()
    starts = 2.0 * np.arange(5)
    video = NewVideo(
        key=f"{number}.mp4",
        path=str(file),
        signature=FileSignature(
            state.st_size, state.st_mtime_ns, sha256(f"{number}".encode()).hexdigest()
        ),
        outcome="ok",
        duration_seconds=10.0,
        metadata={"title": sentences(2000, seed=1)[number % 2000]},
        spans=np.stack([starts, starts + 2.0], axis=1),
    )
    writer.add(video, np.concatenate([whole / np.linalg.norm(whole), rows]).astype(np.float32))


def _write_file(path: Path, number: int) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for frame in range(100):
            pixels = np.full((240, 320, 3), (number * 30, frame * 2, 128), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@contextmanager
def proxy(folder: Path, ports: list[int]) -> Iterator[int]:
    """HAProxy with the project's configuration, on ports that are free."""
    port = free_port()
    text = (ROOT / "serving" / "haproxy.cfg").read_text()
    for shipped, chosen in zip(("8080", "8001", "8002"), (port, *ports), strict=True):
        text = text.replace(f":{shipped}", f":{chosen}")
    (folder / "haproxy.cfg").write_text(text)
    process = subprocess.Popen(
        ["haproxy", "-f", str(folder / "haproxy.cfg")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(3)  # for its checks
        yield port
    finally:
        process.terminate()
        process.wait()


async def searches(port: int, num: int, *, rate: float, on_answer: Callable) -> dict[str, int]:
    """Asks by a Poisson process; counts what became of the requests."""
    texts = sentences(300, seed=5)
    weights = 1 / np.arange(1, len(texts) + 1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(texts), num, p=weights / weights.sum())
    due = np.cumsum(rng.exponential(1 / rate, num))
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(256):
        idle.put_nowait(Connection("127.0.0.1", port))
    outcomes: dict[str, int] = {}

    async def ask(number: int) -> None:
        connection = await idle.get()
        started = time.monotonic()
        try:
            # Some are new, so that the encoder takes part.
            text = texts[chosen[number]] + (f" {number}" if number % 4 == 0 else "")
            status, body = await connection.get(search_target(text))
            outcome = str(status)
            if status == 200:
                on_answer(json.loads(body), started)
        except json.JSONDecodeError:
            outcome = "torn"
        except (OSError, EOFError) as error:
            outcome = type(error).__name__
        finally:
            idle.put_nowait(connection)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    start, tasks = time.perf_counter(), []
    for number, offset in enumerate(due.tolist()):
        pause = start + offset - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        tasks.append(asyncio.create_task(ask(number)))
    await asyncio.gather(*tasks)
    return outcomes


class Bench:
    """What the faults need to know.

    Attributes:
        stop: set when the searches of a fault are over.
        notes: lines to print after them.
    """

    def __init__(self, folder: Path, port: int, services: list[int], disk: Path) -> None:
        self.folder, self.port, self.services, self.disk = folder, port, services, disk
        self.stop = Event()
        self.notes: list[str] = []
        self.deleted: dict[str, float] = {}
        self.ghosts = 0

    def processes(self, name: str) -> list[psutil.Process]:
        """Children of the services, by what their command line or name tells."""
        me = psutil.Process()
        found = []
        for process in me.children(recursive=True):
            try:
                if name in process.name() or name in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{target}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {TOKEN}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:  # no answer within a minute
            return 0, b""

    def on_answer(self, answer: dict[str, Any], started: float) -> None:
        for hit in answer["hits"]:
            if self.deleted.get(hit["id"], float("inf")) < started:
                self.ghosts += 1


def kill_workers(bench: Bench) -> None:
    """Kills a worker every ten seconds, by turns of the services."""
    killed = 0
    while not bench.stop.wait(10):
        workers = worker_pids(bench.services[killed % len(bench.services)])
        if workers:
            os.kill(workers[0], signal.SIGKILL)
            killed += 1
    bench.notes.append(f"{killed} workers killed")


def worker_pids(port: int) -> list[int]:
    """Processes that listen on a service's port, but its supervisor."""
    found = []
    for connection in psutil.net_connections("tcp"):
        if connection.status == "LISTEN" and connection.laddr.port == port and connection.pid:
            found.append(connection.pid)
    return [pid for pid in found if "spawn_main" in " ".join(psutil.Process(pid).cmdline())]


def publish_generations(bench: Bench) -> None:
    from reelseek.indexing.writer import IndexWriter

    for number in range(10):
        if bench.stop.wait(3):
            break
        with IndexWriter(bench.folder / "index") as writer:
            dim = writer.manifest.settings.embedding_dim
            _add(writer, 100_000 + number, bench.folder / "0.mp4", dim)
            manifest = writer.publish()
        bench.notes[:] = [f"{number + 1} generations published, the last is {manifest.generation}"]


def delete_videos(bench: Bench) -> None:
    status, body = bench.ask("GET", search_target(sentences(1, seed=5)[0], k=DELETED))
    assert status == 200, body
    ids = [hit["id"] for hit in json.loads(body)["hits"]]
    statuses: dict[int, int] = {}
    for id in ids:
        if bench.stop.wait(1):
            break
        status, _ = bench.ask("DELETE", f"/api/videos/{id}")
        statuses[status] = statuses.get(status, 0) + 1
        if status == 200:
            bench.deleted[id] = time.monotonic()
    bench.notes.append(f"deletions by status: {statuses}; hits of a deleted video: {bench.ghosts}")


def fill_disk(bench: Bench) -> None:
    """Events and thumbnails while nothing can be written; then the log is read."""
    filler = bench.disk / "filler"
    acknowledged: set[str] = set()
    statuses: dict[int, int] = {}
    pictures: dict[int, int] = {}
    with filler.open("wb") as file:
        for number in range(100_000):
            if bench.stop.wait(0.05):
                break
            if number == 40:  # until here there was room
                try:
                    while True:
                        file.write(bytes(1 << 16))
                        file.flush()
                except OSError:
                    pass
            name = f"event-{number:08d}"
            event = {**_EVENT, "event_id": name}
            status, _ = bench.ask("POST", "/api/events", {"events": [event]})
            statuses[status] = statuses.get(status, 0) + 1
            if status == 200:
                acknowledged.add(name)
            if number % 5 == 0:
                status, body = bench.ask("GET", search_target("a dog", k=1))
                if status == 200:
                    id = json.loads(body)["hits"][0]["id"]
                    target = f"/api/videos/{id}/thumbnail?at={number % 90 / 9:.1f}"
                    status, _ = bench.ask("GET", target)
                pictures[status] = pictures.get(status, 0) + 1
    filler.unlink()
    log = EventLog(bench.disk / "events")
    kept = {logged.event.event_id for logged in log.read(limit=1_000_000)}
    log.close()
    bench.notes.append(
        f"events by status: {statuses}; acknowledged and lost: {len(acknowledged - kept)}; "
        f"thumbnails by status: {pictures}"
    )


def hang_decoders(bench: Bench) -> None:
    """Stops the processes that cut thumbnails again and again, and asks for some meanwhile."""
    statuses: dict[int, int] = {}
    stopped = 0
    while not bench.stop.wait(1):
        for process in bench.processes("forkserver"):
            for worker in process.children():
                worker.suspend()
                stopped += 1
        Thread(target=_ask_for_thumbnail, args=(bench, statuses), daemon=True).start()
    bench.notes.append(f"{stopped} times a decoder hung; thumbnails by status: {statuses}")


def _ask_for_thumbnail(bench: Bench, statuses: dict[int, int]) -> None:
    status, body = bench.ask("GET", search_target("a bird", k=5))
    for hit in json.loads(body)["hits"] if status == 200 else ():
        second = time.time() % 10
        status, _ = bench.ask("GET", f"/api/videos/{hit['id']}/thumbnail?at={second:.3f}")
        statuses[status] = statuses.get(status, 0) + 1


FAULTS = {
    "kill": kill_workers,
    "generations": publish_generations,
    "deletion": delete_videos,
    "disk": fill_disk,
    "decoder": hang_decoders,
}


def main() -> None:
    options = parse_options(
        __doc__, requests="10000", videos="2000", faults=",".join(FAULTS), rate="120"
    )
    with TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        build(folder, num_videos=int(options["videos"]))
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
        ports = [free_port(), free_port()]
        for port in ports:
            stack.enter_context(
                service(
                    *("-m", "serving", f"index={folder / 'index'}", f"port={port}", "workers=2"),
                    *(
                        f"write_token={TOKEN}",
                        f"events={disk / 'events'}",
                        f"cache={disk / 'cache'}",
                    ),
                    port=port,
                )
            )
        port = stack.enter_context(proxy(folder, ports))
        for name in options["faults"].split(","):
            bench = Bench(folder, port, ports, disk)
            fault = Thread(target=FAULTS[name], args=(bench,))
            fault.start()
            outcomes = asyncio.run(
                searches(
                    port,
                    int(options["requests"]),
                    rate=float(options["rate"]),
                    on_answer=bench.on_answer,
                )
            )
            bench.stop.set()
            fault.join()
            print(f"{name:>12}: searches {outcomes}; {'; '.join(bench.notes)}", flush=True)


if __name__ == "__main__":
    if shutil.which("haproxy") is None:
        sys.exit("haproxy is not installed")
    main()
