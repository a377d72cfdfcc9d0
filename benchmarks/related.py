"""How good related videos are, on public tables without frames.

    python benchmarks/related.py captions=FILE.csv [k=10] [users=10000]
    python benchmarks/related.py sequences=FILE.tsv titles=FILE.csv [users=10000] [k=10]

With KuaiRec's `captions` (video_id, manual_cover_text, caption, topic_tag, categories), of videos
that have a third-level category, at most `users` drawn at random: the share of the k related videos
that have the same one, for `words` (plain TF-IDF of all texts), `tags` (the share of common tags)
and `related` (as served, without frames), with intervals by a bootstrap over videos.

With `sequences` of users in order of time and `titles`: from each user's last item but one, whether
the last is among the k most related, learned from what comes before the last. `item_knn` is the
cosine of whole histories with shrinkage, `co_watch` what people watched near each other, `words`
the titles alone, and `related` all of it together as served; also by how many watched the item.
Half of the users (by position: even) can be used to choose settings, the others to report:
`part=choose` or `part=report` (default).
"""

import csv
import json
import re
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.indexed import interval  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.baselines.item_knn import item_similarity  # noqa: E402
from reelseek.recommendation.catalogue import ItemCatalogue  # noqa: E402
from reelseek.recommendation.data.files import read_interactions, read_titles  # noqa: E402
from reelseek.recommendation.data.sequences import Vocabulary  # noqa: E402
from reelseek.recommendation.diversity import DiversityRule  # noqa: E402
from reelseek.recommendation.related.co_watch import (  # noqa: E402
    CoWatch,
    CoWatchSettings,
    count_pairs,
)
from reelseek.recommendation.related.finder import (  # noqa: E402
    RelatedFinder,
    RelatedSettings,
    Together,
)
from reelseek.recommendation.related.texts import TextVectors, words_of  # noqa: E402

NOW = 1.78e9
_UNKNOWN = "UNKNOWN"


class NoFrames:
    """Videos of which no picture is known."""

    baseline = 0.0

    def embeddings(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 1), np.float32)

    def nearest(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(0, np.int64), np.zeros(0)


def catalogue_of(ids: list[str], metadata: list[dict]) -> ItemCatalogue:
    numbers: dict[str, int] = {}
    num = len(ids)
    return ItemCatalogue(
        tuple(ids),
        {each: row for row, each in enumerate(ids)},
        (),
        np.zeros(num, np.int16),
        np.arange(num),
        np.arange(num),
        np.full(num, -1, np.int32),
        tuple(
            frozenset(numbers.setdefault(tag, len(numbers)) for tag in each.get("tags", []))
            for each in metadata
        ),
        np.full(num, np.nan),
        TextVectors.of([words_of(each) for each in metadata]),
    )


def precision(found: list[int], own: str, categories: list[str], k: int) -> float:
    """The share of k, also where fewer were found."""
    return sum(categories[row] == own for row in found[:k]) / k


def measure_captions(path: Path, k: int, *, num: int) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["third_level_category_name"]]
    ids = [row["video_id"] for row in rows]
    categories = [row["third_level_category_name"] for row in rows]
    metadata = [
        {
            "title": "" if row["manual_cover_text"] == _UNKNOWN else row["manual_cover_text"],
            "captions": [row["caption"] or ""],
            "tags": [tag for tag in re.split(r"[\[\],]", row["topic_tag"] or "") if tag.strip()],
        }
        for row in rows
    ]
    catalogue = catalogue_of(ids, metadata)
    finder = RelatedFinder(catalogue, NoFrames())
    plain = TextVectors.of(
        [
            words_of({"captions": [each["title"], *each["captions"], *each["tags"]]})
            for each in metadata
        ]
    )
    asked = [row for row, name in enumerate(categories) if name != _UNKNOWN]
    found: dict[str, list[float]] = {"words": [], "tags": [], "related": []}
    drawn = np.random.default_rng(0).permutation(asked)[:num]
    for row in drawn.tolist():
        own = categories[row]
        found["words"].append(precision(plain.nearest(row, k)[0].tolist(), own, categories, k))
        found["tags"].append(precision(by_tags(catalogue, row, k), own, categories, k))
        related = finder.find(row, k, together=Together.unknown())
        found["related"].append(precision([each.row for each in related], own, categories, k))
    counts = np.array(list(Counter(categories[row] for row in asked).values()))
    chance = float((counts * (counts - 1)).sum() / counts.sum() / (len(ids) - 1))
    print(json.dumps({"videos": len(ids), "asked": len(drawn), "chance": round(chance, 4)}))
    for name, values in found.items():
        low, high = interval(np.array(values))
        figures: dict[str, object] = {f"same_category@{k}": round(float(np.mean(values)), 4)}
        print(json.dumps({"what": name, **figures, "interval": [round(low, 4), round(high, 4)]}))
    gain = np.array(found["related"]) - np.array(found["words"])
    low, high = interval(gain)
    gained: dict[str, object] = {
        "gain": round(float(gain.mean()), 4),
        "interval": [round(low, 4), round(high, 4)],
    }
    print(json.dumps({"what": "related over words", **gained}))


