"""From an acknowledged event to another order of results, with real processes on one machine.

    python benchmarks/learning_end_to_end.py [folder=] [rate=2000] [probes=100] [videos=300]
        [warm_up=20] [wait_seconds=0]

Starts `serve` with a worker and its learner on an index of made-up videos of 20 authors, all of
which look like one sentence. Users who watch one author each send `rate` events a second, in
requests of 100. Now and then a new user, a probe, sends what was shown, opened and watched in one
request, and asks for the sentence until the answer has another order than it has for nobody. The
time from the acknowledgement to that answer is measured, in steps of 50 ms, and printed as a line
of JSON with the rate that was reached, and how far the learner was behind.
"""

import json
import sys
import threading
import time
import urllib.request
import uuid
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.serving import free_port, service  # noqa: E402
from reelseek.configs.command_line import load_model_config  # noqa: E402
from reelseek.indexing import IndexReader, IndexSettings  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402

SENTENCE = "a dog on a beach"
NUM_AUTHORS, NUM_USERS, NUM_SHOWN, BATCH = 20, 5000, 8, 100
POLL_SECONDS, GIVE_UP_SECONDS, PROBE_SECONDS = 0.05, 30.0, 0.3


def main() -> None:
    options = parse_options(
        __doc__,
        **{"folder": "", "rate": "2000", "probes": "100", "videos": "300"},
        **{"warm_up": "20", "wait_seconds": "0"},
    )
    with TemporaryDirectory(dir=options["folder"] or None) as parent:
        folder = Path(parent)
        authors = build(folder / "index", num_videos=int(options["videos"]))
        port = free_port()
        command = [
            *("-m", "serving", f"index={folder / 'index'}", f"events={folder / 'events'}"),
            *("workers=1", f"port={port}", "learn=true"),
            f"personal.learner_options=[wait_seconds={options['wait_seconds']}]",
        ]
        with service(*command, port=port):
            load = Load(port, authors, rate=float(options["rate"]))
            load.start()
            time.sleep(float(options["warm_up"]))
            load.reset()
            waits = [probe(port, authors, number) for number in range(int(options["probes"]))]
            rate, status = load.stop(), learning_status(port)
    seconds = np.array([wait for wait in waits if wait is not None])
    quantiles = np.quantile(seconds, (0.5, 0.99)) if len(seconds) else [np.nan, np.nan]
    figures = {
        **{"p50_seconds": round(float(quantiles[0]), 3), "p99_seconds": round(quantiles[1], 3)},
        **{"max_seconds": round(float(seconds.max()), 3) if len(seconds) else None},
        **{"probes": len(waits), "unchanged": len(waits) - len(seconds), "rate": round(rate)},
        **{name: status[name] for name in ("lag_events", "lag_seconds", "rows", "position")},
        "AUC": status["last_hour"].get("AUC"),
    }
    print(json.dumps(figures))


def build(folder: Path, *, num_videos: int, model_name: str = "mini") -> dict[str, str]:
    """Writes the index; returns the author of each video by id."""
    from reelseek.indexing.building.sentences import everyday_embeddings
    from reelseek.text import TextEncoder, Tokenizer
    from reelseek.vision import load_model

    config = load_model_config(model_name)
    model = load_model(config.spec())
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    centre = TextEncoder(model.clip, tokenizer).encode([SENTENCE]).numpy()
    rng, dim = np.random.default_rng(0), model.embedding_dim
    settings = IndexSettings(asdict(config), model.fingerprint, dim, {}, {"kind": "windows"})
    with IndexWriter(folder, settings) as writer:
        for number in range(num_videos):
            row = centre + 0.3 / np.sqrt(dim) * rng.normal(size=centre.shape)
            row = (row / np.linalg.norm(row)).astype(np.float32)
            video = NewVideo(
                key=f"{number}.mp4",
                path=f"/videos/{number}.mp4",
                signature=FileSignature(1, 2, f"sha{number}"),
                outcome="ok",
                duration_seconds=60.0,
                metadata={"author": f"author {number % NUM_AUTHORS}"},
                spans=np.array([[0.0, 60.0]]),
            )
            writer.add(video, np.concatenate([row, row]))
        writer.publish(sentences=lambda: everyday_embeddings(model, torch.device("cpu")))
    reader = IndexReader(folder)
    records = {id: reader.record(id) for id in reader.video_ids()}
    authors = {id: record.metadata["author"] for id, record in records.items() if record}
    reader.close()
    return authors


