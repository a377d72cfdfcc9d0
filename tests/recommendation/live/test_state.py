"""The state of the log: histories, deletions, robots, and events in any order."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.live.follower import read_all, read_new
from reelseek.recommendation.live.history import HistoryLimits
from reelseek.recommendation.live.state import LogState
from reelseek.recommendation.related.co_watch import CoWatch, co_watch_table
from tests.recommendation.logs import DAY, NOW, deletion, event, logged, watch

USERS, VIDEOS = ("ann", "bob@s1", "@s1", "@s2"), ("a", "b", "c", "d")


def state_of(events, *, counts_from=0, limits=None) -> LogState:
    state = LogState(limits)
    rows = logged(events)
    state.apply(rows[:counts_from])
    state.count_from()
    state.apply(rows[counts_from:])
    return state


def similarities(state: LogState) -> dict[tuple[str, str], float]:
    found = {}
    for video in VIDEOS:
        number = state.co_watch.number(video)
        if number is not None:
            others, values = state.co_watch.similar(number, now_seconds=NOW)
            for other, value in zip(others.tolist(), values.tolist(), strict=True):
                found[video, state.co_watch.ids[other]] = value
    return found


def recounted(state: LogState) -> dict[tuple[str, str], float]:
    other = LogState()
    other._co_watch = CoWatch(
        co_watch_table(state.counted_histories(), state.settings), state.settings
    )
    return similarities(other)


kinds = st.sampled_from(["click", "play", "skip", "like", "impression"])
streams = st.lists(
    st.one_of(
        st.builds(
            lambda kind, user, video, age: event(kind, user, video, at=NOW - 3600 * age),
            *(kinds, st.sampled_from(USERS), st.sampled_from(VIDEOS), st.integers(0, 500)),
        ),
        st.sampled_from(["ann", "bob", "s1", "s2", "nobody"]).map(deletion),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(streams, st.integers(0, 30))
def test_what_is_counted_as_it_comes_is_as_counted_at_the_end(events, counts_from):
    state = state_of(events, counts_from=counts_from)
    assert similarities(state) == pytest.approx(recounted(state), rel=1e-5, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(streams, st.sampled_from(["ann", "bob", "s1", "s2"]))
def test_nothing_is_left_of_who_is_deleted(events, pseudonym):
    events = [each for each in events if not hasattr(each, "pseudonym_sha256")]
    state = state_of([*events, deletion(pseudonym)], counts_from=len(events) // 2)
    others = [e for e in events if pseudonym not in (e.user, e.session)]
    alone = state_of(others)
    assert (state.history(pseudonym) is None) or not state.history(pseudonym).watched
    assert set(similarities(state)) <= set(similarities(alone))


def test_a_deletion_of_a_user_leaves_others_as_they_were():
    events = [
        *(event("click", "ann", v, at=NOW + i) for i, v in enumerate("abc")),
        *(event("click", "bob", v, at=NOW + i) for i, v in enumerate("abd")),
    ]
    for counts_from in (0, 4, 6):
        state = state_of([*events, deletion("ann")], counts_from=counts_from)
        assert similarities(state) == pytest.approx(similarities(state_of(events[3:])), rel=1e-5)
        assert state.history("ann") is None
        assert state.lost_learned == (counts_from > 0)
        assert ("a", "c") not in similarities(state)


def test_a_deleted_user_may_come_again():
    state = state_of([event("click", "ann", "a"), deletion("ann"), event("click", "ann", "b")])
    assert list(state.history("ann").watched) == ["b"]
    state.apply(logged([deletion("ann")], first=4))
    assert state.history("ann") is None


def test_a_session_of_a_user_is_deleted_alone():
    state = state_of([event("click", "ann@s1", "a"), event("click", "ann@s2", "b"), deletion("s1")])
    assert list(state.history("ann").watched) == ["b"]


def test_what_counts_as_chosen():
    state = state_of(
        [
            event("click", "ann", "left", at=NOW),
            event("skip", "ann", "left", at=NOW + 1),
            event("play", "ann", "glance", at=NOW + 2, watched_seconds=1.0),
            event("play", "ann", "watched", at=NOW + 3, watched_seconds=30.0),
            event("like", "ann", "liked", at=NOW + 4),
            event("skip", "ann", "liked", at=NOW + 5),
            event("like", "ann", "unknown", at=NOW + 6, liked=False),
            event("impression", "ann", "shown", at=NOW + 7),
            event("impression", "ann", "shown", at=NOW + 8),
        ]
    )
    history = state.history("ann")
    assert [video for video, _ in history.recent(9)] == ["liked", "watched"]
    assert set(history.watched) == {"left", "glance", "watched", "liked"}
    assert history.shown == {"shown": 2}


def test_times_out_of_order_and_repeats():
    clicks = [event("click", "ann", v, at=NOW + 60 * i) for i, v in enumerate("abcd")]
    ordered = similarities(state_of(clicks))
    for order in itertools.permutations(clicks):
        found = state_of([*order, order[0]])
        assert similarities(found) == pytest.approx(ordered)
        assert [v for v, _ in found.history("ann").recent(9)] == list("dcba")


def test_a_clock_that_is_ahead_is_not_believed():
    state = LogState()
    rows = logged([event("click", "ann", "a", at=NOW)])
    late = [type(rows[0])(1, NOW - DAY, rows[0].event)]
    state.apply(late)
    assert state.history("ann").watched["a"].last_seconds == NOW - DAY


def test_a_robot_counts_as_one_user_of_its_daily_items():
    limits = HistoryLimits(max_items=500, max_items_per_day=20)
    events = [event("click", "bot", f"v{i % 3000}", at=NOW + i) for i in range(5_000)]
    state = state_of(events, limits=limits)
    (counted,) = state.counted_histories()
    assert len(counted) <= 20
    assert len(state.history("bot").watched) <= 500
    popular = state.co_watch.popular(now_seconds=NOW + 5_000)
    assert popular.max() <= 1.0 + 1e-9 and popular.sum() <= 20 + 1e-6
    for number in range(len(state.co_watch.ids)):
        _, values = state.co_watch.similar(number, now_seconds=NOW)
        assert not len(values) or values.max() <= 1 / (1 + state.settings.shrinkage) + 1e-6


def test_a_robot_that_repeats_one_video_counts_once():
    state = state_of([event("play", "bot", "a", at=NOW + i) for i in range(3_000)])
    assert state.co_watch.popular(now_seconds=NOW).sum() == pytest.approx(1.0)


def test_users_are_forgotten_with_what_retention_drops():
    state = state_of([event("click", "ann", v) for v in "ab"] + [event("click", "bob", "a")])
    state.drop_until(2)
    assert state.history("ann") is None and list(state.history("bob").watched) == ["a"]
    assert similarities(state) == {}


@pytest.mark.parametrize(
    "user", ["\u202eann", "a" * 128, "'; DROP TABLE events;--", "../..", "名前"]
)
def test_pseudonyms_of_any_text(user):
    state = state_of([event("click", user, "a"), event("click", user, "<b>")])
    assert list(state.history(user).watched) == ["a", "<b>"]
    state.apply(logged([deletion(user)], first=3))
    assert state.history(user) is None


def test_a_state_follows_the_log(tmp_path):
    log = EventLog(tmp_path)
    state = LogState()
    read_all(log, state)
    state.count_from()
    assert (state.position, len(state)) == (0, 0)
    watch(log, "ann", ["a", "b"], start=NOW)
    assert read_new(log, state) == 2
    assert read_new(log, state) == 0
    log.delete_user("ann")
    read_new(log, state)
    assert state.history("ann") is None and state.num_deletions == 1
    log.close()
