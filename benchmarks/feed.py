"""How long the feed and related videos take, and whether anything seen is shown again.

    python benchmarks/feed.py folder=DIR [items=20000] [users=2000] [requests=3000] [answers=100000]
    python benchmarks/feed.py folder=DIR items=1000000 generated=true [answers=0]

Makes videos of some topics and users who mostly watch one topic. With `generated=false` the videos
are an index in FOLDER and the requests go through the whole application, without sockets: the log
is looked at, records are read, JSON is written. With `generated=true` embeddings and arrays stand
in for an index, FAISS is asked all the same, and only what chooses the videos is timed. Times are
medians and 99th percentiles, in milliseconds of wall-clock and of the process's CPU. Then `answers`
feeds are asked for by users who watch what they are given, and what had been seen is counted.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.composition import compose  # noqa: E402
from reelseek.configs.schema import ServeConfig  # noqa: E402
from reelseek.indexing import IndexReader, IndexSettings  # noqa: E402
from reelseek.indexing.store.videos import FileSignature, NewVideo  # noqa: E402
from reelseek.indexing.writer import IndexWriter  # noqa: E402
from reelseek.recommendation.als import AlsSettings  # noqa: E402
from reelseek.recommendation.catalogue import ItemCatalogue  # noqa: E402
from reelseek.recommendation.content import Content, IndexContent  # noqa: E402
from reelseek.recommendation.events.log import EventLog  # noqa: E402
from reelseek.recommendation.events.rows import LoggedEvent  # noqa: E402
from reelseek.recommendation.events.schema import Click  # noqa: E402
from reelseek.recommendation.feed.candidates import (  # noqa: E402
    FactorSource,
    SequenceSource,
    Source,
)
from reelseek.recommendation.feed.factors import ItemFactors  # noqa: E402
from reelseek.recommendation.feed.feed import Feed  # noqa: E402
from reelseek.recommendation.feed.personal import PersonalView  # noqa: E402
from reelseek.recommendation.live.state import LogState  # noqa: E402
from reelseek.recommendation.models import folder as models  # noqa: E402
from reelseek.recommendation.models.building import BuildSettings, build  # noqa: E402
from reelseek.recommendation.nearest_items import (  # noqa: E402
    NearestItems,
    make_cells,
    needs_cells,
)
from reelseek.recommendation.related.finder import RelatedFinder  # noqa: E402
from reelseek.recommendation.related.texts import TextVectors  # noqa: E402

DIM, NUM_TOPICS, PER_USER = 128, 200, 50
SETTINGS = IndexSettings(
    model={"name": "generated"},
    fingerprint="9" * 32,
    embedding_dim=DIM,
    sampling={},
    segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 0.0},
)
NOW = time.time()


def embeddings_of(num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`(num,)` topics and `(num, DIM)` float32, L2-normalised."""
    centres = rng.normal(size=(NUM_TOPICS, DIM)).astype(np.float32)
    topics = rng.integers(NUM_TOPICS, size=num)
    rows = centres[topics]
    rows += rng.standard_normal(size=(num, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return topics, rows


def write_index(folder: Path, topics: np.ndarray, rows: np.ndarray) -> None:
    """One segment and one frame of each video, which has a title, tags and an author."""
    with IndexWriter(folder, SETTINGS) as writer:
        for number, (topic, row) in enumerate(zip(topics.tolist(), rows, strict=True)):
            metadata = {
                "title": f"about{topic} word{number % 997} thing{number % 613}",
                "tags": [f"topic{topic}"],
                "author": f"author{number % 3000}",
                "date": f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}",
            }
            writer.add(
                NewVideo(
                    f"{number}.mp4",
                    f"/videos/{number}.mp4",
                    FileSignature(10, 20, f"sha of {number}"),
                    "ok",
                    decoder="pyav",
                    num_frames=1,
                    duration_seconds=4.0,
                    spans=np.array([[0.0, 4.0]]),
                    frame_times=np.array([2.0]),
                    metadata=metadata,
                ),
                np.stack([row, row, row]),
            )
        writer.publish()


class GeneratedContent:
    """Embeddings in memory, found by an inverted file."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows, self._nearest = rows.astype(np.float16), NearestItems(rows, make_cells(rows))
        self.baseline = 0.0

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        return self._rows[rows].astype(np.float32)

    def nearest(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        (scores,), (found,) = self._nearest.search(self._rows[row : row + 1], k + 1)
        return found[found != row][:k], scores[found != row][:k]


def generated_catalogue(num: int, rng: np.random.Generator) -> ItemCatalogue:
    ids = tuple(f"video{number:07d}" for number in range(num))
    nothing: frozenset[int] = frozenset()
    return ItemCatalogue(
        ids,
        {each: row for row, each in enumerate(ids)},
        (),
        np.zeros(num, np.int16),
        np.arange(num),
        np.arange(num),
        rng.integers(num // 7 + 1, size=num).astype(np.int32),
        (nothing,) * num,
        NOW - rng.exponential(200 * 86400, size=num),
        TextVectors.of([[]] * num),
    )


def events_of(
    ids: list[str], topics: np.ndarray, num_users: int, rng: np.random.Generator
) -> list[Click]:
    """Clicks of all users over a month: four of five in the user's topic, the popular ones most."""
    by_topic = [np.flatnonzero(topics == topic) for topic in range(NUM_TOPICS)]
    found: list[Click] = []
    for user in range(num_users):
        own = by_topic[int(rng.integers(NUM_TOPICS))]
        for _ in range(PER_USER):
            pool = own if len(own) and rng.random() < 0.8 else np.arange(len(ids))
            item = pool[int(len(pool) * rng.random() ** 2)]
            age = rng.random() * 30 * 86400
            found.append(
                Click(
                    event_id=f"{user}-{len(found)}",
                    time_seconds=NOW - age,
                    user=f"user{user}",
                    video=ids[item],
                )
            )
    return found


def times_of(run: Callable[[int], Any], num: int) -> dict[str, float]:
    """Milliseconds of calls one after the other."""
    wall, cpu = [], []
    for index in range(num):
        before, used = time.perf_counter(), time.process_time()
        run(index)
        wall.append(1000 * (time.perf_counter() - before))
        cpu.append(1000 * (time.process_time() - used))
    return {
        **{"p50_ms": round(float(np.percentile(wall, 50)), 2)},
        **{"p99_ms": round(float(np.percentile(wall, 99)), 2)},
        **{"cpu_p50_ms": round(float(np.percentile(cpu, 50)), 2)},
        **{"cpu_p99_ms": round(float(np.percentile(cpu, 99)), 2)},
    }


def asker(app: Any) -> Callable[[str], Awaitable[dict[str, Any]]]:
    """Calls an ASGI application with a target; returns the JSON of its answer."""

    async def ask(target: str) -> dict[str, Any]:
        path, _, query = target.partition("?")
        scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1"},
            **{"method": "GET", "scheme": "http", "path": path, "raw_path": path.encode()},
            **{"query_string": query.encode(), "headers": [(b"host", b"127.0.0.1")]},
            **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": ""},
        }
        body = b""
        status = 0

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            nonlocal body, status
            status = message.get("status", status)
            body += message.get("body", b"")

        await app(scope, receive, send)
        assert status == 200, (status, body)
        return json.loads(body)

    return ask