class Load:
    """Sends events at a rate, in a thread.

    Args:
        authors: of videos, by id.
        rate: events a second.
    """

    def __init__(self, port: int, authors: dict[str, str], *, rate: float) -> None:
        self._port, self._authors, self._rate = port, authors, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._num = 0
        self._since = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def reset(self) -> None:
        """Begins to count the rate."""
        self._num, self._since = 0, time.monotonic()

    def stop(self) -> float:
        """Ends it; returns the events a second that were acknowledged."""
        rate = self._num / (time.monotonic() - self._since)
        self._stop.set()
        self._thread.join()
        return rate

    def _run(self) -> None:
        rng, ids = np.random.default_rng(1), list(self._authors)
        waiting: list[dict[str, Any]] = []
        due = time.monotonic()
        while not self._stop.is_set():
            while len(waiting) < BATCH:
                user = int(rng.integers(NUM_USERS))
                shown = [ids[n] for n in rng.integers(len(ids), size=NUM_SHOWN)]
                waiting += events_of(f"user-{user}", shown, self._authors, user % NUM_AUTHORS)
            batch, waiting = waiting[:BATCH], waiting[BATCH:]
            post(self._port, batch)
            self._num += len(batch)
            due = max(due + BATCH / self._rate, time.monotonic() - 1.0)  # catches up for a second
            self._stop.wait(max(0.0, due - time.monotonic()))


def events_of(
    user: str, shown: list[str], authors: dict[str, str], liked: int
) -> list[dict[str, Any]]:
    """What a user does who watches one author: impressions, and clicks and plays of that author."""
    now, request = time.time(), uuid.uuid4().hex[:12]
    common = {"time_seconds": now, "user": user, "request_id": request, "surface": "search"}
    events: list[dict[str, Any]] = []
    for position, video in enumerate(dict.fromkeys(shown), 1):
        own = {**common, "video": video, "position": position}
        kinds: list[dict[str, Any]] = [{"kind": "impression"}]
        if authors[video] == f"author {liked}":
            kinds += [{"kind": "click"}, {"kind": "play", "watched_seconds": 30.0}]
        events += [{**own, **each, "event_id": uuid.uuid4().hex} for each in kinds]
    return events


def probe(port: int, authors: dict[str, str], number: int) -> float | None:
    """Returns the seconds from the acknowledgement to another order; None where none came."""
    time.sleep(PROBE_SECONDS)
    user, liked = f"probe-{uuid.uuid4().hex}", number % NUM_AUTHORS
    plain = order(port, "")
    own = [id for id in plain if authors[id] == f"author {liked}"]
    others = [id for id in plain if id not in own]
    post(port, events_of(user, [*own[:3], *others[:5]], authors, liked))
    acknowledged = time.monotonic()
    while time.monotonic() < acknowledged + GIVE_UP_SECONDS:
        if order(port, user) != plain:
            return time.monotonic() - acknowledged
        time.sleep(POLL_SECONDS)
    return None


def order(port: int, user: str) -> list[str]:
    query = urlencode({"q": SENTENCE, "k": 100, "user": user, "explain": "false"})
    return [hit["id"] for hit in get(port, f"/api/search?{query}")["hits"]]


def learning_status(port: int) -> dict[str, Any]:
    return get(port, "/api/status")["learning"]


def get(port: int, target: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=30) as answer:
        return json.load(answer)


def post(port: int, events: list[dict[str, Any]]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/events",
        json.dumps({"events": events}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


if __name__ == "__main__":
    main()
