import itertools

import msgspec
import numpy as np
import pytest

from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import (
    Click,
    Deletion,
    Impression,
    Like,
    Play,
    Search,
    sha256_of,
)
from reelseek.recommendation.learning.examples import (
    VideoFacts,
    changes_of,
    impressions_of,
    outcomes_of,
)
from reelseek.recommendation.learning.impressions import HEADS
from reelseek.recommendation.learning.joining import Joiner, JoinSettings
from reelseek.recommendation.learning.namespaces import query_key

SETTINGS = JoinSettings(wait_seconds=60, correct_seconds=600, long_view_seconds=18)


class Log:
    """Numbers events in the order in which they are made."""

    def __init__(self):
        self._positions = itertools.count(1)

    def __call__(self, kind, at, video="v", user="u", **fields):
        position = next(self._positions)
        fields.setdefault("request_id", "r")
        event = kind(event_id=str(position), time_seconds=at - 5, user=user, video=video, **fields)
        return LoggedEvent(position, float(at), event)

    def asked(self, at, query, user="u", request_id="r"):
        position = next(self._positions)
        common = {"event_id": str(position), "time_seconds": at - 5, "user": user}
        event = Search(query=query, request_id=request_id, **common)
        return LoggedEvent(position, float(at), event)

    def shown(self, at, video="v", user="u", **fields):
        return self(Impression, at, video, user, **{"position": 1, **fields})


def run(events, settings=SETTINGS):
    joiner = Joiner(settings)
    found = []
    for event in events:
        joiner.add(event)
        found += joiner.take()
    return joiner, found


def test_an_example_has_what_happened_during_the_wait():
    log = Log()
    joiner, found = run(
        [
            log.shown(0, position=3, propensity=0.25, surface="search"),
            log(Click, 5),
            log(Play, 20, watched_seconds=10),
            log(Play, 40, watched_seconds=9),
            log.shown(61, video="w"),
        ]
    )
    (example,) = found
    assert example.outcome == (True, False, True, 19)
    assert (example.position, example.propensity, example.surface) == (3, 0.25, "search")
    assert (example.time_seconds, example.corrects, example.log_position) == (0, None, 1)
    assert joiner.counts.examples == 1


def test_nothing_is_given_out_before_the_wait_is_over():
    log = Log()
    assert run([log.shown(0), log.shown(59.9, video="w")])[1] == []


def test_a_late_positive_corrects():
    log = Log()
    joiner, found = run([log.shown(0), log(Click, 100), log(Like, 120), log(Click, 130)])
    assert [each.outcome for each in found] == [
        (False, False, False, 0),
        (True, False, False, 0),
        (True, True, False, 0),
    ]
    assert found[1].corrects == (False, False, False, 0)
    assert found[2].corrects == (True, False, False, 0)
    assert (joiner.counts.examples, joiner.counts.corrections) == (1, 2)


def test_seconds_alone_do_not_correct():
    log = Log()
    _, found = run([log.shown(0), log(Play, 100, watched_seconds=3)])
    assert len(found) == 1


def test_a_like_can_be_taken_back():
    log = Log()
    _, found = run([log.shown(0), log(Like, 10), log(Like, 90, liked=False)])
    assert [each.liked for each in found] == [True, False]


def test_an_example_has_the_query_of_its_answer():
    log = Log()
    _, found = run(
        [
            log.asked(0, "Cats"),
            log.asked(0, "dogs", user="w"),
            log.shown(1, "a"),
            log.shown(2, "b", request_id="other"),
            log.shown(3, "c", user="w"),
            log.shown(4, "d", user="z"),
            log.asked(5, "late", user="z"),  # within the wait
            log.shown(3000, "e"),
            log.shown(4000, "f"),  # more than an hour after
            log.shown(9000, "g"),
        ]
    )
    keys = {each.video: each.query for each in found}
    assert keys == {
        "a": query_key("cats"),
        "b": "",
        "c": query_key("dogs"),
        "d": query_key("late"),
        "e": query_key("cats"),
        "f": "",
    }


