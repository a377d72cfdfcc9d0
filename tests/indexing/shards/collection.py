"""One collection as an ordinary index and in shards, and the questions that both are asked."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelseek import Searcher
from reelseek.indexing.shards.opening import open_writer
from reelseek.ranking import SearchHit, Similar
from reelseek.ranking.suggestions import Suggester
from tests.indexing.small_index import SETTINGS, D, failed_video, unit
from tests.ranking.test_shards import WORDS, make_collection


class GivenEncoder:
    """A sentence's embedding is drawn from its words."""

    fingerprint = SETTINGS.fingerprint

    def encode(self, part):
        return self.sentences([part])[0]

    def sentences(self, sentences):
        rows = [np.random.default_rng(list(s.encode())).normal(size=D) for s in sentences]
        return unit(np.array(rows).reshape(-1, D))

    def tokens(self, sentences):
        raise AssertionError("nothing matches tokens here")


def collection(*, num: int, seed: int = 5):
    """Videos with texts, titles, tags and copies; one field is of a single video, one failed."""
    videos, texts = make_collection(np.random.default_rng(seed), num=num)
    videos = [(replace(video, root="r"), rows) for video, rows in videos]
    first, rows = videos[0]
    videos[0] = replace(first, metadata=first.metadata | {"rare": "yes"}), rows
    failed, no_rows = failed_video("broken.mp4")
    return [*videos, (replace(failed, root="r"), no_rows)], texts


def make_index(folder: Path, videos, texts, *, num_shards: int, change=None) -> Path:
    """Adds, enriches and publishes, whatever the number of shards.

    Args:
        change: called with the writer before it publishes.
    """
    sentences = unit(np.random.default_rng(8).normal(size=(40, D)))
    with open_writer(folder, SETTINGS, num_shards=num_shards) as writer:
        for video, rows in videos:
            writer.add(video, rows)
        writer.save()
        ids = {record.key: record.id for record in writer.catalogue.scan()}
        for key, said in texts.items():
            writer.catalogue.store_texts(ids[key], "ocr", said, engine="given")
        if change is not None:
            change(writer)
        writer.publish(sentences=lambda: sentences)
    return folder


def answers(
    folder: Path, ids: Sequence[str], *, seed: int = 2, shards: str = "auto"
) -> list[object]:
    """What an index says to questions of every kind, in full."""
    with Searcher.open(folder, encoder=GivenEncoder(), entities=True, shards=shards) as searcher:
        return answers_of(searcher, ids, seed=seed)


def answers_of(searcher: Searcher, ids: Sequence[str], *, seed: int = 2) -> list[object]:
    """The same of a searcher, which finds entities."""
    rng = np.random.default_rng(seed)
    said: list[object] = []
    for query in _queries(rng, ids):
        for options in (
            {"k": 7},
            {"k": 200, "level": "moment"},
            {"k": 5, "min_confidence": 0.3},
            {"k": 4, "where": "year >= 2002 or rare = 'yes'", "level": "moment"},
            {"k": 3, "where": "rare = 'yes'"},
            {"k": 3, "sources": ["lexical"]},
        ):
            said.append(_answer(searcher, query, options))
    said.append(_pages(searcher))
    said.append(_answer(searcher, "dog", {"where": "no_such_field = 1"}))
    said.append(searcher.reader.video_ids())
    said += [searcher.match_segments("dog in the snow", ids[:9])[id].scores for id in ids[:9]]
    suggester = Suggester.of(searcher.reader)
    said += [suggester.suggest(prefix, 9) for prefix in ("d", "ru", "tag:", "the s", "#c")]
    said += [str(searcher.analyze(query)) for query in ("dgo runing", "red cat, no sea")]
    return said


def _queries(rng: np.random.Generator, ids: Sequence[str]) -> list:
    some = [" ".join(rng.choice(WORDS, size=3)) for _ in range(4)]
    return [
        *some,
        "dgo in the snow",  # is corrected
        f"{some[0]}, no boat",
        "a dog runs, then a cat",
        "fire in 2003 under 10 seconds",
        unit(rng.normal(size=(1, D)))[0],
        Similar(ids[3]),
        [Similar(ids[4]), "at night"],
        {"red river": 1.0, "dog": -0.5},
    ]


def _answer(searcher: Searcher, query, options: dict) -> object:
    try:
        found = searcher.search(query, **options)
    except ValueError as error:
        return str(error).replace(str(searcher.reader.folder), "INDEX")
    return list(found), found.why_empty, str(found.next_cursor)


def _pages(searcher: Searcher) -> list[SearchHit]:
    hits, cursor = [], None
    for _ in range(6):
        page = searcher.search("dog cat river", k=6, level="moment", after=cursor)
        hits += page
        cursor = page.next_cursor
    return hits
