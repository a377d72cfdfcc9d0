"""Past queries, and queries that are asked -> how well the whole of each is completed.

A prefix is the first letters of the folded query; each query is asked once for each number of
letters that leaves one to complete. MRR@10 is the mean over all these, weighted by the counts:
sum(count / rank) / sum(count), which is 0 for a rank beyond 10.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import numpy as np

from reelseek.recommendation.completion.completer import Completer, alphabet_of
from reelseek.recommendation.completion.forecast import (
    PLAIN,
    Forecast,
    PopularityTracker,
    PrefixGroups,
    as_array,
)
from reelseek.recommendation.completion.latency import Latency
from reelseek.recommendation.completion.phrases import MAX_USERS, Phrases, build_phrases
from reelseek.recommendation.completion.query_files import DailyCounts
from reelseek.recommendation.completion.reciprocal_ranks import K, ReciprocalRanks
from reelseek.recommendation.completion.tokens import words
from reelseek.recommendation.completion.word_counts import worded
from reelseek.recommendation.completion.word_training import train_word_model

_UNDATED = 0  # the ordinal of what comes before all days


def evaluate_queries(
    log: DailyCounts,
    test: DailyCounts,
    letters: tuple[int, int],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Asks the queries of each test day, answered from all earlier days of both files.

    Args:
        letters: least and most that are typed.
    """
    queries = sorted({query for days in (log, test) for day in days.values() for query in day})
    positions = {query: number for number, query in enumerate(queries)}
    tracker = PopularityTracker(queries)
    groups = PrefixGroups(queries, *letters)
    system, latency = ReciprocalRanks(), Latency()
    sums = {"table": 0.0, "ceiling": 0.0, "weight": 0.0}
    chosen: dict[str, str] = {}
    seen: Counter[str] = Counter()
    size_mb = 0.0
    for day, learned, asked in _in_order(log, test):
        if asked:
            chosen[_name(day)] = _describe(next(iter(tracker.weights())))
            report(f"{_name(day)}: {len(asked):,} queries asked, best: {chosen[_name(day)]}")
            counts = as_array(asked, positions)
            weights = groups.weights(counts)
            sums["weight"] += float(weights.sum())
            plain = groups.reciprocal_ranks(tracker.popularity(PLAIN), counts)
            sums["table"] += float((plain * weights).sum())
            own = groups.reciprocal_ranks(counts, counts)
            sums["ceiling"] += float((own * weights).sum())
            completer, size_mb = _completer(queries, tracker.popularity(), seen)
            for query, count in asked.items():
                for num_letters in range(letters[0], min(letters[1], len(query) - 1) + 1):
                    prefix = query[:num_letters]
                    found = latency.timed(completer.best, prefix, K)
                    system.add(query, found, count, group=str(num_letters))
        tracker.add(day, as_array(learned, positions))
        seen.update(learned)
    weight = sums["weight"] or 1.0
    return {
        "MRR@10": system.mean(),
        **latency.summary(),
        "baselines": {"table": sums["table"] / weight},
        "ceiling": sums["ceiling"] / weight,
        "by_letters": system.means(),
        "num_asked": system.num_asked,
        "best_forecasts": chosen,
        "size_mb": round(size_mb, 2),
    }


def _in_order(log: DailyCounts, test: DailyCounts) -> list[tuple[int, Counter[str], Counter[str]]]:
    """Days in order, with what is learned on each and what is asked before that.

    What has no date is learned before all days, and asked after them.
    """
    undated_log, undated_test = log.get(None, Counter()), test.get(None, Counter())
    days = sorted({day for each in (log, test) for day in each if day is not None})
    order = [(_UNDATED, undated_log, Counter[str]())] if undated_log else []
    for day in days:
        asked = test.get(day, Counter())
        order.append((day, log.get(day, Counter()) + asked, asked))
    if undated_test:
        order.append(((days or [_UNDATED])[-1] + 1, Counter(), undated_test))
    return order


def _completer(
    queries: Sequence[str], popularity: np.ndarray, seen: Counter[str]
) -> tuple[Completer, float]:
    """A completer of what has been asked, and its size in MB."""
    known = np.flatnonzero(popularity > 0)
    texts = [queries[number] for number in known]
    users = np.full(len(texts), MAX_USERS)
    tries, arrays = build_phrases(texts, popularity[known], num_users=users)
    # Trees do not pay here: words only fill the places that past queries leave.
    model = train_word_model(
        worded((words(query), float(count)) for query, count in seen.items()),
        with_trees=False,
        with_background=False,
    )
    size = sum(len(trie.tobytes()) for trie in tries.values()) + sum(
        a.nbytes for a in arrays.values()
    )
    completer = Completer(Phrases(tries, arrays), model, alphabet=alphabet_of(texts))
    return completer, (size + model.num_bytes) / 1e6


def _name(day: int) -> str:
    return date.fromordinal(day).isoformat() if day > 1 else "undated"


def _describe(forecast: Forecast) -> str:
    return f"half-life {forecast.half_life_days:g} days, trend {forecast.trend:g}"
