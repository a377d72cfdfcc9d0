import numpy as np
import pytest

from reelseek.recommendation.learning.id_table import IdTable


def table(capacity=10, max_candidates=10):
    return IdTable(capacity=capacity, max_candidates=max_candidates)


def test_no_two_ids_share_a_row():
    ids = table(capacity=5000, max_candidates=1)
    keys = [(0, n) for n in range(3000)] + [(1, n) for n in range(2000)]
    rows = ids.observe(keys, min_sightings=1, now_ms=0)
    assert len(set(rows)) == 5000
    assert ids.find(keys) == rows
    assert ids.size <= 5000


def test_a_key_gets_a_row_when_it_has_been_seen_often_enough():
    ids = table()
    assert ids.observe(["a"], min_sightings=3, now_ms=0) == [-1]
    assert ids.observe(["a", "b"], min_sightings=3, now_ms=1) == [-1, -1]
    assert ids.observe(["a"], min_sightings=3, now_ms=2) == [0]
    assert ids.find(["a", "b"]) == [0, -1]
    assert ids.num_candidates == 1


def test_the_longest_unseen_candidate_is_dropped():
    ids = table(max_candidates=2)
    ids.observe(["a", "b", "a", "c"], min_sightings=3, now_ms=0)  # b goes
    assert ids.observe(["a", "b"], min_sightings=3, now_ms=0) == [0, -1]


def test_a_full_table_gives_up_the_longest_unseen_rows():
    ids = table(capacity=4)
    for now_ms, key in enumerate("abcd"):
        ids.observe([key], min_sightings=1, now_ms=now_ms)
    ids.observe(["a"], min_sightings=1, now_ms=9)
    taken = ids.reclaim(2)
    assert taken.tolist() == [1, 2]
    assert ids.find("abcd") == [0, -1, -1, 3]
    assert sorted(ids.observe(["e", "f"], min_sightings=1, now_ms=10)) == [1, 2]
    assert len(ids) == 4
    assert ids.num_evicted == 2


def test_expired_rows_are_given_out_again():
    ids = table()
    ids.observe(["old"], min_sightings=1, now_ms=5)
    ids.observe(["new"], min_sightings=1, now_ms=50)
    assert ids.expire(before_ms=50).tolist() == [0]
    assert ids.find(["old", "new"]) == [-1, 1]
    assert ids.observe(["next"], min_sightings=1, now_ms=60) == [0]


def test_without_room_a_key_stays_a_candidate():
    ids = table(capacity=1)
    assert ids.observe(["a", "b"], min_sightings=1, now_ms=0) == [0, -1]
    assert ids.num_candidates == 1


def test_a_restored_table_goes_on_in_the_same_way():
    first = table(capacity=6)
    rng = np.random.default_rng(0)

    def use(ids, rng):
        rows = []
        for now_ms in range(200):
            ids.reclaim(2)
            keys = rng.integers(20, size=2).tolist()
            rows.append(ids.observe(keys, min_sightings=2, now_ms=now_ms))
        return rows

    use(first, rng)
    second = table(capacity=6)
    second.grow(first.size)
    rows = range(first.num_used)
    second.set_rows(rows, first.keys_of(rows), num_used=first.num_used)
    second.set_candidates(first.candidates())
    second.last_ms[:] = first.last_ms
    draws = [np.random.default_rng(1) for _ in range(2)]
    assert use(first, draws[0]) == use(second, draws[1])


def test_bounds_are_at_least_one():
    with pytest.raises(ValueError, match="capacity=0"):
        table(capacity=0)


def test_changes_of_candidates_repeat_their_order():
    first, second = table(max_candidates=3), table(max_candidates=3)
    rng = np.random.default_rng(2)
    for now_ms in range(50):
        first.observe(rng.integers(8, size=3).tolist(), min_sightings=4, now_ms=now_ms)
        second.set_candidates(first.take_touched())
        assert second.candidates() == first.candidates()
