import math

import numpy as np
import pytest

from reelseek.recommendation.data.interactions import Interaction, InteractionLog
from reelseek.recommendation.data.readers import from_event_log, from_kuairand, from_sequences
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Click, Impression, Like, Play, Search, Skip

NOW = 1.77e9


def test_times_out_of_order_are_sorted_and_repeats_dropped():
    log = InteractionLog.of(
        [
            Interaction("u", "b", 3.0, "click"),
            Interaction("u", "a", 1.0, "click"),
            Interaction("u", "b", 3.0, "click"),
            Interaction("u", "b", 3.0, "like"),
            Interaction("u", "c"),
            Interaction("u", "c"),
        ]
    )
    assert [(each.item, each.kind) for each in log] == [
        ("a", "click"),
        ("b", "click"),
        ("b", "like"),
        ("c", "choice"),
        ("c", "choice"),
    ]
    assert math.isnan(log.times_seconds[-1])
    assert log.sequences().histories()[0].tolist() == [0, 1, 2]


def test_choices_are_what_counts_as_one():
    log = InteractionLog.of(
        [
            Interaction("u", "a", 1.0, "impression"),
            Interaction("u", "b", 2.0, "play", watched_share=0.1),
            Interaction("u", "c", 3.0, "play", watched_share=0.9),
            Interaction("v", "d", 4.0, "skip"),
            Interaction("v", "e", 5.0, "play"),
        ]
    )

    def chosen(**options):
        found = log.sequences(**options)
        ids = found.items.ids()
        return {u: [ids[i] for i in h] for u, h in zip(found.users, found.histories(), strict=True)}

    assert chosen() == {"u": ["b", "c"], "v": ["e"]}
    assert chosen(min_watched_share=0.5) == {"u": ["c"]}
    assert chosen(kinds=["impression", "skip"]) == {"u": ["a"], "v": ["d"]}
    assert log.sequences(kinds=["like"]).num_users == 0


def test_kinds_are_known():
    with pytest.raises(ValueError, match="kind='wink': must be one of impression, click"):
        InteractionLog.of([Interaction("u", "a", kind="wink")])


def test_nothing():
    log = InteractionLog.of([])
    assert (len(log), list(log), log.sequences().num_events) == (0, [], 0)


def test_sequences_are_choices_without_times():
    sequences = Sequences.of([("u", ["b", "a", "b"]), ("v", ["a"])])
    log = from_sequences(sequences)
    assert {each.kind for each in log} == {"choice"}
    found = log.sequences()
    assert found.users == sequences.users
    assert [h.tolist() for h in found.histories()] == [[0, 1, 0], [1]]


@pytest.fixture
def event_log(tmp_path):
    log = EventLog(tmp_path / "events", clock=lambda: NOW + 100)
    yield log
    log.close()


def test_events_of_the_service(event_log):
    about = {"user": "ann", "session": "s1"}
    event_log.append(
        [
            Search(event_id="0", time_seconds=NOW, query="cats", **about),
            Impression(
                event_id="1", time_seconds=NOW + 1, video="a", position=2, propensity=0.25, **about
            ),
            Play(event_id="3", time_seconds=NOW + 3, video="a", watched_seconds=6, **about),
            Click(event_id="2", time_seconds=NOW + 2, video="a", surface="related", **about),
            Like(event_id="4", time_seconds=NOW + 4, video="a", liked=False, **about),
            Skip(event_id="5", time_seconds=NOW + 5, video="b", session="s2"),
            Play(event_id="6", time_seconds=NOW + 6, video="b", watched_seconds=5, session="s2"),
        ]
    )
    rows = list(from_event_log(event_log, duration_seconds={"a": 12.0}.get))
    assert [(row.user, row.item, row.kind) for row in rows] == [
        ("ann", "a", "impression"),
        ("ann", "a", "click"),
        ("ann", "a", "play"),
        ("ann", "a", "unlike"),
        ("s2", "b", "skip"),
        ("s2", "b", "play"),
    ]
    assert rows[2].watched_share == 0.5
    assert rows[2].time_seconds == NOW + 3
    assert math.isnan(rows[5].watched_share)
    assert rows[0].context == {"session": "s1", "position": 2, "propensity": 0.25}
    assert rows[1].context["surface"] == "related"


def test_deleted_users_are_in_no_log(event_log):
    event_log.append(
        [
            Click(event_id="1", time_seconds=NOW, video="a", user="ann", session="s1"),
            Click(event_id="2", time_seconds=NOW, video="b", user="bob"),
        ]
    )
    event_log.delete_user("ann")
    assert [row.user for row in from_event_log(event_log)] == ["bob"]


def test_deletions_while_it_reads_take_back_what_was_read(event_log, monkeypatch):
    event_log.append(
        [
            Click(event_id="1", time_seconds=NOW, video="a", user="ann", session="s1"),
            Click(event_id="2", time_seconds=NOW, video="b", user="bob", session="s2"),
            Click(event_id="3", time_seconds=NOW, video="c", user="eve", session="s3"),
        ]
    )
    read, first = event_log.read, True

    def read_and_delete(**options):
        nonlocal first
        rows = read(**options)
        if first:
            first = False
            event_log.delete_user("ann")
            event_log.delete_user("s3")
        return rows

    monkeypatch.setattr(event_log, "read", read_and_delete)
    assert [row.user for row in from_event_log(event_log)] == ["bob"]


def test_an_empty_log_of_events(event_log):
    assert len(from_event_log(event_log)) == 0


KUAIRAND = {
    "user_id": [1, 1, 2],
    "video_id": [10, 11, 10],
    "time_ms": [2_000_500, 1_000_000, 3_000_000],
    "is_click": [1, 0, 0],
    "is_like": [1, 0, 0],
    "is_hate": [0, 1, 0],
    "play_time_ms": [3000, 0, 500],
    "duration_ms": [6000, 5000, 0],
    "tab": [1, 1, 4],
    "author_id": [7, 8, 7],
    "tag": ["3", None, "3"],
    "long_view": [1, 0, 0],
}


def test_kuairand(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "events.parquet"
    parquet.write_table(pyarrow.table(KUAIRAND), path)
    rows = list(from_kuairand(path))
    assert [(row.user, row.item, row.time_seconds, row.kind) for row in rows] == [
        ("1", "11", 1000.0, "impression"),
        ("1", "11", 1000.0, "skip"),
        *(("1", "10", 2000.5, kind) for kind in ("impression", "click", "play", "like")),
        ("2", "10", 3000.0, "impression"),
        ("2", "10", 3000.0, "play"),
    ]
    assert rows[4].watched_share == 0.5
    assert np.isnan([rows[0].watched_share, rows[7].watched_share]).all()
    assert rows[0].context["author_id"] == 8

    parquet.write_table(pyarrow.table({"user_id": [1]}), path)
    with pytest.raises(ValueError, match=r"events=.*: lacks the column video_id"):
        from_kuairand(path)
    path.write_text("text")
    with pytest.raises(ValueError, match="is no Parquet file"):
        from_kuairand(path)
    with pytest.raises(ValueError, match="no such file"):
        from_kuairand(tmp_path / "none")