def measure_service(folder: Path, log: EventLog, ids: list[str], num: int, users: int) -> None:
    """Times the application; its first request waits until everything is read."""
    from reelseek.ranking.searcher import Searcher
    from reelseek.serving.admission import Admission
    from reelseek.serving.app import create_app
    from reelseek.serving.channel import Client
    from reelseek.serving.services import Services

    class NoEncoder:
        """Nothing is searched for in words here."""

        fingerprint = SETTINGS.fingerprint

        def encode(self, part: Any) -> Any:
            raise AssertionError

        sentences = tokens = encode

    config = compose(ServeConfig, [f"index={folder / 'index'}", f"events={folder / 'events'}"])
    services = Services(
        config=config,
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60.0),
        encoder=Client(folder / "none"),
        events=log,
    )
    services.set_searcher(
        Searcher(IndexReader(folder / "index", auto_refresh=False), encoder=NoEncoder())
    )
    app = create_app(services)
    assert services.recommendations is not None
    services.recommendations.start()
    view = services.recommendations.view(wait_seconds=600)
    assert view is not None
    draws = np.random.default_rng(1)
    ask = asker(app)

    def run(target: Callable[[int], str]) -> dict[str, float]:
        async def all_of_them() -> dict[str, float]:
            wall, cpu = [], []
            for index in range(num):
                before, used = time.perf_counter(), time.process_time()
                await ask(target(index))
                wall.append(1000 * (time.perf_counter() - before))
                cpu.append(1000 * (time.process_time() - used))
            names = {"p50_ms": (wall, 50), "p99_ms": (wall, 99)}
            names |= {"cpu_p50_ms": (cpu, 50), "cpu_p99_ms": (cpu, 99)}
            return {
                name: round(float(np.percentile(values, percent)), 2)
                for name, (values, percent) in names.items()
            }

        return asyncio.run(all_of_them())

    def user_target(_: int) -> str:
        return f"/api/for-you?user=user{draws.integers(users + users // 10)}&k=20"

    def video_target(_: int) -> str:
        return f"/api/videos/{ids[draws.integers(len(ids))]}/related?k=10"

    print(json.dumps({"what": "for-you", "model": view.version, **run(user_target)}))
    print(json.dumps({"what": "related", "model": view.version, **run(video_target)}))
    services.recommendations.close()