def test_queries_are_bounded_and_forgotten():
    log = Log()
    settings = JoinSettings(wait_seconds=60, correct_seconds=600, max_open=20)
    joiner = Joiner(settings)
    for number in range(100):
        joiner.add(
            log.asked(number / 10, f"q{number}", user=f"u{number % 3}", request_id=str(number))
        )
    assert len(joiner._queries) <= 21
    deletion = Deletion(event_id="d", time_seconds=0, pseudonym_sha256=sha256_of("u1"))
    joiner.add(LoggedEvent(1000, 11.0, deletion))
    assert {user for user, _ in joiner._queries} == {"u0", "u2"}


def test_an_outcome_that_comes_too_late_is_counted():
    log = Log()
    joiner, found = run([log.shown(0), log(Click, 700), log.shown(900, video="w")])
    assert [each.clicked for each in found] == [False]
    assert joiner.counts.unmatched == 1


def test_an_outcome_may_come_before_its_impression():
    log = Log()
    joiner, found = run([log(Click, 0), log.shown(2), log.shown(70, video="w")])
    assert [each.clicked for each in found] == [True]
    assert joiner.counts.unmatched == 0


def test_a_repeated_impression_counts_once():
    log = Log()
    joiner, found = run(
        [log.shown(0), log.shown(1), log.shown(2, request_id="other"), log.shown(100, video="w")]
    )
    assert len(found) == 2
    assert joiner.counts.repeated == 1


def test_time_that_runs_backwards_delays_nothing():
    log = Log()
    _, found = run([log.shown(0), log.shown(100, video="w"), log.shown(50, video="x")])
    assert [each.video for each in found] == ["v"]


def test_memory_is_bounded():
    log = Log()
    settings = JoinSettings(wait_seconds=60, correct_seconds=600, max_open=3)
    joiner, found = run([log.shown(0, video=str(n)) for n in range(10)], settings)
    assert joiner.num_open == 3
    assert [each.video for each in found] == [str(n) for n in range(7)]
    assert joiner.counts.completed_early == 7


def test_a_deleted_user_leaves_nothing():
    log = Log()
    deletion = Deletion(event_id="d", time_seconds=0, pseudonym_sha256=sha256_of("u"))
    joiner, found = run(
        [
            log.shown(0),
            log.shown(0, user="other"),
            log(Click, 1, video="early"),
            LoggedEvent(9, 2.0, deletion),
            log.shown(70, user="other", video="w"),
        ]
    )
    assert [each.user for each in found] == ["other"]
    assert '"u"' not in msgspec.json.encode(joiner.state()).decode()


@pytest.mark.parametrize("seed", range(5))
def test_a_restored_joiner_goes_on_in_the_same_way(seed):
    rng, log = np.random.default_rng(seed), Log()
    kinds = [(Impression, {"position": 1}), (Click, {}), (Play, {"watched_seconds": 12.0})]
    events = []
    for at in np.sort(rng.uniform(0, 3000, 200)):
        kind, fields = kinds[rng.integers(3)]
        video, user = str(rng.integers(20)), str(rng.integers(3))
        events.append(log(kind, at, video, user, **fields))
        if rng.random() < 0.2:
            events.append(log.asked(at, f"query {rng.integers(5)}", user))
    _, expected = run(events)
    joiner, found = run(events[:90])
    other = Joiner(SETTINGS)
    other.restore(msgspec.json.decode(msgspec.json.encode(joiner.state())))
    for event in events[90:]:
        other.add(event)
        found += other.take()
    assert found == expected
    assert any(each.corrects for each in found)
    assert len({each.query for each in found}) > 3


def test_columns_are_those_of_the_model():
    log = Log()
    _, found = run([log.shown(0, surface="search"), log(Click, 90), log.shown(100, video="w")])
    impressions = impressions_of(found, lambda video: VideoFacts(author="a", duration_ms=9e3))
    assert impressions.author.tolist() == ["a", "a"]
    assert impressions.time_ms.tolist() == [0, 0]
    assert impressions.tab.tolist() == ["search", "search"]
    assert outcomes_of(found).labels[:, HEADS.index("click")].tolist() == [0, 1]
    assert changes_of(found[1:]).labels.tolist() == [[0, 1, 0]]
    assert impressions_of([], lambda video: VideoFacts()).user.tolist() == []


def test_waits_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="wait_seconds=700"):
        JoinSettings(wait_seconds=700, correct_seconds=600)
    with pytest.raises(ValueError, match="max_open=0"):
        JoinSettings(max_open=0)
