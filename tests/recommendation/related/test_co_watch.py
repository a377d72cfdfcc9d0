"""Counting what is watched together: against a plain sum over all pairs."""

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.recommendation.related.co_watch import (
    CoWatch,
    CoWatchSettings,
    CoWatchTable,
    co_watch_table,
    pairs_of,
)
from tests.recommendation.logs import DAY, NOW

SETTINGS = CoWatchSettings(window=2, decay=0.5, shrinkage=1.0, half_life_days=10.0)


def expected(histories, now):
    """Counts and watchers by the definition."""
    counts, watchers = defaultdict(float), defaultdict(float)
    for history in histories:
        for last, (time, video) in enumerate(history):
            weight = 2 ** ((time - now) / (10 * DAY))
            watchers[video] += weight
            for first in range(last):
                steps = last - first
                if steps <= 2:
                    pair = frozenset((history[first][1], video))
                    counts[pair] += weight * 0.5 ** (steps - 1)
    return counts, watchers


def similarities(co_watch, video, now=NOW):
    number = co_watch.number(video)
    if number is None:
        return {}
    others, found = co_watch.similar(number, now_seconds=now)
    return {co_watch.ids[o]: s for o, s in zip(others.tolist(), found.tolist(), strict=True)}


def check(co_watch, histories):
    counts, watchers = expected(histories, NOW)
    for video in "abcdef":
        should = {}
        for pair, count in counts.items():
            if video in pair:
                (other,) = pair - {video}
                should[other] = count / (math.sqrt(watchers[video] * watchers[other]) + 1)
        assert similarities(co_watch, video) == pytest.approx(should, rel=1e-5, abs=1e-6)


histories = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40)).map(
        lambda ages: sorted((NOW - DAY * age, video) for video, age in ages.items())
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_a_table_holds_the_sums(found):
    check(CoWatch(co_watch_table(found, SETTINGS), SETTINGS), found)


@settings(max_examples=60, deadline=None)
@given(histories, histories)
def test_replacing_histories_is_as_counting_anew(before, after):
    co_watch = CoWatch(co_watch_table(before, SETTINGS), SETTINGS)
    num = max(len(before), len(after))
    before, after = ([*each, *[[]] * (num - len(each))] for each in (before, after))
    for old, new in zip(before, after, strict=True):
        co_watch.replace(old, new)
    check(co_watch, after)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_growing_histories_are_as_counting_anew(found):
    co_watch = CoWatch(CoWatchTable.empty(), SETTINGS)
    for history in found:
        for end in range(len(history)):
            co_watch.replace(history[:end], history[: end + 1])
    check(co_watch, found)


def test_empty():
    table = co_watch_table([], SETTINGS)
    assert (table.ids, len(table.neighbors), table.offsets.tolist()) == ((), 0, [0])
    co_watch = CoWatch(table, SETTINGS)
    assert co_watch.number("a") is None
    assert co_watch.num_watchers(None, now_seconds=NOW) == 0
    assert len(co_watch.popular(now_seconds=NOW)) == 0
    assert len(co_watch_table([[(NOW, "a")]], SETTINGS).neighbors) == 0  # one user, one video


def test_only_the_nearest_are_kept():
    few = CoWatchSettings(num_neighbors=1, window=5, decay=1.0, shrinkage=1.0)
    table = co_watch_table([[(NOW, "a"), (NOW, "b")], [(NOW, "a"), (NOW, "b"), (NOW, "c")]], few)
    assert similarities(CoWatch(table, few), "a").keys() == {"b"}


def test_weights_fade_and_popularity_is_of_lately():
    co_watch = CoWatch(co_watch_table([[(NOW, "a"), (NOW, "b")]], SETTINGS), SETTINGS)
    number = co_watch.number("a")
    assert co_watch.num_watchers(number, now_seconds=NOW) == pytest.approx(1)
    assert co_watch.num_watchers(number, now_seconds=NOW + 10 * DAY) == pytest.approx(0.5)
    assert similarities(co_watch, "a")["b"] == pytest.approx(0.5)
    assert similarities(co_watch, "a", NOW + 10 * DAY)["b"] == pytest.approx(0.5 / 1.5)
    popular = co_watch.popular(now_seconds=NOW + 7 * DAY)
    np.testing.assert_allclose(popular, 0.5)


def test_a_pair_of_one_user_is_at_most_one():
    history = [(NOW + i, f"v{i}") for i in range(100)]
    assert max(weight for *_, weight in pairs_of(history, CoWatchSettings())) <= 1.0
    assert sum(1 for _ in pairs_of(history, CoWatchSettings())) < 10 * 100
