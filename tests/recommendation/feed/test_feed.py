"""The feed of a small index: nothing seen, authors apart, and exploration as it is logged."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import IndexContent
from reelseek.recommendation.diversity import DiversityRule
from reelseek.recommendation.feed.candidates import SequenceSource, Taste
from reelseek.recommendation.feed.feed import Feed, FeedSettings, Seen
from reelseek.recommendation.feed.personal import PersonalView
from reelseek.recommendation.feed.ranker import FeedWeights
from reelseek.recommendation.live.state import LogState
from tests.recommendation.logs import DAY, NOW, event, ids_in_order, index_of_axes, logged

NUM = 24


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    reader = index_of_axes(
        tmp_path_factory.mktemp("feed"),
        [number % 6 for number in range(NUM)],
        author=[("one" if number < 8 else None) for number in range(NUM)],
        date=["2026-05-0" + str(1 + number % 9) for number in range(NUM)],
    )
    catalogue = ItemCatalogue.of(reader)
    yield catalogue, IndexContent(catalogue), ids_in_order(reader, NUM)
    reader.close()


def view_of(catalogue, events, **options) -> PersonalView:
    state = LogState()
    state.apply(logged(events))
    state.count_from()
    return PersonalView(state, catalogue, **options)


def answer(library, events, user, *, k=10, seed=0, sources=None, at=NOW, options=None, **values):
    catalogue, content, _ = library
    view = view_of(catalogue, events, **(options or {}))
    taste, seen = view.user(user, now_seconds=at)
    feed = Feed(catalogue, content, FeedSettings(**values), sources)
    rng = np.random.default_rng(seed)
    return feed.answer(taste, seen, k, now_seconds=at, rng=rng)


def clicks(library, **videos_by_user) -> list:
    ids = library[2]
    return [
        event("click", user, ids[number], at=NOW - 100 + i)
        for user, numbers in videos_by_user.items()
        for i, number in enumerate(numbers)
    ]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, NUM - 1)), st.integers(1, 30), st.integers(0, 9))
def test_nothing_seen_nothing_twice_and_as_many_as_there_are(library, watched, k, seed):
    found = answer(library, clicks(library, ann=sorted(watched)), "ann", k=k, seed=seed)
    rows = [each.row for each in found]
    seen = set(library[0].rows([library[2][number] for number in watched]).tolist())
    assert len(set(rows)) == len(rows) and not seen & set(rows)
    assert len(rows) <= k
    # Of the videos of one axis some are near-duplicates, which are folded.
    assert rows or len(watched) > NUM - 3


def test_what_people_of_like_taste_watched_comes_first(library):
    events = clicks(library, bob=[0, 7, 15], eve=[0, 7, 15], joe=[0, 7], ann=[0])
    found = answer(library, events, "ann", explore_probability=0.0)
    ids = library[2]
    assert library[0].ids[found[0].row] == ids[7]
    assert found[0].reasons[0] == "watched by people who watched the same"
    assert found[0].parts["co_watch"] == 1.0


def test_without_history_what_is_popular_and_new(library):
    events = clicks(library, bob=[9], eve=[9], joe=[9, 14])
    for user in ("nobody", ""):
        found = answer(library, events, user, explore_probability=0.0)
        assert library[0].ids[found[0].row] == library[2][9]
        assert "popular lately" in found[0].reasons
        assert len(found) == 10
    assert len(answer(library, [], "nobody")) == 10  # an empty log


def test_authors_are_spread(library):
    weights = FeedWeights({"content": 1.0})
    rule = DiversityRule(relevance_share=1.0)
    found = answer(library, clicks(library, ann=[0]), "ann", weights=weights, diversity=rule, k=10)
    authors = [int(library[0].authors[each.row]) for each in found]
    assert authors.count(0) <= 2


def test_what_was_shown_goes_down_and_skipped_is_out(library):
    ids = library[2]
    events = clicks(library, bob=[0, 7], eve=[0, 7], ann=[0])
    shown = [event("impression", "ann", ids[7], at=NOW + i) for i in range(3)]
    weights = FeedWeights({"co_watch": 1.0, "freshness": 0.1, "shown": 2.0})
    first = answer(library, [*events, *shown], "ann", weights=weights, explore_probability=0.0)[0]
    assert library[0].ids[first.row] != ids[7]
    skipped = [event("skip", "ann", ids[7], at=NOW)]
    found = answer(library, [*events, *skipped], "ann", k=24)
    assert ids[7] not in {library[0].ids[each.row] for each in found}


def test_seen_comes_again_after_a_stated_time_and_last(library):
    events = clicks(library, ann=[0, 1])
    options = {"seen_again_days": 30.0}
    soon = answer(library, events, "ann", k=24, options=options)
    late = answer(library, events, "ann", k=24, options=options, at=NOW + 31 * DAY)
    rows = set(library[0].rows(library[2][:2]).tolist())
    assert not rows & {each.row for each in soon}
    again = [each.row for each in late if each.row in rows]
    assert again and set(again) == {each.row for each in late[-len(again) :]}


def test_propensities_are_the_probabilities_of_what_is_shown(library):
    """Of many draws, each place that explores shows each video as often as it says."""
    events = clicks(library, ann=[0, 3])
    catalogue, content, _ = library
    view = view_of(catalogue, events)
    taste, seen = view.user("ann", now_seconds=NOW)
    feed = Feed(catalogue, content, FeedSettings(explore_probability=0.5, explore_every=2))
    rng = np.random.default_rng(0)
    num, shown, said = 2_000, Counter(), {}
    for _ in range(num):
        found = feed.answer(taste, seen, 2, now_seconds=NOW, rng=rng)
        assert found[0].propensity == 1.0 and not found[0].is_explored
        shown[found[1].row] += 1
        said[found[1].row] = found[1].propensity
    assert sum(said.values()) == pytest.approx(1.0)
    for row, propensity in said.items():
        deviation = np.sqrt(propensity * (1 - propensity) / num)
        assert abs(shown[row] / num - propensity) < 5 * deviation


class LastItemModel:
    """Scores items by their number; an item of the index that it does not know, and one that the
    index lacks, are in its catalogue, too."""

    def __init__(self, ids):
        self.item_ids = ["gone", *ids[1:]]

    def item_vectors(self):
        return np.arange(NUM, dtype=np.float32)[:, None]

    def history_vectors(self, histories):
        assert histories[0].tolist() == [3]  # the first of the history is not known
        return np.ones((1, 1), np.float32)


def test_the_sequential_model_is_a_source_and_can_be_left_out(library):
    catalogue, content, ids = library
    source = {"sequence": SequenceSource(LastItemModel(ids), catalogue)}
    events = clicks(library, ann=[0, 3])
    weights = FeedWeights({"sequence": 1.0})
    values = {"weights": weights, "explore_probability": 0.0}
    found = answer(library, events, "ann", sources=source, **values)
    assert catalogue.ids[found[0].row] == ids[NUM - 1]
    view = view_of(catalogue, events)
    feed = Feed(catalogue, content, FeedSettings(**values), source)
    taste, seen = view.user("ann", now_seconds=NOW)
    options = {"now_seconds": NOW, "rng": np.random.default_rng(0), "uses_models": False}
    assert all(not each.parts["sequence"] for each in feed.answer(taste, seen, 9, **options))


def test_weights_of_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"weights\.magic"):
        FeedWeights({"magic": 1.0})


def test_one_video(tmp_path):
    reader = index_of_axes(tmp_path, [0])
    catalogue = ItemCatalogue.of(reader)
    one = catalogue, IndexContent(catalogue), ids_in_order(reader, 1)
    assert [each.row for each in answer(one, [], "ann")] == [0]
    assert answer(one, clicks(one, ann=[0]), "ann") == []
    assert Seen().rows.size == 0 and isinstance(
        view_of(catalogue, []).user("x", now_seconds=NOW)[0], Taste
    )
    reader.close()
