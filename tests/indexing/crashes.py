"""What the log of a worker says an index must hold, and whether it does.

Each check gives a list of what is wrong, in words; it is empty where all is well.
"""

import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reelseek.indexing.reader import IndexReader
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.writer import IndexWriter
from tests.indexing.searching import search, search_words
from tests.indexing.store_worker import (
    ALL,
    Line,
    State,
    embeddings_of,
    moments_of,
    query,
    settings,
    state_of,
    video_of,
    whole_of,
    wrong_hits,
)

QUERIES = (0, 1)


class Reported:
    """The states that a key may be in, after a process was killed and after a power loss.

    After a kill that is one state, but for what was being done; after a power loss also each that
    was added since the last `save`, and the one before these.
    """

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.after_kill: dict[str, set[State]] = {}
        self.after_power_loss: dict[str, set[State]] = {}
        self.in_flight: Line | None = None
        self.is_published = False
        self.num_done = 0
        for line in lines:
            self.take(line)

    def take(self, line: Line) -> None:
        if line.phase == "try":
            self._give_up()  # on what a killed process was doing
            self.in_flight = line
            return
        self.in_flight = None
        self.num_done += 1
        for key, state in line.changes.items():
            self.after_kill[key] = {state}
            if line.operation == "add":
                self.after_power_loss.setdefault(key, {None}).add(state)
            else:
                self.after_power_loss[key] = {state}
        if line.operation in ("open", "save", "delete", "publish"):
            for key, states in self.after_kill.items():
                self.after_power_loss[key] = set(states)
        self.is_published |= line.operation == "publish"

    def _give_up(self) -> None:
        if self.in_flight is not None:
            for key, state in self.in_flight.changes.items():
                for states in (self.after_kill, self.after_power_loss):
                    states.setdefault(key, {None}).add(state)
            self.in_flight = None

    def allowed(self, key: str, *, power_loss: bool) -> set[State]:
        states = set((self.after_power_loss if power_loss else self.after_kill).get(key, {None}))
        if self.in_flight is not None and key in self.in_flight.changes:
            states.add(self.in_flight.changes[key])
        return states

    def problems(self, known: dict[str, tuple[str, int]], *, power_loss: bool) -> list[str]:
        """How these keys and states are not what was reported."""
        wrong = []
        for key in sorted({*known, *self.after_kill}):
            allowed = self.allowed(key, power_loss=power_loss)
            if known.get(key) not in allowed:
                wrong.append(f"{key} is {known.get(key)}, not in {allowed}")
        changes = {} if self.in_flight is None else self.in_flight.changes
        reported = self.after_power_loss if power_loss else self.after_kill
        # At once or not at all; a key that may have been lost before says nothing of it.
        certain = [key for key in changes if changes[key] not in reported.get(key, {None})]
        if len({known.get(key) == changes[key] for key in certain}) > 1:
            wrong.append(f"half of {self.in_flight} happened")
        return wrong


