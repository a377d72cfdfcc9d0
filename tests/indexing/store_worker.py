"""A process that changes an index at random and tells what it has done, for others to kill it.

    python -m tests.indexing.store_worker work INDEX LOG SEED NUM  # that many operations
    python -m tests.indexing.store_worker read INDEX LOG SEED STOP  # searches until STOP is there
    python -m tests.indexing.store_worker serve  # forks one `work` for each line of its input

What a video is made of follows from a text, its content's name, which stands in its metadata, so
that a checker can work out every embedding and span of a hit. The log has a line for each operation
that was begun and, flushed, one for each that has returned: see `Line`.
"""

import itertools
import json
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from reelseek.indexing import writer
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.store.manifest import FaissOptions, IndexSettings
from reelseek.indexing.store.videos import FileSignature, NewVideo, VideoRecord
from reelseek.indexing.vectors import builder
from reelseek.indexing.vectors import tuning as faiss_tuning
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.moments import merge_moments
from tests.indexing.searching import search, search_words

DIM = 16
KINDS = ("IVF4,SQ8", "HNSW8,SQ8", "IVF8,SQ8")
ALL = 1_000_000  # hits asked for, to get all there are

# A key's content and the number of the operation that gave it this; None where it is not there.
State = tuple[str, int] | None


def settings() -> IndexSettings:
    return IndexSettings(
        model={"name": "random"}, fingerprint="f", embedding_dim=DIM, sampling={}, segments={}
    )


class Line(NamedTuple):
    """A line of a log.

    Attributes:
        phase: `try` before the operation, `done` when it has returned.
        operation: `open`, `add`, `duplicate`, `delete`, `update`, `rename`, `save`, `publish`,
            `compact` or `close`.
        changes: what it makes of which keys.
        at_ns: of `time.monotonic_ns`, which is the same in all processes.
    """

    phase: str
    operation: str
    changes: dict[str, State]
    at_ns: int

    @classmethod
    def parse(cls, text: str) -> "Line":
        phase, operation, changes, at_ns = json.loads(text)
        states = {key: state and (state[0], state[1]) for key, state in changes.items()}
        return cls(phase, operation, states, at_ns)


def unit(rows: np.ndarray) -> np.ndarray:
    """Normalised rows, as precise as the index keeps them."""
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


@lru_cache(maxsize=20_000)
def embeddings_of(content: str) -> np.ndarray:
    """`(1 + S + T, D)`: S of 1 to 4, T of 0 to 3; nothing where the video failed."""
    if content.startswith("failed"):
        return np.empty((0, DIM), np.float32)
    random = np.random.default_rng(zlib.crc32(content.encode()))
    count = 1 + int(random.integers(1, 5)) + int(random.integers(0, 4))
    return unit(random.normal(size=(count, DIM)) + 0.5 * random.normal(size=DIM))


@lru_cache(maxsize=20_000)
def spans_of(content: str) -> np.ndarray:
    """`(S, 2)` seconds, with an offset that no two contents are likely to share."""
    if content.startswith("failed"):
        return np.empty((0, 2))
    random = np.random.default_rng(zlib.crc32(content.encode()))
    num_segments = int(random.integers(1, 5))
    start = zlib.crc32(content.encode()) % 100_000 / 8 + 2.0 * np.arange(num_segments)
    return np.stack([start, start + 2.0 + 0.25 * (len(content) % 2)], axis=1)


def video_of(key: str, state: tuple[str, int]) -> NewVideo:
    content, note = state
    spans = spans_of(content)
    return NewVideo(
        key=key,
        path=f"/{key}",
        signature=FileSignature(
            len(content), note, f"{content} of {key}"
        ),  # no copy of another's file
        outcome="failed" if content.startswith("failed") else "ok",
        reason="made so" if content.startswith("failed") else "",
        duration_seconds=float(spans[-1, 1]) if len(spans) else 0.0,
        metadata=metadata_of(state),
        spans=spans,
        frame_times=np.arange(max(0, len(embeddings_of(content)) - 1 - len(spans)), dtype=float),
    )


