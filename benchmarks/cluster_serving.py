"""A service on a Ray cluster under load: beside one process, with faults, and rolled over.

    python benchmarks/cluster_serving.py [requests=10000] [connections=4] [videos=2000] [shards=2]
                                         [compared=600] [rounds=3] [generations=20]
                                         [max_seconds=600] [parts=beside,slow,away,faults]

Runs three Ray nodes on this machine, with two replicas of each shard and two routers on different
nodes, and HTTP over loopback. The encoder is a stand-in that draws a sentence's embedding from its
letters. All queries are new. Prints lines of JSON:

- beside: requests a second and p50 with one connection and with several, of one process that
  searches itself and of the cluster, by turns;
- slow: p50 and p99 while one replica of a shard takes 500 ms longer, and without that, by turns;
- away: the slowest answer and what it says while both replicas of a shard are stopped;
- faults: the answers to `requests` requests, while replicas of shards, a router and nodes are
  killed and `generations` generations are published; these search pictures only, for at most
  `max_seconds`.

Needs Ray: pip install 'reelseek[cluster]'.
"""

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.http_load import Connection, search_target  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from benchmarks.sharding import DIM, SETTINGS, WORDS, unit  # noqa: E402
from reelseek import Searcher  # noqa: E402
from reelseek.configs.composition import compose  # noqa: E402
from reelseek.configs.schema import ServeConfig  # noqa: E402
from reelseek.indexing.shards.opening import open_writer  # noqa: E402
from reelseek.indexing.store.manifest import FaissOptions  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.serving.cluster.replicas import ShardReplica  # noqa: E402

SLOW_SECONDS = 0.5
NUM_SEGMENTS = 10
_KNOWN_WORDS = WORDS[:14]  # as questions mostly have: titles have them, too
_SHARDS = re.compile(rb'"shards":\{"answered":(\d+),"of":(\d+)\}')


class DrawnEncoder:
    """Draws a sentence's embedding from its letters."""

    fingerprint, embedding_dim = SETTINGS.fingerprint, DIM

    def sentences(self, sentences: Sequence[str]) -> np.ndarray:
        seeds = [list(text.encode()) for text in sentences]
        rows = [np.random.default_rng(seed).standard_normal(DIM, np.float32) for seed in seeds]
        return unit(np.array(rows, np.float32).reshape(-1, DIM))

    def encode(self, part: Any) -> np.ndarray:
        return self.sentences([part])[0]

    def tokens(self, sentences: Sequence[str]) -> list[np.ndarray]:
        raise AssertionError("nothing matches tokens here")


def make_handlers(folder: str) -> dict[str, Callable[[Any], Any]]:
    from reelseek.serving.encoder import handlers

    return handlers(DrawnEncoder())  # type: ignore[arg-type]


class SlowReplica(ShardReplica):
    """Is slow while there is a file with its process's number."""

    async def answer(self, *arguments: Any, attempt_of: str = "") -> Any:
        if (Path(os.environ["REELSEEK_SLOW"]) / str(os.getpid())).exists():
            await asyncio.sleep(SLOW_SECONDS)
        return await super().answer(*arguments, attempt_of=attempt_of)


def videos(numbers: Sequence[int]) -> Iterator[tuple[NewVideo, np.ndarray]]:
    starts = 4.0 * np.arange(NUM_SEGMENTS)
    for number in numbers:
        rng = np.random.default_rng(number)
        rows = rng.standard_normal((1 + NUM_SEGMENTS, DIM), dtype=np.float32)
        yield (
            NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=4.0 * NUM_SEGMENTS,
                metadata={"title": " ".join(rng.choice(WORDS, size=4))},
                spans=np.stack([starts, starts + 4.0], axis=1),
            ),
            unit(rows),
        )


def publish(folder: Path, numbers: Sequence[int], *, num_shards: int | None = None) -> None:
    sentences = unit(np.random.default_rng(0).standard_normal((64, DIM), dtype=np.float32))
    with open_writer(folder, SETTINGS, num_shards=num_shards) as writer:
        for video, rows in videos(numbers):
            writer.add(video, rows)
        writer.publish(FaissOptions(kind="flat"), sentences=lambda: sentences)