@contextmanager
def max_frames(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer, for endless loops."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def reading_problems(folder: Path, reported: Reported) -> list[str]:
    """Of a reader that comes before any writer."""
    try:
        reader = IndexReader(folder)
    except ValueError as error:
        has_published = reported.is_published and Manifest.read(folder).num_videos > 0
        if has_published or "\n" in str(error) or f"{folder}" not in str(error):
            return [f"a reader cannot open: {error}"]
        return []
    try:
        wrong = []
        for level in ("video", "moment"):
            for k in (2, ALL):
                hits = search(reader, query(0), k=k, level=level)
                wrong += wrong_hits(hits, 0, level)
                for hit in hits:
                    state = hit.metadata["content"], hit.metadata["note"]
                    allowed = reported.allowed(hit.key, power_loss=True)
                    if state not in allowed | reported.allowed(hit.key, power_loss=False):
                        wrong.append(f"a reader finds {hit.key} as {state}, not in {allowed}")
        return wrong
    finally:
        reader.close()


def writing_problems(folder: Path, reported: Reported, *, power_loss: bool) -> list[str]:
    """Of a writer that takes over, publishes and closes, and of a reader after that."""
    with IndexWriter(folder, settings()) as writer:
        records = list(writer.catalogue.scan())
        known = {record.key: state_of(record) for record in records}
        wrong = reported.problems(known, power_loss=power_loss)
        if len(known) < len(records):
            wrong.append("a key is there twice")
        for record in records:
            new = video_of(record.key, known[record.key])
            rows = embeddings_of(new.metadata["content"])
            if record.spans.tolist() != new.spans.tolist() or record.path != f"/{record.key}":
                wrong.append(f"the entry of {record.key} is not that of {new.metadata}")
            if record.num_rows != len(rows) or (record.location is None) != (len(rows) == 0):
                wrong.append(f"{record.key} has {record.num_rows} rows")
            elif record.location is not None:
                stored = writer.parts.read_run(*record.location, len(rows))
                if (stored != rows).any():
                    wrong.append(f"the embeddings of {record.key} are not those of {new.metadata}")
        writer.publish()
    return wrong + answer_problems(folder, known)


def answer_problems(folder: Path, known: dict[str, tuple[str, int]]) -> list[str]:
    """How the answers differ from those of all segments of all videos."""
    searchable = {
        key: content for key, (content, _) in known.items() if len(embeddings_of(content))
    }
    if not searchable:
        return []
    reader = IndexReader(folder)
    wrong = []
    for seed in QUERIES:
        for level in ("video", "moment"):
            expected = {
                (key, each[0], each[1])
                for key, content in searchable.items()
                for each in (
                    [whole_of(content, seed)] if level == "video" else moments_of(content, seed)
                )
            }
            hits = search(reader, query(seed), k=ALL, level=level)
            found = [(hit.key, hit.start_seconds, hit.end_seconds) for hit in hits]
            wrong += wrong_hits(hits, seed, level)
            if set(found) != expected:
                wrong.append(f"{level} answers differ by {set(found) ^ expected}")
            few = search(reader, query(seed), k=3, level=level)
            wrong += wrong_hits(few, seed, level)
            if len(few) != min(3, len(expected)):
                wrong.append(f"{len(few)} {level} hits, not {min(3, len(expected))}")
            for hit in few:
                if known[hit.key] != (hit.metadata["content"], hit.metadata["note"]):
                    wrong.append(f"{hit.key} has the metadata {hit.metadata}")
    if reader.has_lexical_index:
        wrong += word_problems(reader, {key: known[key] for key in searchable})
    reader.close()
    return wrong


def word_problems(reader: IndexReader, known: dict[str, tuple[str, int]]) -> list[str]:
    """How the answers to words differ from those of all captions."""
    wrong = []
    found = [hit.key for hit in search_words(reader, ["films"], k=ALL)]
    if sorted(found) != sorted(known):
        wrong.append(f"words find {sorted(found)}, not {sorted(known)}")
    for key, (_, note) in known.items():
        hits = search_words(reader, [f"note{note}"], k=ALL)
        if [hit.key for hit in hits] != [each for each in known if known[each][1] == note]:
            wrong.append(f"note{note} of {key} finds {hits}")
    return wrong


def all_problems(folder: Path, reported: Reported, *, power_loss: bool) -> list[str]:
    """Of a reader, then of a writer, and whether both came to an end without an error."""
    wrong = []
    for check in (
        lambda: reading_problems(folder, reported),
        lambda: writing_problems(folder, reported, power_loss=power_loss),
    ):
        try:
            with max_frames(20):
                wrong += check()
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return wrong


def copy_of(folder: Path, target: Path) -> Path:
    """What a killed process has left, to be looked at without changing it."""
    shutil.rmtree(target, ignore_errors=True)
    if folder.exists():
        shutil.copytree(folder, target)
    else:
        target.mkdir()
    return target