def count_seen(feed: Feed, view: PersonalView, *, answers: int, users: int) -> dict[str, float]:
    """Asks for feeds of users who watch what they are given; counts what they had seen."""
    draws = np.random.default_rng(2)
    catalogue_ids = feed.catalogue.ids
    state = view.state
    num_seen = num_shown = 0
    for number in range(answers):
        if number % 10_000 == 0:
            print(f"{number} answers, {num_seen} seen videos in them", file=sys.stderr, flush=True)
        user = f"user{draws.integers(users)}"
        taste, seen = view.user(user, now_seconds=NOW)
        found = feed.answer(taste, seen, 10, now_seconds=NOW, rng=draws)
        history = state.history(user)
        known = set() if history is None else set(history.watched)
        shown = [catalogue_ids[each.row] for each in found]
        num_seen += sum(each in known for each in shown)
        num_shown += len(shown)
        if shown:
            click = Click(
                event_id=f"seen-{number}",
                time_seconds=NOW,
                user=user,
                video=shown[number % len(shown)],
            )
            state.apply([LoggedEvent(state.position + 1, NOW, click)])
    return {"answers": answers, "shown": num_shown, "seen_shown": num_seen}


def main() -> None:
    options = parse_options(
        __doc__,
        folder=None,
        items="20000",
        users="2000",
        requests="3000",
        answers="100000",
        generated="false",
    )
    folder, num = Path(options["folder"]), int(options["items"])
    users, requests = int(options["users"]), int(options["requests"])
    rng = np.random.default_rng(0)
    topics, rows = embeddings_of(num, rng)
    content: Content
    if options["generated"] == "true":
        catalogue = generated_catalogue(num, rng)
        content = GeneratedContent(rows)
        ids = list(catalogue.ids)
    else:
        if not (folder / "index").exists():
            write_index(folder / "index", topics, rows)
        reader = IndexReader(folder / "index")
        by_key = {name: each[0] for name, each in reader.ids_by_name().items() if "." in name}
        ids = [by_key[f"{number}.mp4"] for number in range(num)]
        catalogue = ItemCatalogue.of(reader)
        content = IndexContent(catalogue)
    clicks = events_of(ids, topics, users, rng)
    log = EventLog(folder / "events")
    if not log.bounds()[1]:
        for first in range(0, len(clicks), 5000):
            log.append(clicks[first : first + 5000])
    started = time.process_time()
    learned = build(
        log,
        catalogue.row_by_id,
        content,
        BuildSettings(factors=AlsSettings(), sequential={}),
        fingerprint=SETTINGS.fingerprint,
        progress=lambda fraction, text: None,
    )
    print(json.dumps({"what": "build", "cpu_seconds": round(time.process_time() - started, 1)}))
    if options["generated"] == "false":
        models.write(models.default_folder(folder / "events"), learned)
        measure_service(folder, log, ids, requests, users)
    factors = learned.factors
    if options["generated"] == "true":  # as if somebody had watched every video
        draws = rng.normal(size=(num, 32)).astype(np.float32)
        factors = ItemFactors(draws, AlsSettings(), cells=make_cells(draws))
    assert factors is not None and learned.sequential is not None
    names = ids if options["generated"] == "true" else list(learned.table.ids)
    state = LogState()
    state.apply(log.read(limit=len(clicks) + 1))
    state.count_from(learned.table)
    view = PersonalView(state, catalogue)
    vectors = learned.sequential.item_vectors()
    cells = make_cells(vectors) if needs_cells(len(vectors)) else None
    sources: dict[str, Source] = {
        "factors": FactorSource(factors, names, catalogue),
        "sequence": SequenceSource(learned.sequential, catalogue, cells),
    }
    feed = Feed(catalogue, content, sources=sources)
    finder = RelatedFinder(catalogue, content)
    draws_of = np.random.default_rng(3)

    def one_feed(_: int) -> None:
        user = f"user{draws_of.integers(users + users // 10)}"
        taste, seen = view.user(user, now_seconds=NOW)
        feed.answer(taste, seen, 20, now_seconds=NOW, rng=draws_of)

    def one_related(_: int) -> None:
        row = int(draws_of.integers(num))
        together = view.together(catalogue.ids[row], now_seconds=NOW)
        finder.find(row, 10, together=together)

    one_feed(0)
    print(json.dumps({"what": "choosing a feed", "items": num, **times_of(one_feed, requests)}))
    print(json.dumps({"what": "choosing related", "items": num, **times_of(one_related, requests)}))
    if int(options["answers"]):
        print(json.dumps(count_seen(feed, view, answers=int(options["answers"]), users=users)))
    log.close()


if __name__ == "__main__":
    main()
