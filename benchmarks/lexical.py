"""Words: time of a query, and time and bytes of indexing, beside SQLite's FTS5 in the same run.

    python -m benchmarks.lexical [videos=100000] [queries=2000] [captions=A.jsonl,B.jsonl]

Each video has one caption: the beginning of one sentence and the end of another, of the captions of
these lists or, without them, of sentences made here. A query is up to five words of a caption, of
which any may be lacking in a hit. `index` is the search of the lexical index alone, from words to
ids, which is what FTS5 is asked for as well; `reader` is `IndexReader.gather`, with each
hit's entry, text and checks. `filtered` asks for the tenth of the videos that have a tag.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.options import parse_options
from reelseek.indexing import IndexReader, IndexSettings, Manifest
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical import publishing as lexical_publishing
from reelseek.indexing.lexical.index import LexicalIndex
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.videos import FileSignature, NewVideo

_K = 10
_NUM_CHANGED = 100
_PARTS = (
    "a an the one some two three several many".split(),
    "young old small large red blue wet dusty bright quiet tired happy wooden striped".split(),
    "man woman child dog cat horse bird chef player robot car train boat band crowd fox".split(),
    "runs jumps sings cooks sleeps dances waits paints climbs swims talks laughs turns".split(),
    "in on near behind under across beside above around through".split(),
    "the a".split(),
    "kitchen field street beach forest stage river garden station market bridge roof lake".split(),
    "at during before after".split(),
    "night noon sunset breakfast rain winter a storm a race a wedding the game".split(),
)


def sentences(lists: str) -> list[str]:
    """Captions of these lists; without any, sentences of a little grammar."""
    if not lists:
        random = np.random.default_rng(0)
        return [" ".join(str(random.choice(part)) for part in _PARTS) for _ in range(5_000)]
    lines = [line for name in lists.split(",") for line in Path(name).read_text().splitlines()]
    return sorted({caption for line in lines for caption in json.loads(line)["captions"]})


def recombined(real: Sequence[str], count: int) -> list[str]:
    """Sentences of the first half of one and the second half of another."""
    random = np.random.default_rng(1)
    split = [text.split() for text in real]
    made = []
    for first, second in random.integers(len(split), size=(count, 2)):
        head, tail = split[first], split[second]
        made.append(" ".join(head[: len(head) // 2 + 1] + tail[len(tail) // 2 :]))
    return made


def fill(catalogue: Catalogue, captions: Sequence[str]) -> None:
    for first in range(0, len(captions), 10_000):
        videos = [
            NewVideo(
                key=f"{number % 97}/{number:07}.mp4",
                path=f"/{number}.mp4",
                signature=FileSignature(1, 1, str(number)),
                outcome="ok",
                metadata={"captions": [captions[number]]}
                | ({"tags": ["tenth"]} if number % 10 == 0 else {}),
            )
            for number in range(first, min(first + 10_000, len(captions)))
        ]
        catalogue.store(videos, [(1, 0)] * len(videos))


def fts5(path: Path, captions: Sequence[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE VIRTUAL TABLE texts USING fts5(words, content='', tokenize='porter unicode61')"
    )
    connection.execute("BEGIN")
    rows = ((number, caption) for number, caption in enumerate(captions))
    connection.executemany("INSERT INTO texts (rowid, words) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection


def ask_fts5(connection: sqlite3.Connection, words: list[str]) -> int:
    query = " OR ".join(f'"{word}"' for word in words)
    sql = "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?"
    return len(connection.execute(sql, (query, _K)).fetchall())


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(name: str, ask: Callable[[list[str]], object], queries: Sequence[list[str]]) -> None:
    for words in queries[:20]:
        ask(words)
    spent = 1e3 * np.array([seconds(partial(ask, words)) for words in queries])
    p50, p99 = np.percentile(spent, [50, 99])
    print(f"{name:>22}: p50 {p50:.3f} ms, p99 {p99:.3f} ms", flush=True)


def build(folder: Path, captions: Sequence[str]) -> Manifest:
    """An index of nothing but words."""
    with closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue:
        fill(catalogue, captions)
        start = time.perf_counter()
        info = lexical_publishing.publish_words(folder, catalogue, None, generation=1)
        spent = time.perf_counter() - start
        assert info is not None
        size = sum((folder / info.name / name).stat().st_size for name in info.files)
        print(f"{'tantivy, indexed':>22}: {spent:.1f} s, {size / 1e6:.1f} MB", flush=True)
        records = list(catalogue.records().values())[:_NUM_CHANGED]
        for record in records:
            catalogue.update(record, metadata={"captions": ["changed"]})
        start = time.perf_counter()
        info = lexical_publishing.publish_words(folder, catalogue, info, generation=2)
        spent = time.perf_counter() - start
        print(f"{f'tantivy, {_NUM_CHANGED} changed':>22}: {spent:.2f} s", flush=True)
        settings = IndexSettings({}, "none", 8, {}, {})
        revision = catalogue.counter("revision")
    manifest = Manifest(settings, 2, revision, num_videos=len(captions), lexical=info)
    manifest.write(folder)
    return manifest


def find(index: LexicalIndex, stems: list[str]) -> list:
    return index.search(stems, num=_K, terms=index.statistics(stems))


def gather(reader: IndexReader, words: list[str], *, where: str | None = None) -> object:
    stems = documents.stems(words)
    nothing = np.empty((0, reader.manifest.settings.embedding_dim), np.float32)
    return reader.gather(
        GatherRequest(
            nothing,
            "video",
            0,
            stems=stems,
            num_texts=_K,
            terms=reader.term_statistics(stems),
            where=where,
        )
    )


def main() -> None:
    options = parse_options(__doc__, videos="100000", queries="2000", captions="")
    captions = recombined(sentences(options["captions"]), int(options["videos"]))
    random = np.random.default_rng(2)
    queries = []
    for number in random.integers(len(captions), size=int(options["queries"])):
        words = list(dict.fromkeys(documents.words_of([captions[number]])))
        some = random.choice(len(words), min(len(words), int(random.integers(1, 6))), replace=False)
        queries.append([words[index] for index in sorted(some)])
    documents.stems(["loads"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        manifest = build(folder, captions)
        assert manifest.lexical is not None
        print(f"{'opened':>22}: {1e3 * seconds(lambda: IndexReader(folder)):.0f} ms")
        index = LexicalIndex(folder, manifest.lexical)
        start = time.perf_counter()
        connection = fts5(folder / "fts5.sqlite", captions)
        size = (folder / "fts5.sqlite").stat().st_size
        spent = time.perf_counter() - start
        print(f"{'FTS5, indexed':>22}: {spent:.1f} s, {size / 1e6:.1f} MB", flush=True)
        for _ in range(2):  # twice, to see how far the numbers are to be trusted
            report("tantivy, index", lambda w: find(index, documents.stems(w)), queries)
            report("FTS5", lambda w: ask_fts5(connection, w), queries)
        with closing(IndexReader(folder)) as reader:
            report("tantivy, reader", lambda w: gather(reader, w), queries)
            report(
                "tantivy, filtered",
                lambda w: gather(reader, w, where="tag = 'tenth'"),
                queries[:200],
            )
            print(f"{'statistics':>22}: {1e3 * seconds(reader.statistics):.1f} ms")
        connection.close()


if __name__ == "__main__":
    main()
