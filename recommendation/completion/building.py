"""A history of searches -> a completion model, as it is written.

What is suggested passes three gates: enough users asked for it, the block list does not name it,
and, where there is an index, its best hit is probable enough.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reelseek.recommendation.completion.also_searched import (
    Following,
    NextQueries,
    build_also_searched,
    followings,
)
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.completer import alphabet_of
from reelseek.recommendation.completion.forecast import PopularityTracker
from reelseek.recommendation.completion.model_files import BuiltModel
from reelseek.recommendation.completion.phrases import build_phrases
from reelseek.recommendation.completion.search_history import SearchHistory
from reelseek.recommendation.completion.tokens import words
from reelseek.recommendation.completion.word_counts import WordedQuery
from reelseek.recommendation.completion.word_training import train_word_model
from reelseek.recommendation.completion.word_vectors import Embed

_MEASURED_DAYS = 14  # the last, by which forecasts are weighted
_MAX_MEASURED = 100_000  # queries that are compared in that
_MAX_ALSO_SEARCHED = 20_000  # the most popular queries that have something beside
_HALF_LIFE_DAYS = 30.0  # of what was asked one after the other

Report = Callable[[str], None]
Encode = Callable[[Sequence[str]], np.ndarray]  # queries -> `(n, D)`, L2-normalised


@dataclass(frozen=True)
class BuildSettings:
    """How to build.

    Attributes:
        min_users: that must have asked for what is suggested, or used its words one after the
            other.
        block_list: what is never suggested.
        has_answer: whether a query has one; None to ask nobody.
        embed: what words resemble each other; None for counts alone.
        encode: embeddings of queries; None for sessions alone.
        trees: whether trees order the words.
        seed: of what is drawn at random.
    """

    min_users: int
    block_list: BlockList
    has_answer: Callable[[str], bool] | None = None
    embed: Embed | None = None
    encode: Encode | None = None
    trees: bool = True
    seed: int = 0


def build_model(
    history: SearchHistory, settings: BuildSettings, *, report: Report = lambda _: None
) -> tuple[BuiltModel, dict[str, int]]:
    """Returns the model, and how many queries were kept and left out, and why."""
    asked = {q: each for q, each in history.queries.items() if each.by_day}
    figures = {"searches": history.num_searches, "queries": len(asked)}
    known = [q for q, each in asked.items() if len(each.users) >= settings.min_users]
    figures["too_few_users"] = len(asked) - len(known)
    allowed = [query for query in known if not settings.block_list.blocks(query)]
    figures["blocked"] = len(known) - len(allowed)
    kept = sorted(_answered(allowed, settings, report))
    figures["no_answer"] = len(allowed) - len(kept)
    figures["kept"] = len(kept)

    report(f"popularity of {len(kept):,} queries")
    popularity = _popularity(history, kept)
    num_users = np.array([len(asked[query].users) for query in kept])
    tries, arrays = build_phrases(kept, popularity, num_users=num_users)
    model = train_word_model(
        _worded(history, settings),
        min_users=settings.min_users,
        with_trees=settings.trees,
        embed=settings.embed,
        seed=settings.seed,
        report=report,
    )
    parts = [arrays, model.tensors()]
    parts.append(_also_searched(history, kept, popularity, tries["phrases"], settings))
    merged = {name: array for part in parts for name, array in part.items()}
    assert len(merged) == sum(map(len, parts)), "two arrays have the same name"
    details = {
        "min_users": settings.min_users,
        "block_list": list(settings.block_list.entries),
        "alphabet": alphabet_of(kept),
        "log_position": history.log_position,
        **figures,
    }
    return BuiltModel({**tries, "words": model.vocabulary.trie}, merged, details), figures


def _answered(queries: Sequence[str], settings: BuildSettings, report: Report) -> list[str]:
    if settings.has_answer is None:
        return list(queries)
    found = []
    for number, query in enumerate(queries, 1):
        if settings.has_answer(query):
            found.append(query)
        if number % 1_000 == 0:
            report(f"{number:,} of {len(queries):,} queries asked, {len(found):,} have an answer")
    return found


def _popularity(history: SearchHistory, kept: Sequence[str]) -> np.ndarray:
    """`(num_kept,)`, of the day after the last."""
    days: dict[int, dict[int, int]] = defaultdict(dict)
    for number, query in enumerate(kept):
        for day, count in history.queries[query].by_day.items():
            days[day][number] = count
    tracker = PopularityTracker(kept)
    order = sorted(days)
    for place, day in enumerate(order):
        counts = np.zeros(len(kept))
        counts[list(days[day])] = list(days[day].values())
        is_recent = place >= len(order) - _MEASURED_DAYS
        tracker.add(day, counts, measure=is_recent and len(kept) <= _MAX_MEASURED)
    return tracker.popularity()


def _worded(history: SearchHistory, settings: BuildSettings) -> list[WordedQuery]:
    """All queries, also those of few users: their words count where enough users share them."""
    ordered = sorted(history.queries.items(), key=lambda item: item[1].last_seconds)
    return [
        WordedQuery(words(query), float(each.by_day.total()), frozenset(each.users))
        for query, each in ordered
        if each.by_day and not settings.block_list.blocks(query)
    ]


def _also_searched(
    history: SearchHistory,
    kept: Sequence[str],
    popularity: np.ndarray,
    trie: object,
    settings: BuildSettings,
) -> dict[str, np.ndarray]:
    """The arrays of `AlsoSearched`, by the ids of the trie."""
    chosen = np.argsort(-popularity, kind="stable")[:_MAX_ALSO_SEARCHED]
    queries = [kept[number] for number in chosen]
    numbers = {query: number for number, query in enumerate(queries)}
    embeddings = settings.encode(queries) if settings.encode is not None and queries else None
    next_queries = NextQueries(len(queries), _evidence(history, numbers, settings), embeddings)
    built = build_also_searched(
        next_queries, len(queries), allowed=np.ones(len(queries), dtype=bool)
    )
    ids = np.array([trie[query] for query in queries], np.int32)  # type: ignore[index]
    next_ids = np.full((len(kept), built["next_ids"].shape[1]), -1, np.int32)
    own = built["next_ids"]
    if len(queries):
        next_ids[ids] = np.where(own >= 0, ids[np.maximum(own, 0)], -1)
    return {"next_ids": next_ids}


def _evidence(
    history: SearchHistory, numbers: dict[str, int], settings: BuildSettings
) -> list[Following]:
    """What came after what, for enough users."""
    last_day = max((day for _, day, _ in history.sessions), default=0)
    users: dict[tuple[int, int], set[int]] = defaultdict(set)
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for user, day, session in history.sessions:
        age = 0.5 ** ((last_day - day) / _HALF_LIFE_DAYS)
        known = [numbers[query] for query in session if query in numbers]
        seen: set[tuple[int, int]] = set()
        for each in followings(known, age):
            pair = each.first, each.second
            if pair not in seen:  # once a session
                seen.add(pair)
                weights[pair] += each.weight
                users[pair].add(user)
    return [
        Following(first, second, weight)
        for (first, second), weight in weights.items()
        if len(users[first, second]) >= settings.min_users
    ]