def by_tags(catalogue: ItemCatalogue, row: int, k: int) -> list[int]:
    own = catalogue.tags[row]
    if not own:
        return []
    shares = [
        (len(own & tags) / len(own | tags), -other)
        for other, tags in enumerate(catalogue.tags)
        if other != row and own & tags
    ]
    return [-other for _, other in sorted(shares, reverse=True)[:k]]


def measure_sequences(path: Path, titles: Path, *, num_users: int, k: int, part: str) -> None:
    items = Vocabulary()
    sequences = read_interactions("sequences", path, items=items)
    title_by_item = read_titles("titles", titles)
    for item in title_by_item:
        items.add(item)
    ids = list(items)
    metadata = [_described(title_by_item.get(item, "")) for item in ids]
    catalogue = catalogue_of(ids, metadata)
    known = sequences.without_last()
    settings = CoWatchSettings()
    users, rows = known.user_indices, known.item_indices.astype(np.int64)
    _, first = np.unique(users.astype(np.int64) * len(ids) + rows, return_index=True)
    kept = np.sort(first)  # each item of a user once
    table = count_pairs(
        ids, rows[kept], np.full(len(kept), NOW), user_indices=users[kept], settings=settings
    )
    co_watch = CoWatch(table, settings)
    matrix = known.matrix()
    similarity = item_similarity(matrix, shrinkage=10.0).tocsr()
    num_watchers = np.asarray(matrix.sum(axis=0)).ravel()
    rule = DiversityRule(relevance_share=1.0, duplicate_cosine=1.1)  # no frames to compare
    finder = RelatedFinder(catalogue, NoFrames(), RelatedSettings(diversity=rule))
    asked = [
        (int(sequences.history(user)[-2]), int(sequences.history(user)[-1]))
        for user in range(sequences.num_users)
        if len(sequences.history(user)) > 1 and (user % 2 == 0) == (part == "choose")
    ]
    draws = np.random.default_rng(0).permutation(len(asked))[:num_users]
    names = ("item_knn", "co_watch", "words", "related")
    hits: dict[str, list[float]] = {name: [] for name in names}
    seeds = []
    for seed, target in (asked[index] for index in draws.tolist()):
        others, values = co_watch.similar(seed, now_seconds=NOW)
        together = Together(float(num_watchers[seed]), others, values)
        row = similarity.indices[similarity.indptr[seed] : similarity.indptr[seed + 1]]
        scores = similarity.data[similarity.indptr[seed] : similarity.indptr[seed + 1]]
        found = {
            "item_knn": row[np.lexsort((row, -scores))[:k]].tolist(),
            "co_watch": others[np.lexsort((others, -values))[:k]].tolist(),
            "words": catalogue.texts.nearest(seed, k)[0].tolist(),
            "related": [each.row for each in finder.find(seed, k, together=together)],
        }
        for name, rows_found in found.items():
            hits[name].append(float(target in rows_found))
        seeds.append(num_watchers[seed])
    report(hits, np.array(seeds), k=k)


def _described(title: str) -> dict:
    """The words before the hashtags, and the hashtags, which may have blanks after the `#`."""
    text, *tags = re.split(r"#", title)
    return {"title": text, "tags": [tag.strip() for tag in tags if tag.strip()]}


def report(hits: dict[str, list[float]], seeds: np.ndarray, *, k: int) -> None:
    bounds = [0, 1, 5, 20, 10**9]
    for name, values in hits.items():
        found = np.array(values)
        low, high = interval(found)
        by_watchers: dict[str, list[float]] = {
            f"{first} to {last - 1}" if last < 10**9 else f"{first} or more": [
                round(float(found[inside].mean()), 4),
                int(inside.sum()),
            ]
            for first, last in pairwise(bounds)
            if (inside := (seeds >= first) & (seeds < last)).any()
        }
        figures: dict[str, object] = {f"R@{k}": round(float(found.mean()), 4)}
        figures |= {"interval": [round(low, 4), round(high, 4)]}
        print(json.dumps({"what": name, **figures, "by_watchers": by_watchers}))


def main() -> None:
    options = parse_options(
        __doc__, captions="", sequences="", titles="", users="10000", k="10", part="report"
    )
    k = int(options["k"])
    if options["captions"]:
        measure_captions(Path(options["captions"]), k, num=int(options["users"]))
    if options["sequences"]:
        measure_sequences(
            Path(options["sequences"]),
            Path(options["titles"]),
            num_users=int(options["users"]),
            k=k,
            part=options["part"],
        )


if __name__ == "__main__":
    main()