def metadata_of(state: tuple[str, int]) -> dict:
    content, note = state
    return {"content": content, "note": note, "captions": [f"any film with note{note}"]}


def state_of(record: VideoRecord) -> tuple[str, int]:
    return record.metadata["content"], record.metadata["note"]


@lru_cache(maxsize=20_000)
def moments_of(content: str, seed: int) -> list[tuple[float, float, float, float]]:
    """Start, end, score and best second of each moment for `query(seed)`."""
    spans = spans_of(content)
    scores = embeddings_of(content)[1 : 1 + len(spans)] @ query(seed)
    return [
        (each.start_seconds, each.end_seconds, each.score, float(spans[each.best_segment].mean()))
        for each in merge_moments(scores, spans)
    ]


@lru_cache(maxsize=20_000)
def whole_of(content: str, seed: int) -> tuple[float, float, float, float]:
    """Start, end, score and best second of the video for `query(seed)`."""
    rows, spans = embeddings_of(content), spans_of(content)
    scores = rows @ query(seed)
    best = spans[int(scores[1 : 1 + len(spans)].argmax())].mean()
    return 0.0, float(spans[-1, 1]), float(scores[0]), float(best)


@lru_cache(maxsize=1_000)
def query(seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=DIM))


def wrong_hits(hits: list, seed: int, level: str) -> list[str]:
    """What does not fit the contents that the hits say they have."""
    wrong = []
    for hit in hits:
        content = hit.metadata["content"]
        expected = [whole_of(content, seed)] if level == "video" else moments_of(content, seed)
        got = (hit.start_seconds, hit.end_seconds, hit.score, hit.best_seconds)
        if not any(np.allclose(got, each, atol=1e-4, rtol=0) for each in expected):
            wrong.append(f"{level} hit of {hit.key} with {content} is {got}, not in {expected}")
    if [hit.rank for hit in hits] != list(range(1, len(hits) + 1)):
        wrong.append(f"ranks {[hit.rank for hit in hits]}")
    if any(one.score < other.score - 1e-5 for one, other in itertools.pairwise(hits)):
        wrong.append(f"{level} hits are not in the order of their scores")
    places = [(hit.key, hit.start_seconds) for hit in hits]
    if len(set(places)) < len(places):
        wrong.append(f"{level} hits are doubled")
    return wrong


def make_limits_small(set_attribute: Callable[[object, str, object], None] = setattr) -> None:
    """So small that delta, growth, rebuilding and compaction all happen in dozens of videos."""
    calls = iter(range(ALL))

    def choose_factory(count: int, block: object, **options: object) -> str:
        return KINDS[next(calls) % len(KINDS)]

    changes: dict[Any, dict[str, object]] = {
        writer: {"_SMALL_PARTS": 3, "_SMALL_ROWS": 60, "_COMPACT_ROWS": 40, "SAVE_BYTES": 2_500},
        builder: {"_SMALL": 40, "_DELTA_MIN": 12},
        faiss_tuning: {
            "_CANDIDATES": (1, 4),
            "_PROBE_QUERIES": 16,
            "choose_factory": choose_factory,
        },
    }
    for module, values in changes.items():
        for name, value in values.items():
            assert hasattr(module, name), f"{module.__name__}.{name} has another name now"
            set_attribute(module, name, value)


