"""A learned ranker beside reciprocal rank fusion: NDCG@10 on queries it has not seen.

    python benchmarks/ranker.py photographs=DIR films=DIR [model=mini] [splits=5]

Two indexes are the gallery: photographs with several captions each, and films with one. Half of
them (drawn at random) have a text that can be searched by its words: a photograph its last caption,
a film its caption. Queries are the photographs' other captions, and the captions of the films that
have no text.

Judgements: the photograph that a query was written for is 4; others are 0 to 3 by how alike their
captions, all of them, are to the query in weighted words (cosine of tf-idf: 0.2, 0.35, 0.5): so
words are judged by words, as far as they see them. Candidates are the first 50 by video, by moment,
and by words (BM25). What is searched for is split into two: queries for 60 % of it are trained on,
those for the rest measured. `leading words` are only those that score 70 % of the best. Interval:
95 %, bootstrap over the queries of the first split. What would tell photographs from films
(duration, number of segments) is no feature here.
"""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.indexed import Indexed, interval, open_model, read_indexes
from benchmarks.options import parse_options
from ranking import (
    FEATURE_NAMES,
    assemble_features,
    fuse_reciprocal_ranks,
    late_interaction_with_videos,
    leading,
    ndcg,
    train_ranker,
)

CANDIDATES = 50
GRADES = (0.2, 0.35, 0.5)
TRAIN_SHARE = 0.6


class Question(NamedTuple):
    """A query's candidates: their features, relevance, the places that each source gives them (999
    where it does not find them), and the relevance of the whole gallery."""

    wanted: int
    features: np.ndarray
    relevance: np.ndarray
    rankings: dict[str, list[int]]
    candidates: list[int]
    judged: np.ndarray


def words_of(text: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall(r"[a-z]+", text.lower())]


class Words:
    """Texts, and how rare each of their words is."""

    def __init__(self, texts: list[str]) -> None:
        self.counts = [Counter(words_of(text)) for text in texts]
        self.lengths = np.array([sum(each.values()) for each in self.counts])
        seen = Counter(word for each in self.counts for word in each)
        filled = max(1, sum(bool(each) for each in self.counts))
        self.rarity = {
            w: float(np.log(1 + (filled - n + 0.5) / (n + 0.5))) for w, n in seen.items()
        }

    def bm25(self, query: str) -> np.ndarray:
        """`(N,)` (Robertson and Zaragoza 2009), with k1 = 1.2 and b = 0.75."""
        longer = self.lengths / max(1.0, float(self.lengths[self.lengths > 0].mean()))
        scores = np.zeros(len(self.counts))
        for word in set(words_of(query)) & self.rarity.keys():
            times = np.array([each[word] for each in self.counts], dtype=float)
            scores += self.rarity[word] * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * longer))
        return scores

    def cosines(self, query: str) -> np.ndarray:
        """`(N,)`, of tf-idf."""
        asked = Counter(words_of(query))
        weights = {word: self.rarity.get(word, 0.0) for word in asked}
        length = np.sqrt(sum(value**2 for value in weights.values())) or 1.0
        found = np.zeros(len(self.counts))
        for place, each in enumerate(self.counts):
            shared = asked.keys() & each.keys()
            if shared:
                of_text = np.sqrt(sum(self.rarity[word] ** 2 for word in each))
                found[place] = sum(weights[w] ** 2 for w in shared) / (length * of_text)
        return found


