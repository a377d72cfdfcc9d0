"""A learned ranker beside searches without one: NDCG@10 on queries it has not seen.

    python benchmarks/ranker.py photographs=FILE.jsonl films=FILE.jsonl folder=DIR [splits=5]

All by the product's own path: `python -m indexing` makes the index, `python -m ranking` trains on a
file of judgements, and `Searcher.search` answers, with the ranker and without it.

The gallery is photographs with several captions each, and films with one. Half of them (drawn at
random) have a text that can be searched by its words: a photograph its last caption, a film its
caption. Queries are the photographs' other captions, and the captions of the films that have no
text.

Judgements: what a query was written for is 4; others are 0 to 3 by how alike their captions, all of
them, are to the query in weighted words (cosine of tf-idf: 0.2, 0.35, 0.5): so words are judged by
words, as far as they see them. Judged for training are a query's first 10 hits by pictures, by
words and by both. Queries are split by what they are written for: those of 60 % are trained on, the
rest measured, against the whole gallery's judgements. Interval: 95 %, bootstrap over the queries of
the first split.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.indexed import interval
from benchmarks.options import parse_options
from reelseek.ranking import SearchHit, ndcg
from reelseek.ranking.searcher import Searcher

ROOT = Path(__file__).resolve().parent.parent
GRADES = (0.2, 0.35, 0.5)
TRAIN_FRACTION = 0.6
WAYS: dict[str, Sequence[str] | None] = {
    "pictures": ("visual",),
    "words": ("lexical",),
    "both, as searches do": None,
}


class Item(NamedTuple):
    """One of the gallery."""

    path: str
    captions: list[str]
    has_text: bool
    is_film: bool


class Question(NamedTuple):
    """A query: its text, the item it was written for, and the grade of each item by key."""

    query: str
    item: int
    grades: dict[str, int]


def words_of(text: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower())]


class Words:
    """Texts, and how rare each of their words is."""

    def __init__(self, texts: list[str]) -> None:
        self.counts = [Counter(words_of(text)) for text in texts]
        seen = Counter(word for each in self.counts for word in each)
        filled = max(1, sum(bool(each) for each in self.counts))
        self.rarity = {
            w: float(np.log(1 + (filled - n + 0.5) / (n + 0.5))) for w, n in seen.items()
        }

    def cosines(self, query: str) -> np.ndarray:
        """`(N,)`, of tf-idf."""
        queries = Counter(words_of(query))
        weights = {word: self.rarity.get(word, 0.0) for word in queries}
        length = np.sqrt(sum(value**2 for value in weights.values())) or 1.0
        found = np.zeros(len(self.counts))
        for index, each in enumerate(self.counts):
            shared = queries.keys() & each.keys()
            if shared:
                of_text = np.sqrt(sum(self.rarity[word] ** 2 for word in each))
                found[index] = sum(weights[w] ** 2 for w in shared) / (length * of_text)
        return found


def read_gallery(photographs: Path, films: Path) -> list[Item]:
    found = []
    for path, is_film in ((photographs, False), (films, True)):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            index = path.parent / (record.get("video") or record["image"])
            found.append((str(index.resolve()), record["captions"], is_film))
    has_text = np.random.default_rng(0).permutation(len(found)) < len(found) // 2
    return [
        Item(path, captions, bool(own), is_film)
        for (path, captions, is_film), own in zip(found, has_text, strict=True)
    ]


def write_list(gallery: list[Item], path: Path) -> None:
    lines = [
        {"video": item.path, **({"captions": [item.captions[-1]]} if item.has_text else {})}
        for item in gallery
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def ask(gallery: list[Item]) -> list[Question]:
    queries = [
        (index, query)
        for index, item in enumerate(gallery)
        for query in (item.captions[:1] if item.is_film else item.captions[:-1])
        if not (item.is_film and item.has_text)
    ]
    maximum = max(len(item.captions) for item in gallery)
    judges = [
        Words([item.captions[n] if n < len(item.captions) else "" for item in gallery])
        for n in range(maximum)
    ]
    questions = []
    for index, query in queries:
        alike = np.max([each.cosines(query) for each in judges], axis=0)
        grades = np.searchsorted(GRADES, alike, side="right")
        grades[index] = 4
        by_path = {item.path: int(g) for item, g in zip(gallery, grades, strict=True)}
        questions.append(Question(query, index, by_path))
    return questions


def value(hits: Sequence[SearchHit], question: Question) -> float:
    relevance = [question.grades[hit.video] for hit in hits]
    return ndcg(relevance, k=10, judged=list(question.grades.values()))


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=True)


def main() -> None:
    options = parse_options(__doc__, photographs=None, films=None, folder=None, splits="5")
    folder = Path(options["folder"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    gallery = read_gallery(Path(options["photographs"]), Path(options["films"]))
    write_list(gallery, folder / "gallery.jsonl")
    run("indexing", f"videos={folder / 'gallery.jsonl'}", f"index={folder / 'index'}")
    questions = ask(gallery)
    with closing(Searcher.open(folder / "index")) as searcher:
        hits = [
            {way: searcher.search(q.query, k=10, sources=names) for way, names in WAYS.items()}
            for q in questions
        ]
    different = np.unique([question.item for question in questions])
    splits = []
    for seed in range(int(options["splits"])):
        shuffled = np.random.default_rng(seed).permutation(different)
        trained_on = set(shuffled[: int(TRAIN_FRACTION * len(different))].tolist())
        lines = [
            {"query": q.query, "video": hit.key, "relevance": q.grades[hit.video]}
            for q, found in zip(questions, hits, strict=True)
            if q.item in trained_on
            for hit in {hit.key: hit for each in found.values() for hit in each}.values()
        ]
        different_lines = {(line["query"], line["video"]): line for line in lines}
        judgements, ranker = folder / f"judgements-{seed}.jsonl", folder / f"ranker-{seed}"
        judgements.write_text("".join(json.dumps(each) + "\n" for each in different_lines.values()))
        index = f"index={folder / 'index'}"
        run("ranking", f"judgements={judgements}", index, f"output={ranker}", "test_fraction=0")
        tested = [n for n, q in enumerate(questions) if q.item not in trained_on]
        values = {
            way: np.array([value(hits[n][way], questions[n]) for n in tested]) for way in WAYS
        }
        with closing(Searcher.open(folder / "index", ranker=ranker)) as searcher:
            found_hits = [searcher.search(questions[n].query, k=10) for n in tested]
        values["learned"] = np.array(
            [value(found, questions[n]) for found, n in zip(found_hits, tested, strict=True)]
        )
        splits.append(values)
    print(f"{len(splits[0]['learned'])} queries measured in the first split")
    print(f"{'NDCG@10':30}{'first split':>24}{'mean of splits':>18}")
    for name, values_of in splits[0].items():
        low, high = interval(values_of)
        mean = np.mean([split[name].mean() for split in splits])
        print(f"{name:30}{f'{values_of.mean():.3f} ({low:.3f}-{high:.3f})':>24}{mean:>18.3f}")
    best = max(WAYS, key=lambda name: splits[0][name].mean())
    gain = splits[0]["learned"] - splits[0][best]
    low, high = interval(gain)
    print(f"learned - {best}: {gain.mean():.3f} ({low:.3f}-{high:.3f})")


if __name__ == "__main__":
    main()
