"""What a request may hold: each field's bounds, and which event and field an error names."""

import json
import random

import pytest

from reelseek.recommendation.events.schema import (
    KINDS,
    MAX_EVENTS,
    Click,
    InvalidEvents,
    Like,
    Play,
    Search,
    TooManyEvents,
    parse_events,
)

NOW = 1_800_000_000.0
GOOD = {
    **{"kind": "impression", "event_id": "e", "time_seconds": NOW, "user": "u", "video": "v"},
    **{"position": 1},
}
ABSENT = object()


def parse(*events):
    body = json.dumps({"events": events}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return parse_events(body, now_seconds=NOW)


def changed(**fields):
    return {name: value for name, value in (GOOD | fields).items() if value is not ABSENT}


def test_kinds():
    common = {"event_id": "e", "time_seconds": NOW, "session": "s", "request_id": "r"}
    moment = {"video": "v", "start_seconds": 1, "end_seconds": 2.5, "surface": "for_you"}
    search, click, play, skip, like = parse(
        {"kind": "search", **common, "query": "a dog\n", "num_hits": 0},
        {"kind": "click", **common, **moment},
        {"kind": "play", **common, **moment, "watched_seconds": 3, "schema_version": 1},
        {"kind": "skip", **common, "video": "v", "position": 3},
        {"kind": "like", **common, "video": "v", "liked": False},
    )
    who = {"event_id": "e", "time_seconds": NOW, "session": "s", "request_id": "r"}
    assert search == Search(**who, query="a dog\n", num_hits=0)
    assert click == Click(**who, video="v", start_seconds=1.0, end_seconds=2.5, surface="for_you")
    assert isinstance(play, Play)
    assert (play.watched_seconds, play.schema_version) == (3.0, 1)
    assert skip.position == 3
    assert like == Like(**who, video="v", liked=False)
    assert list(KINDS) == ["search", "impression", "click", "play", "skip", "like"]
    assert parse() == []


@pytest.mark.parametrize(
    "field, value",
    [
        ("kind", "hover"),
        ("kind", 3),
        ("kind", "Click"),
        ("kind", "deletion"),  # which the log alone adds
        ("event_id", ""),
        ("event_id", "x" * 129),
        ("event_id", "line\n"),
        ("event_id", 7),
        ("time_seconds", "now"),
        ("time_seconds", True),
        ("time_seconds", None),
        ("time_seconds", NOW * 1000),  # milliseconds
        ("time_seconds", NOW + 86401),
        ("time_seconds", 12.5),
        ("time_seconds", -1),
        ("user", None),
        ("user", "\x00"),
        ("user", "x" * 129),
        ("user", ["u"]),
        ("session", ""),
        ("request_id", "x" * 129),
        ("schema_version", 0),
        ("schema_version", 2),
        ("video", ""),
        ("video", None),
        ("position", 0),
        ("position", 1.5),
        ("position", 10**7),
        ("propensity", 0),
        ("propensity", 1.01),
        ("end_seconds", 1),  # without a start
        ("start_seconds", -1),
        ("surface", "Page 1"),
        ("surface", "x" * 33),
    ],
)
def test_refused_values(field, value):
    parse(GOOD)
    with pytest.raises(InvalidEvents, match=rf"^events\[1\]\.{field}: \S+") as raised:
        parse(GOOD, changed(**{field: value}))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("field", ["kind", "event_id", "time_seconds", "video", "position", "user"])
def test_missing_fields(field):
    with pytest.raises(InvalidEvents, match=rf"^events\[1\].*{field}"):
        parse(GOOD, changed(**{field: ABSENT}))


def test_fields_of_other_kinds_are_refused():
    with pytest.raises(InvalidEvents, match=r"^events\[0\].*unknown field `watched_seconds`"):
        parse(changed(watched_seconds=3))
    with pytest.raises(InvalidEvents, match=r"^events\[0\].*`watched_seconds`"):
        parse(changed(kind="play"))
    with pytest.raises(InvalidEvents, match=r"^events\[0\]\.watched_seconds: "):
        parse(changed(kind="play", watched_seconds=-0.1))


@pytest.mark.parametrize("start, end, is_good", [(0, 0, True), (1, 0, False), (2.5, 2.4, False)])
def test_a_moment_ends_after_it_starts(start, end, is_good):
    moment = changed(start_seconds=start, end_seconds=end)
    if is_good:
        assert parse(moment)[0].end_seconds == end
    else:
        with pytest.raises(InvalidEvents, match=r"^events\[0\]\.end_seconds: "):
            parse(moment)


def test_a_moment_may_have_no_end():
    assert parse(changed(start_seconds=3))[0].start_seconds == 3


def test_clocks_may_be_a_little_ahead_and_far_behind():
    assert len(parse(changed(time_seconds=NOW + 86399), changed(time_seconds=1e9))) == 2


def test_number_of_events():
    assert len(parse(*[GOOD] * MAX_EVENTS)) == MAX_EVENTS
    with pytest.raises(TooManyEvents, match=r"^events: 1001 of them; at most 1000"):
        parse(*[GOOD] * (MAX_EVENTS + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"events": {}}',
        b'{"events": [3]}',
        b'{"events": [], "more": 1}',
        b'{"events": [NaN]}',
        b"\xff",
        b'{"events":' + b"[" * 100_000,
        b'{"events": [{"kind": "click", "event_id": "\xff"}]}',
        b'{"events": [{"kind": "click", "event_id": "\\ud800"}]}',
        b'{"events": [{"kind": "click", "event_id": "\\udc00"}]}',
        b'{"events": [{"kind": "click", "event_id": "\xed\xa0\x80"}]}',
        b'{"events": [{"kind": "click", "event_id": "e", "time_seconds": 1e999}]}',
        b'{"events": [{"kind": "' + b"x" * 100_000 + b'"}]}',
    ],
)
def test_refused_bodies(body):
    with pytest.raises(InvalidEvents) as raised:
        parse_events(body, now_seconds=NOW)
    assert len(str(raised.value)) < 400


def test_damaged_bodies_are_parsed_or_refused():
    draws = random.Random(0)
    body = json.dumps({"events": [GOOD, changed(kind="click")]}).encode()
    outcomes = set()
    for _ in range(3000):
        damaged = bytearray(body)
        for _ in range(draws.randint(1, 4)):
            damaged[draws.randrange(len(damaged))] = draws.randrange(256)
        try:
            outcomes.add(type(parse_events(bytes(damaged), now_seconds=NOW)))
        except InvalidEvents:
            outcomes.add(InvalidEvents)
    assert outcomes == {list, InvalidEvents}
