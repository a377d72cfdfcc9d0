"""Queries -> a model of words, with how fast what was asked gets old, and trees.

The last queries are held out: on them the half-life is chosen, and the trees learn to order what
the earlier ones suggest. Then all are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import numpy as np

from reelseek.recommendation.completion.bit_trees import MAX_LEAVES, BitTrees
from reelseek.recommendation.completion.word_counts import (
    WordedQuery,
    count_words,
    recent_weights,
)
from reelseek.recommendation.completion.word_model import K, WordModel
from reelseek.recommendation.completion.word_vectors import Embed, WordVectors

_HELD_OUT = 0.2  # of the queries, the last ones
_MAX_HELD_OUT = 12_000
_MIN_HELD_OUT = 500  # for half-lives and trees
_MAX_ASKED = 1_500  # of them, that half-lives are compared on
_HALF_LIVES = (inf, 1.0, 0.5, 0.25)  # of queries, in lengths of the log
_NUM_LETTERS = (1, 2, 3)  # typed, that the trees learn from
_NUM_TREES = 150
_LEARNING_RATE = 0.1

Report = Callable[[str], None]


def train_word_model(
    queries: Sequence[WordedQuery],
    *,
    min_users: int = 0,
    with_trees: bool = True,
    with_background: bool = True,
    embed: Embed | None = None,
    seed: int = 0,
    report: Report = lambda _: None,
) -> WordModel:
    """Trains on queries in order of time; the same queries and seed give the same model.

    Args:
        min_users: as of `count_words`.
        with_trees: False for the mixture of counts alone, in a tenth of the time.
        with_background: as of `count_words`; only where there are no trees.
        embed: what words resemble each other, by a text model.
        report: told what is being done.
    """
    num_held_out = min(int(_HELD_OUT * len(queries)), _MAX_HELD_OUT)
    half_life, trees = inf, None
    if with_trees and num_held_out >= _MIN_HELD_OUT:
        earlier, later = queries[:-num_held_out], queries[-num_held_out:]
        report(f"words: choosing a half-life on {min(len(later), _MAX_ASKED):,} queries")
        half_life, model = _choose_half_life(earlier, later, min_users=min_users)
        report(f"words: half-life {half_life:g} queries; training on {len(later):,} queries")
        vectors = _train_vectors(model, earlier, embed=embed, seed=seed, min_users=min_users)
        trees = train_trees(WordModel(model.tables, vectors=vectors), later, seed=seed)
    report(f"words: counting {len(queries):,} queries")
    tables = count_words(
        _aged(queries, half_life),
        min_users=min_users,
        with_background=with_background or with_trees,
    )
    vectors = None
    if trees is not None:  # which know what to make of them
        report("words: training vectors on all queries")
        vectors = _train_vectors(
            WordModel(tables), queries, embed=embed, seed=seed, min_users=min_users
        )
    return WordModel(tables, vectors=vectors, trees=trees)


def mean_reciprocal_rank(
    model: WordModel, queries: Sequence[WordedQuery], *, num_letters: Sequence[int] = (1, 2)
) -> float:
    """MRR@10 of the words of queries from their first letters."""
    total = weight = 0.0
    for query in queries:
        for place, word in enumerate(query.words):
            for letters in (word[:n] for n in num_letters if len(word) > n):
                found = [each.word for each in model.complete(query.words[:place], letters, 10)]
                total += query.weight / (found.index(word) + 1) if word in found else 0.0
                weight += query.weight
    return total / weight if weight else 0.0


def _train_vectors(
    model: WordModel,
    queries: Sequence[WordedQuery],
    *,
    embed: Embed | None,
    seed: int,
    min_users: int,
) -> WordVectors | None:
    # Imports PyTorch, which takes seconds: only where there is something to train.
    from reelseek.recommendation.completion.word_vector_training import train_word_vectors

    # Vectors remember single queries: they see only what enough users asked as a whole.
    shared = [each for each in queries if each.users is None or len(each.users) >= min_users]
    return train_word_vectors(model.tables, shared, embed=embed, seed=seed)


def _choose_half_life(
    earlier: Sequence[WordedQuery], later: Sequence[WordedQuery], *, min_users: int
) -> tuple[float, WordModel]:
    """Returns the half-life in queries that is best for the later ones, and the model with it."""
    # Evenly spread, as neighbours in a log are alike.
    asked = later[:: max(1, len(later) // _MAX_ASKED)]
    best: tuple[float, float, WordModel] | None = None
    for share in _HALF_LIVES:
        half_life = share * len(earlier)
        model = WordModel(count_words(_aged(earlier, half_life), min_users=min_users))
        value = mean_reciprocal_rank(model, asked)
        if best is None or value > best[0]:
            best = value, half_life, model
    assert best is not None
    return best[1], best[2]


def _aged(queries: Sequence[WordedQuery], half_life: float) -> list[WordedQuery]:
    weights = recent_weights(len(queries), half_life)
    return [
        replace(query, weight=query.weight * float(weight))
        for query, weight in zip(queries, weights, strict=True)
    ]


def train_trees(model: WordModel, queries: Sequence[WordedQuery], *, seed: int) -> BitTrees | None:
    """Trains LambdaMART (Burges 2010) on queries that the model has not counted; None where
    LightGBM is not installed."""
    try:
        import lightgbm
    except ImportError:
        return None
    rows, groups, labels = [], [], []
    for query in queries:
        for place, word in enumerate(query.words):
            target = model.vocabulary.id_of(word)
            if target < 0:
                continue
            for num_letters in _NUM_LETTERS:
                if len(word) > num_letters:
                    ids, features = ranked_features(model, query.words[:place], word[:num_letters])
                    if target in ids:
                        rows.append(features)
                        groups.append(len(ids))
                        labels.append(ids == target)
    if not rows:
        return None
    booster = lightgbm.train(
        {
            "objective": "lambdarank",
            "lambdarank_truncation_level": 10,
            "learning_rate": _LEARNING_RATE,
            "num_leaves": MAX_LEAVES - 8,
            "min_data_in_leaf": 100,
            "feature_fraction": 0.6,
            "num_threads": 1,
            "deterministic": True,
            "seed": seed,
            "verbose": -1,
        },
        lightgbm.Dataset(np.concatenate(rows), np.concatenate(labels).astype(int), group=groups),
        num_boost_round=_NUM_TREES,
    )
    return BitTrees.from_lightgbm(booster.dump_model())


def ranked_features(
    model: WordModel, before: Sequence[str], letters: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of the mixture's best words `(n,)`, and their features `(n, F)`."""
    first, last = model.vocabulary.range_of(letters)
    context = model.context(before, first, last)
    ids = model.candidates(context, first, last)
    sources = model.sources(context, ids)
    scores = model.mixed(context, ids, sources)
    best = np.argsort(-scores, kind="stable")[:K]
    features = model.features(
        context, ids[best], sources[best], scores[best],
        bounds=(first, last), num_letters=len(letters),
    )  # fmt: skip
    return ids[best], features