class Worker:
    """Changes an index and reports.

    Args:
        report: takes each line of the log.
        num_keys: that videos are given.
        weights: of the operations, by name.
    """

    WEIGHTS = {"add": 50, "duplicate": 5, "delete": 9, "update": 8, "rename": 4, "save": 9} | {
        "publish": 11,
        "compact": 4,
    }

    def __init__(
        self,
        folder: Path,
        report: Callable[[str], None],
        *,
        seed: int,
        num_keys: int = 40,
        weights: dict[str, int] | None = None,
    ) -> None:
        self._report = report
        self._random = np.random.default_rng(seed)
        self._note = seed * 1_000_000
        self._keys = [f"k{number}" for number in range(num_keys)]
        self._weights = weights or self.WEIGHTS
        self._pending: set[str] = set()  # keys whose latest content may not have been saved
        self._say("try", "open", {})
        self.writer = IndexWriter(folder, settings())
        self._say("done", "open", {})
        self.known = {key: state_of(each) for key, each in self.writer.catalogue.records().items()}

    def run(self, num_operations: int) -> None:
        for _ in range(num_operations):
            self.step()
        self._say("try", "close", {})
        self.writer.close()
        self._say("done", "close", {})

    def step(self, operation: str | None = None) -> None:
        """One operation; of this name, where one is given that is possible now."""
        names = list(self._weights)
        chances = np.array([self._weights[name] for name in names], dtype=float)
        name = operation or names[self._random.choice(len(names), p=chances / chances.sum())]
        self._note += 1
        self._doing = name
        call, changes = getattr(self, f"_{name}")()
        name = self._doing  # which may be another, where there is nothing to do it to
        self._say("try", name, changes)
        call()
        if name in ("save", "delete", "publish"):
            self._pending.clear()
        for key, state in changes.items():
            self.known.pop(key, None)
            if state is not None:
                self.known[key] = state
        self._say("done", name, changes)

    def _say(self, phase: str, operation: str, changes: dict[str, State]) -> None:
        self._report(json.dumps(Line(phase, operation, changes, time.monotonic_ns())))

    def _pick(self, keys: list[str]) -> str:
        return keys[int(self._random.integers(len(keys)))]

    def _saved(self) -> list[str]:
        return sorted(
            key
            for key, state in self.known.items()
            if key not in self._pending and not state[0].startswith("failed")
        )

    def _record(self, key: str) -> VideoRecord:
        return self.writer.catalogue.records()[key]

    def _add(self) -> tuple[Callable[[], object], dict[str, State]]:
        self._doing = "add"
        key = self._pick(self._keys)
        sort = "failed" if self._random.random() < 0.05 else "c"
        state = (f"{sort}{self._note}", self._note)
        self._pending.add(key)
        video = video_of(key, state)
        return lambda: self.writer.add(video, embeddings_of(state[0])), {key: state}

    def _duplicate(self) -> tuple[Callable[[], object], dict[str, State]]:
        sources = self._saved()
        keys = sorted(set(self._keys) - self._pending)
        if not sources or not keys:
            return self._add()
        key, source = self._pick(keys), self._pick(sources)
        if key == source:
            return self._update()
        state = (self.known[source][0], self._note)
        record = self._record(source)
        return lambda: self.writer.add_duplicate(video_of(key, state), record), {key: state}

    def _delete(self) -> tuple[Callable[[], object], dict[str, State]]:
        keys = sorted(self.known)
        if not keys:
            return self._add()
        removed = {self._pick(keys) for _ in range(int(self._random.integers(1, 4)))}
        return lambda: self.writer.delete(sorted(removed)), dict.fromkeys(sorted(removed))

    def _update(self) -> tuple[Callable[[], object], dict[str, State]]:
        self._doing = "update"
        keys = self._saved()
        if not keys:
            return self._add()
        key = self._pick(keys)
        state, record = (self.known[key][0], self._note), self._record(key)
        metadata = metadata_of(state)
        return lambda: self.writer.catalogue.update(record, metadata=metadata), {key: state}

    def _rename(self) -> tuple[Callable[[], object], dict[str, State]]:
        keys, free = self._saved(), sorted(set(self._keys) - set(self.known) - self._pending)
        if not keys or not free:
            return self._update()
        key, other = self._pick(keys), self._pick(free)
        state, record = (self.known[key][0], self._note), self._record(key)
        metadata, signature = metadata_of(state), video_of(other, state).signature
        return (
            lambda: self.writer.catalogue.update(
                record, key=other, path=f"/{other}", metadata=metadata, signature=signature
            ),
            {key: None, other: state},
        )

    def _save(self) -> tuple[Callable[[], object], dict[str, State]]:
        return self.writer.save, {}

    def _compact(self) -> tuple[Callable[[], object], dict[str, State]]:
        return self.writer.compact, {}

    def _publish(self) -> tuple[Callable[[], object], dict[str, State]]:
        chance = self._random.random()
        if chance < 0.05:
            return lambda: self.writer.publish(rebuild=True), {}
        if chance < 0.1:
            recall = float(self._random.choice([0.9, 0.95]))
            return lambda: self.writer.publish(FaissOptions(recall=recall)), {}
        return self.writer.publish, {}