def ask(indexed: Indexed, photographs: int, model_name: str) -> list[Question]:
    from text import TextEncoder
    from text.token_encoding import TokenEncoder

    random = np.random.default_rng(0)
    num_videos = len(indexed.records)
    has_text = random.permutation(num_videos) < num_videos // 2
    captions = indexed.captions
    lexical = Words([each[-1] if own else "" for each, own in zip(captions, has_text, strict=True)])
    judge = [Words([each[n] if n < len(each) else "" for each in captions]) for n in range(5)]
    asked = [(n, query) for n in range(photographs) for query in captions[n][:-1]]
    asked += [(n, captions[n][0]) for n in range(photographs, num_videos) if not has_text[n]]
    model, tokenizer = open_model(model_name)
    queries = TextEncoder(model.clip, tokenizer).encode([query for _, query in asked]).numpy()
    tokens = TokenEncoder(model.clip, tokenizer).encode_tokens([query for _, query in asked])
    starts = np.cumsum(indexed.segment_counts) - indexed.segment_counts
    frames = np.split(indexed.frames, np.cumsum(indexed.frame_counts)[:-1])
    questions = []
    for (wanted, query), embedding, words in zip(asked, queries, tokens, strict=True):
        scores = {
            "video": indexed.videos @ embedding,
            "moment": np.maximum.reduceat(indexed.segments @ embedding, starts),
            "lexical": lexical.bm25(query),
        }
        rankings = {
            name: [n for n in np.argsort(-each, kind="stable")[:CANDIDATES].tolist() if each[n] > 0]
            for name, each in scores.items()
        }
        found = rankings["lexical"]
        rankings["leading"] = leading(found, scores["lexical"][found].tolist())
        candidates = sorted({n for each in rankings.values() for n in each})
        alike = np.max([each.cosines(query) for each in judge], axis=0)
        judged = np.searchsorted(GRADES, alike, side="right")
        judged[wanted] = 4
        ranks = {
            name: [each.index(n) + 1 if n in each else np.nan for n in candidates]
            for name, each in rankings.items()
            if name != "leading"
        }
        interaction = late_interaction_with_videos(
            words.numpy(),
            np.concatenate([frames[n] for n in candidates]),
            counts=indexed.frame_counts[candidates],
        )
        columns = {
            "video_similarity": scores["video"][candidates],
            "moment_similarity": scores["moment"][candidates],
            "late_interaction": interaction,
            "lexical": np.where(has_text, scores["lexical"], np.nan)[candidates],
            **{f"{name}_rank": each for name, each in ranks.items()},
        }
        features = assemble_features(columns, num_candidates=len(candidates))
        questions.append(
            Question(wanted, features, judged[candidates], rankings, candidates, judged)
        )
    return questions


def by_fusion(question: Question, sources: tuple[str, ...]) -> np.ndarray:
    """Relevance in the order of the ranks."""
    fused = fuse_reciprocal_ranks({name: question.rankings[name] for name in sources})
    return question.judged[[each.item for each in fused]]  # type: ignore[index]


def measured(questions: list[Question], *, seed: int) -> dict[str, np.ndarray]:
    """NDCG@10 of each held-out query by each way of ranking."""
    different = np.unique([question.wanted for question in questions])
    shuffled = np.random.default_rng(seed).permutation(different)
    trained_on = set(shuffled[: int(TRAIN_SHARE * len(different))].tolist())
    train = [question for question in questions if question.wanted in trained_on]
    test = [question for question in questions if question.wanted not in trained_on]
    ranker = train_ranker(
        np.concatenate([question.features for question in train]),
        np.concatenate([question.relevance for question in train]),
        groups=np.repeat(np.arange(len(train)), [len(question.relevance) for question in train]),
        seed=seed,
    )
    if seed == 0:
        every = np.abs(ranker.contributions(np.concatenate([q.features for q in test])))
        top = every[:, :-1].mean(axis=0)
        best = np.argsort(-top)[:6]
        print(f"{len(train)} queries trained on, {len(test)} measured; {ranker.num_trees} trees")
        print("counts most: " + ", ".join(f"{FEATURE_NAMES[n]} {top[n]:.2f}" for n in best))
    found: dict[str, list[float]] = {}
    for question in test:
        learned = question.relevance[np.argsort(-ranker.score(question.features), kind="stable")]
        orders = {
            "video": by_fusion(question, ("video",)),
            "words": by_fusion(question, ("lexical",)),
            "fused: video, words": by_fusion(question, ("video", "lexical")),
            "fused: video, moment, words": by_fusion(question, ("video", "moment", "lexical")),
            "fused: video, leading words": by_fusion(question, ("video", "leading")),
            "learned": learned,
        }
        for name, order in orders.items():
            found.setdefault(name, []).append(ndcg(order, k=10, judged=question.judged))
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    options = parse_options(__doc__, photographs=None, films=None, model="mini", splits="5")
    folders = [Path(options[name]) for name in ("photographs", "films")]
    photographs = len(read_indexes(folders[:1]).records)
    questions = ask(read_indexes(folders), photographs, options["model"])
    splits = [measured(questions, seed=seed) for seed in range(int(options["splits"]))]
    print(f"{'NDCG@10':30}{'first split':>24}{'mean of splits':>18}")
    for name, values in splits[0].items():
        low, high = interval(values)
        mean = np.mean([split[name].mean() for split in splits])
        print(f"{name:30}{f'{values.mean():.3f} ({low:.3f}-{high:.3f})':>24}{mean:>18.3f}")
    best = max((name for name in splits[0] if "fused" in name), key=lambda n: splits[0][n].mean())
    gain = splits[0]["learned"] - splits[0][best]
    low, high = interval(gain)
    print(f"learned - {best}: {gain.mean():.3f} ({low:.3f}-{high:.3f})")


if __name__ == "__main__":
    main()