def run_http(config: ServeConfig, port: int, app: Any) -> None:
    """An HTTP worker: with an application on Ray, or one process that searches itself."""
    import uvicorn

    from reelseek.serving.admission import Admission
    from reelseek.serving.app import create_app
    from reelseek.serving.channel import Client
    from reelseek.serving.services import Services

    admission = Admission(num_running=config.threads, max_waiting=256, max_wait_seconds=60)
    services = Services(config=config, admission=admission, encoder=Client(Path("none")))
    if app is None:
        searcher = Searcher.open(str(config.index), encoder=DrawnEncoder(), refresh="manual")
        searcher.warm_up()
        refresh = searcher.refresh
    else:
        from reelseek.serving.cluster.front import Front

        front = Front.connect(app, config, encoder=DrawnEncoder())  # type: ignore[arg-type]
        services.search, searcher, refresh = front.search, front.searcher, front.refresh
    services.set_searcher(searcher)

    def follow() -> None:
        while True:
            time.sleep(0.5)
            refresh()

    threading.Thread(target=follow, daemon=True).start()
    uvicorn.run(create_app(services), port=port, log_level="warning", access_log=False)


@contextmanager
def http_worker(config: ServeConfig, app: Any = None) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = get_context("spawn").Process(target=run_http, args=(config, port, app))
    process.start()
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.is_alive() and time.monotonic() < deadline, "no HTTP worker"
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.join()


