"""An index that has files of every sort, ways to damage them, and what is to stay the same."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from reelseek.indexing import IndexReader
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LEVELS, FaissOptions, Manifest, _checksum
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.tools.verify import find_problems
from reelseek.indexing.writer import IndexWriter
from tests.indexing.searching import search, search_words
from tests.indexing.small_index import (
    D,
    Oracle,
    answers,
    assert_same,
    failed_video,
    make_index,
    queries,
    random_video,
)

ALL = 1_000  # hits asked for, to get all there are
EVEN = "tags = 'even'"


def aged_index(folder: Path, *, kind: str = "auto") -> Oracle:
    """24 videos in the main shards, two of them deleted since, then four more and a failed one in
    the deltas."""
    made, oracle = _aged_index(kind)
    shutil.copytree(made.name, folder)
    return Oracle(dict(oracle.held))


@cache
def _aged_index(kind: str) -> tuple[TemporaryDirectory, Oracle]:
    made = TemporaryDirectory()
    folder = Path(made.name)
    rng = np.random.default_rng(5)
    videos = [
        random_video(
            rng,
            f"{i}.mp4",
            metadata={"tags": ["odd" if i % 2 else "even"], "captions": [f"film number {i}"]},
        )
        for i in range(28)
    ]
    oracle = make_index(folder, videos[:24], options=FaissOptions(kind=kind))
    with IndexWriter(folder) as writer:
        for video, rows in [*videos[24:], failed_video("failed.mp4")]:
            writer.add(video, rows)
            oracle.held[video.key] = video, rows
        writer.save()
        for record in list(writer.catalogue.scan())[::5]:
            timed = [TimedText("speech", 0.0, 1.0, f"film of {record.key}")]
            writer.catalogue.store_texts(record.id, "speech", timed, engine="given")
        writer.delete(["3.mp4", "17.mp4"])
        del oracle.held["3.mp4"], oracle.held["17.mp4"]
        writer.publish()
    return made, oracle


def index_files(folder: Path) -> list[Path]:
    """All that an index consists of."""
    forget_log(folder)
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]


def forget_log(folder: Path) -> None:
    """Removes what readers of a catalogue leave beside it, which is empty."""
    for suffix in ("-wal", "-shm"):
        (folder / f"{CATALOGUE_NAME}{suffix}").unlink(missing_ok=True)


def overwrite(path: Path, data: bytes) -> None:
    """Makes a new file: the old one may still be mapped."""
    path.unlink()
    path.write_bytes(data)


def flip(path: Path, at: int, mask: int = 0xFF) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    overwrite(path, bytes(data))


@contextmanager
def restored(folder: Path, path: Path) -> Iterator[None]:
    """Puts a file back afterwards."""
    data = path.read_bytes()
    forget_log(folder)
    try:
        yield
    finally:
        forget_log(folder)
        path.unlink(missing_ok=True)
        path.write_bytes(data)


def change_catalogue(folder: Path, sql: str, values: tuple = ()) -> None:
    """Past the code that counts changes and keeps checksums; the log is written back."""
    with closing(sqlite3.connect(folder / CATALOGUE_NAME)) as connection:
        with connection:
            assert connection.execute(sql, values).rowcount
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def change_manifest(folder: Path, change: Callable[[dict], Any]) -> None:
    """With a checksum that is right."""
    values = json.loads(Manifest.path(folder).read_bytes())
    del values["checksum"]
    change(values)
    values["checksum"] = _checksum(values)
    Manifest.path(folder).write_text(json.dumps(values))


def damage_embedding(folder: Path, key: str, number: int = 0) -> None:
    """Flips a byte of one of a video's rows."""
    part, first = locations(folder)[key]
    path = part_path(folder, part)
    flip(path, row_offset(path, first + number) + 3)


def part_path(folder: Path, part: int) -> Path:
    return folder / EMBEDDINGS_NAME / f"part-{part:08d}.npy"


def row_bytes() -> int:
    return EmbeddingParts(Path(), embedding_dim=D)._dtype.itemsize


def row_offset(path: Path, row: int) -> int:
    rows = np.load(path, mmap_mode="r")
    return path.stat().st_size - (len(rows) - row) * row_bytes()


def locations(folder: Path) -> dict[str, tuple[int, int]]:
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return {r.key: r.location for r in catalogue.scan() if r.location is not None}


def records(folder: Path) -> dict[str, dict]:
    """All that the catalogue says, by key."""
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return {
            record.key: asdict(record)
            | {"spans": record.spans.tolist(), "frame_times": record.frame_times.tolist()}
            for record in catalogue.scan()
        }


def hits(folder: Path, *, where: str | None = None) -> list[list[Any]]:
    """Answers to the same questions each time, the last of them in words."""
    with closing(IndexReader(folder)) as reader:
        in_words: list[list[Any]] = [
            search_words(reader, ["film", "8"], k=ALL, where=where, level=level) for level in LEVELS
        ]
        return [
            search(reader, query, k=k, level=level, where=where)
            for query in queries(2)
            for level in LEVELS
            for k in (3, ALL)
        ] + in_words


def assert_answers(folder: Path, oracle: Oracle, keys: set[str] | None = None) -> None:
    """An exact index answers as it should, from these videos or from all."""
    with closing(IndexReader(folder)) as reader:
        for query in queries(2):
            found = answers(search(reader, query, k=ALL), "video")
            assert_same(found, oracle.videos(query, keys), ALL)
            found = answers(search(reader, query, k=ALL, level="moment"), "moment")
            assert_same(found, oracle.moments(query, keys), ALL)


def assert_sound(folder: Path, oracle: Oracle) -> None:
    """It holds these videos and nothing else, answers rightly, and nothing is wrong with it."""
    assert list(find_problems(folder)) == []
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=D)
    with closing(Catalogue(folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        held = {record.key: record for record in catalogue.scan()}
    assert set(held) == set(oracle.held)
    for key, (video, rows) in oracle.held.items():
        record = held[key]
        for name in ("path", "signature", "outcome", "reason", "decoder", "num_frames", "metadata"):
            assert getattr(record, name) == getattr(video, name)
        assert record.duration_seconds == video.duration_seconds
        np.testing.assert_array_equal(record.spans, video.spans)
        np.testing.assert_array_equal(record.frame_times, video.frame_times)
        if record.location is None:
            assert len(rows) == 0
        else:
            np.testing.assert_array_equal(parts.read_run(*record.location, record.num_rows), rows)
    manifest = Manifest.read(folder)
    assert manifest.num_videos == sum(len(rows) > 0 for _, rows in oracle.held.values())
    assert manifest.num_segments == sum(len(video.spans) for video, _ in oracle.held.values())
    if manifest.num_videos:
        assert_answers(folder, oracle)