def log_to(path: Path) -> Callable[[str], None]:
    """Gives what writes a line that outlives the process, and marks it in a trace."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    mark: Callable[[str], None] | None = None
    if "POWER_LOSS_TRACE" in os.environ:
        from tests.indexing.power_loss import mark  # brings pytest along, which takes its time

    def report(text: str) -> None:
        os.write(descriptor, f"{text}\n".encode())
        if mark is not None:
            mark(text)

    return report


def lines_of(path: Path) -> list[Line]:
    return [Line.parse(text) for text in path.read_text().splitlines()] if path.exists() else []


def work(folder: Path, log: Path, *, seed: int, num_operations: int, **options: Any) -> None:
    make_limits_small()
    faiss.omp_set_num_threads(1)
    Worker(folder, log_to(log), seed=seed, **options).run(num_operations)


def read(folder: Path, log: Path, *, seed: int, stop: Path) -> None:
    """Searches without a pause; logs `[level, k, start_ns, end_ns, [[key, content, note], ...]]`,
    or `{"wrong": ...}`."""
    faiss.omp_set_num_threads(1)
    report = log_to(log)
    random = np.random.default_rng(seed)
    try:
        reader = IndexReader(folder)
        for number in _until(stop):
            level = ("video", "moment")[number % 2]
            k = ALL if number % 8 < 2 else int(random.choice([1, 3, 10]))
            number = int(random.integers(50))
            start_ns = time.monotonic_ns()
            hits = search(reader, query(number), k=k, level=level)
            end_ns = time.monotonic_ns()
            found = [[hit.key, hit.metadata["content"], hit.metadata["note"]] for hit in hits]
            report(json.dumps([level, k, start_ns, end_ns, found]))
            for text in wrong_hits(hits, number, level):
                report(json.dumps({"wrong": text}))
            if reader.has_lexical_index:
                found = [hit.key for hit in search_words(reader, ["films"], k=k)]
                if len(set(found)) < len(found) or (not found and hits):
                    report(json.dumps({"wrong": f"words find {found}"}))
        reader.close()
    except Exception as error:
        report(json.dumps({"wrong": f"{type(error).__name__}: {error}"}))


def _until(stop: Path) -> Iterator[int]:
    number = 0
    while not stop.exists():
        yield number
        number += 1


def serve() -> None:
    """For each line of JSON with `folder`, `log`, `seed`, `num_operations` and `kill_seconds`:
    forks a worker, kills it after so long, and answers whether it had to."""
    for text in sys.stdin:
        task = json.loads(text)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(
                    Path(task["folder"]),
                    Path(task["log"]),
                    seed=task["seed"],
                    num_operations=task["num_operations"],
                )
                code = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        time.sleep(task["kill_seconds"])
        os.kill(child, signal.SIGKILL)  # also of one that has ended: nobody has waited for it yet
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def main() -> None:
    mode, *rest = sys.argv[1:]
    if mode == "serve":
        serve()
        return
    folder, log, seed, last = rest[:4]
    if mode == "work":
        options = json.loads(rest[4]) if len(rest) > 4 else {}
        work(Path(folder), Path(log), seed=int(seed), num_operations=int(last), **options)
    else:
        read(Path(folder), Path(log), seed=int(seed), stop=Path(last))


if __name__ == "__main__":
    main()
