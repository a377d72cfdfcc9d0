"""Past queries, and queries that are asked -> how well each of their words is completed.

Each word of each query, the first included, is asked once for each number of its first letters
that leaves one to complete; all words before it are known. MRR@10 is the mean over all these,
weighted by the queries' counts.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from reelseek.recommendation.completion.latency import Latency
from reelseek.recommendation.completion.query_files import DailyCounts, total_counts
from reelseek.recommendation.completion.reciprocal_ranks import K, ReciprocalRanks
from reelseek.recommendation.completion.tokens import words
from reelseek.recommendation.completion.word_counts import worded
from reelseek.recommendation.completion.word_model import WordModel

Worded: TypeAlias = Sequence[tuple[tuple[str, ...], int]]
_START = ""  # stands before the first word


def evaluate_words(
    log: DailyCounts,
    test: DailyCounts,
    letters: tuple[int, int],
    *,
    train: Callable[[Sequence], WordModel],
) -> dict[str, Any]:
    """Asks the words of each test day, answered from all earlier days of both files.

    Args:
        letters: least and most that are typed.
        train: makes a model of `WordedQuery`s.
    """
    system, unigram, bigram, ceiling = (ReciprocalRanks() for _ in range(4))
    latency = Latency()
    model: WordModel | None = None
    for day in sorted(test, key=lambda each: (each is None, each)):
        before = _split(total_counts(log, before=day))
        if day is not None:
            before += _split(total_counts(test, before=day))
        asked = _split(test[day])
        model = train(worded((query, float(count)) for query, count in before))
        baseline, best = _Bigrams(before, letters), _OwnCounts(asked, letters)
        for place, query, count in _words_of(asked):
            word, head = query[place], query[:place]
            for num_letters in range(letters[0], min(letters[1], len(word) - 1) + 1):
                start, group = word[:num_letters], str(num_letters)
                found = latency.timed(model.complete, head, start, K)
                system.add(word, [each.word for each in found], count, group=group)
                unigram.add(word, baseline.by_itself(start), count, group=group)
                bigram.add(word, baseline.after(head, start), count, group=group)
                ceiling.add(word, best.after(head, start), count, group=group)
    return {
        "MRR@10": system.mean(),
        **latency.summary(),
        "baselines": {"unigram": unigram.mean(), "bigram": bigram.mean()},
        "ceiling": ceiling.mean(),
        "by_letters": system.means(),
        "num_asked": system.num_asked,
        "size_mb": round(model.num_bytes / 1e6, 2) if model else 0.0,
    }


def _split(counts: Mapping[str, int]) -> list[tuple[tuple[str, ...], int]]:
    return [(words(query), count) for query, count in counts.items()]


def _words_of(queries: Worded) -> Iterator[tuple[int, tuple[str, ...], int]]:
    for query, count in queries:
        for place in range(len(query)):
            yield place, query, count


class _Bigrams:
    """The baselines: the words of past queries by count, and those that followed the word before by
    count, filled up with the former."""

    def __init__(self, queries: Worded, letters: tuple[int, int]) -> None:
        self._letters = range(letters[0], letters[1] + 1)
        self._counts: Counter[str] = Counter()
        self._following: dict[str, Counter[str]] = defaultdict(Counter)
        for place, query, count in _words_of(queries):
            self._counts[query[place]] += count
            self._following[query[place - 1] if place else _START][query[place]] += count
        self._by_letters = _best_by_letters(self._counts, self._letters)

    def by_itself(self, start: str) -> Sequence[str]:
        return self._by_letters.get(start, ())

    def after(self, head: tuple[str, ...], start: str) -> Sequence[str]:
        row = self._following.get(head[-1] if head else _START, Counter())
        fitting = (word for word in row if word.startswith(start) and word != start)
        found = sorted(fitting, key=lambda word: (-row[word], -self._counts[word], word))[:K]
        rest = (word for word in self.by_itself(start) if word not in found)
        return [*found, *rest][:K]


class _OwnCounts:
    """The ceiling: of the test's own words, which follow the same words most often."""

    def __init__(self, queries: Worded, letters: tuple[int, int]) -> None:
        following: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for place, query, count in _words_of(queries):
            following[query[:place]][query[place]] += count
        letter_range = range(letters[0], letters[1] + 1)
        self._best = {head: _best_by_letters(row, letter_range) for head, row in following.items()}

    def after(self, head: tuple[str, ...], start: str) -> Sequence[str]:
        return self._best[head].get(start, ())


def _best_by_letters(counts: Mapping[str, int], letters: Iterable[int]) -> dict[str, list[str]]:
    """The most counted words by their first letters."""
    found: dict[str, list[str]] = defaultdict(list)
    for word in sorted(counts, key=lambda each: (-counts[each], each)):
        for start in (word[:n] for n in letters if len(word) > n):
            if len(found[start]) < K:
                found[start].append(word)
    return found