@dataclass
class Load:
    """What a run of requests came to."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)  # what was said in place of an answer
    wall_seconds: float = 0.0

    @property
    def summary(self) -> dict[str, Any]:
        ms = 1000 * np.array(self.seconds)
        return {
            "requests": len(ms),
            "statuses": dict(self.statuses),
            "shards": dict(self.shards),
            **({"refusals": dict(self.refusals)} if self.refusals else {}),
            "per_second": round(len(ms) / self.wall_seconds, 1),
            **{f"p{each}_ms": round(float(np.percentile(ms, each)), 1) for each in (50, 95, 99)},
            "max_ms": round(float(ms.max()), 1),
        }


_QUESTIONS = itertools.count()


def new_target(sources: str) -> str:
    """A question that nobody has asked, so that nothing is answered from what was kept."""
    number, words = next(_QUESTIONS), []
    for _ in range(5):
        number, word = divmod(number, len(_KNOWN_WORDS))
        words.append(_KNOWN_WORDS[word])
    return search_target(" ".join(words), analyze=False, sources=sources)


def load(
    port: int,
    num: int,
    *,
    connections: int,
    sources: str = "visual,lexical",
    max_seconds: float = 600.0,
    done: Load | None = None,
) -> Load:
    """Each connection asks again as soon as it has its answer.

    Args:
        max_seconds: after which nothing more is asked.
        done: what was done so far is to be seen there.
    """
    done = done or Load()
    deadline = time.monotonic() + max_seconds
    left = itertools.takewhile(lambda _: time.monotonic() < deadline, range(num))

    async def ask() -> None:
        connection = Connection("127.0.0.1", port)
        for _ in left:
            started = time.perf_counter()
            try:
                status, body = await connection.get(new_target(sources))
            except (OSError, EOFError):
                status, body = 0, b""
            done.seconds.append(time.perf_counter() - started)
            done.statuses[status] += 1
            if status != 200:
                done.refusals[body.decode(errors="replace")[:200]] += 1
            if found := _SHARDS.search(body):
                done.shards[f"{int(found[1])} of {int(found[2])}"] += 1
        connection.close()

    async def run() -> None:
        await asyncio.gather(*(ask() for _ in range(connections)))

    started = time.perf_counter()
    asyncio.run(run())
    done.wall_seconds = time.perf_counter() - started
    return done


def say(what: str, **values: Any) -> None:
    print(json.dumps({"what": what, **values}), flush=True)


def beside(ports: dict[str, int], *, num: int, connections: int, rounds: int) -> None:
    for count in (1, connections):
        loads: dict[str, list[Load]] = {name: [] for name in ports}
        for _ in range(rounds):
            for name, port in ports.items():
                loads[name].append(load(port, num // rounds, connections=count))
        for name, runs in loads.items():
            rates = sorted(len(each.seconds) / each.wall_seconds for each in runs)
            p50 = float(np.percentile([s for each in runs for s in each.seconds], 50))
            say(
                "beside",
                service=name,
                connections=count,
                per_second=round(float(np.median(rates)), 1),
                spread=[round(rates[0], 1), round(rates[-1], 1)],
                p50_ms=round(1000 * p50, 1),
            )


def replicas(name: str) -> list[Any]:
    """The processes of the replicas of a deployment, of the cluster that this process started."""
    from tests.indexing.cluster.conftest import processes

    return [each for each in processes("ServeReplica") if name in " ".join(each.cmdline())]


def slow(port: int, folder: Path, *, num: int, connections: int, rounds: int) -> None:
    loads: dict[str, list[float]] = {"no fault": [], "one replica slow": []}
    victim = folder / str(replicas("shards-0000")[0].pid)
    for _ in range(rounds):
        loads["no fault"] += load(port, num // rounds, connections=connections).seconds
        victim.touch()
        loads["one replica slow"] += load(port, num // rounds, connections=connections).seconds
        victim.unlink()
        time.sleep(1)
    p99 = {name: float(np.percentile(seconds, 99)) for name, seconds in loads.items()}
    for name, seconds in loads.items():
        p50 = float(np.percentile(seconds, 50))
        say("slow", fault=name, p50_ms=round(1000 * p50, 1), p99_ms=round(1000 * p99[name], 1))
    say("slow", p99_ratio=round(p99["one replica slow"] / p99["no fault"], 2))


def away(port: int, *, num: int, connections: int) -> None:
    stopped = replicas("shards-0000")
    for process in stopped:
        process.suspend()
    try:
        say("away", stopped=len(stopped), **load(port, num, connections=connections).summary)
    finally:
        for process in stopped:
            process.resume()
    time.sleep(3)
    say("back", **load(port, num, connections=connections).summary)


def faults(
    port: int,
    nodes: Any,
    index: Path,
    *,
    num: int,
    connections: int,
    generations: int,
    max_seconds: float,
) -> None:
    """Spreads kills and publications over the requests."""
    done, finished = Load(), threading.Event()
    did: Counter[str] = Counter()
    first = 1_000_000

    def kill(name: str) -> None:
        for victim in replicas(name)[:1]:
            os.kill(victim.pid, signal.SIGKILL)
            did[f"killed {name}"] += 1

    def kill_node() -> None:
        nodes.kill_node()
        did["killed a node"] += 1
        nodes.add_node()

    kinds = (partial(kill, "shards-0000"), partial(kill, "router"), kill_node)

    def disturb() -> None:
        for number in range(generations):
            while len(done.seconds) < (number + 0.5) * num / generations:
                if finished.wait(0.05):
                    return
            publish(index, range(first + 5 * number, first + 5 * number + 5))
            did["published"] += 1
            if number % 3 == 0:
                kinds[number // 3 % len(kinds)]()

    def ask() -> None:
        load(
            port,
            num,
            connections=connections,
            sources="visual",
            max_seconds=max_seconds,
            done=done,
        )
        finished.set()

    thread = threading.Thread(target=ask)
    thread.start()
    disturb()  # in the main thread: Ray sets signal handlers when it starts a node
    thread.join()
    say("faults", did=dict(did), **done.summary)


def main() -> None:
    options = parse_options(
        __doc__,
        **{"requests": "10000", "connections": "4", "videos": "2000", "shards": "2"},
        **{"compared": "600", "rounds": "3", "generations": "20"},
        **{"max_seconds": "600", "parts": "beside,slow,away,faults"},
    )
    num, connections = int(options["compared"]), int(options["connections"])
    rounds, parts = int(options["rounds"]), options["parts"].split(",")
    with tempfile.TemporaryDirectory() as name:
        folder, index = Path(name), Path(name) / "index"
        publish(index, range(int(options["videos"])), num_shards=int(options["shards"]))
        slow_folder = folder / "slow"
        slow_folder.mkdir()
        os.environ["REELSEEK_SLOW"] = str(slow_folder)
        from reelseek.serving.cluster.deploying import application
        from tests.indexing.cluster.conftest import SmallCluster

        nodes = SmallCluster(3, num_cpus=4)
        config = compose(
            ServeConfig,
            [
                *(f"index={index}", "engine=ray", f"ray.address={nodes.address}", "threads=8"),
                "ray.cores_per_replica=0.1",
            ],
        )
        alone = compose(ServeConfig, [f"index={index}", "threads=2"])
        with (
            closing(nodes),
            application(
                config, str(index), make_handlers=make_handlers, shard_class=SlowReplica
            ) as app,
            http_worker(config, app) as port,
        ):
            load(port, 60, connections=connections)  # latencies are known from here on
            if "beside" in parts:
                with http_worker(alone) as other:
                    load(other, 50, connections=1)
                    ports = {"one process": other, "cluster": port}
                    beside(ports, num=num, connections=connections, rounds=rounds)
            if "slow" in parts:
                slow(port, slow_folder, num=num, connections=connections, rounds=rounds)
            if "away" in parts:
                away(port, num=num // 4, connections=connections)
            if "faults" in parts:
                faults(
                    port,
                    nodes,
                    index,
                    num=int(options["requests"]),
                    connections=connections,
                    generations=int(options["generations"]),
                    max_seconds=float(options["max_seconds"]),
                )


if __name__ == "__main__":
    main()
