import numpy as np
import pytest

from reelseek.recommendation.learning import store as stores
from reelseek.recommendation.learning.state import encode, take_state
from reelseek.recommendation.personal import follower as followers
from reelseek.recommendation.personal.follower import ModelFollower
from reelseek.recommendation.personal.scorer import PersonalScorer
from tests.recommendation.personal.learned import NUM_VIDEOS, Events, facts_of, learn, open_learner

FACTS = [facts_of(f"v{number}") for number in range(NUM_VIDEOS)]


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch):
    monkeypatch.setattr(followers, "_LOOK_SECONDS", 0.0)


def assert_same(follower, learner, log) -> None:
    """The same scores, and the same state, to the last bit."""
    now = log.now_seconds
    scorer = PersonalScorer(learner.model)
    for user in ("u0", "u7", "u19"):
        expected = scorer.score(user, FACTS, now_ms=1000 * now)
        found = follower.score(user, FACTS, now_seconds=now)
        assert np.array_equal(found.logits, expected.logits)
        assert np.array_equal(found.num_chosen, expected.num_chosen)
    assert follower.current.position == learner.position
    assert encode(take_state(follower.current.model)) == encode(take_state(learner.model))


def test_it_follows_commit_by_commit_over_learners(tmp_path):
    log = Events(500)
    follower = ModelFollower(tmp_path)
    assert not follower.poll()
    num_polls = 0
    for _ in range(4):  # learners, each a new epoch
        opened, learner = open_learner(log, tmp_path, commit_events=30, snapshot_every=4)
        with opened:
            for _ in range(6):
                learner.step()
                assert follower.poll()
                assert_same(follower, learner, log)
                num_polls += 1
    assert num_polls == 24
    assert follower.current.epoch == 4


def test_it_catches_up_where_deltas_were_deleted_meanwhile(tmp_path):
    log = Events(900)
    opened, learner = open_learner(log, tmp_path, commit_events=20, snapshot_every=3)
    with opened:
        learner.step()
        follower = ModelFollower(tmp_path)
        follower.poll()
        for _ in range(20):
            learner.step()
        for number in range(2, 6):
            (delta,) = tmp_path.glob(f"delta-*-{number:012d}.bin")
            delta.unlink()
        follower.poll()
        assert_same(follower, learner, log)


def test_a_damaged_change_waits_for_the_next_whole_state(tmp_path):
    log = Events(900)
    opened, learner = open_learner(log, tmp_path, commit_events=20, snapshot_every=4)
    with opened:
        learner.step()
        follower = ModelFollower(tmp_path)
        follower.poll()
        learner.step()
        (delta,) = tmp_path.glob("delta-*2.bin")
        delta.write_bytes(delta.read_bytes()[:-9])
        before = follower.current.position
        assert not follower.poll()
        assert follower.current.position == before
        for _ in range(3):  # the whole state comes with the fifth commit
            learner.step()
        assert follower.poll()
        assert_same(follower, learner, log)


def test_a_damaged_whole_state_is_not_used(tmp_path, caplog):
    log = Events(300)
    learner = learn(log, tmp_path, commit_events=50, snapshot_every=100)
    for path in tmp_path.glob("snapshot-*"):
        path.write_bytes(b"RSLEARN1 and nothing")
    follower = ModelFollower(tmp_path)
    assert not follower.poll()
    assert not follower.poll()
    assert follower.current is None
    assert not follower.score("u0", FACTS).scores.any()
    assert caplog.text.count("cannot be read, none is used") == 1
    learner = learn(Events(300), tmp_path / "other")
    for path in (tmp_path / "other").glob("*-*.bin"):
        path.rename(tmp_path / path.name)
    follower.poll()
    assert_same(follower, learner, log)


def test_a_missing_folder_is_waited_for(tmp_path):
    follower = ModelFollower(tmp_path / "later")
    assert not follower.poll()
    log = Events(300)
    learner = learn(log, tmp_path / "later")
    assert follower.poll()
    assert_same(follower, learner, log)
    for path in (tmp_path / "later").iterdir():
        path.unlink()
    assert not follower.poll()
    assert_same(follower, learner, log)


def test_a_deleted_user_is_unknown(tmp_path):
    log = Events(400)
    learn(log, tmp_path)
    follower = ModelFollower(tmp_path)
    follower.poll()
    assert follower.score("u7", FACTS, now_seconds=log.now_seconds).scores.any()
    log.delete("u7")
    learner = learn(log, tmp_path)
    follower.poll()
    assert not follower.score("u7", FACTS, now_seconds=log.now_seconds).scores.any()
    assert follower.score("u0", FACTS, now_seconds=log.now_seconds).scores.any()
    assert_same(follower, learner, log)


def test_frozen_is_what_the_commit_says(tmp_path):
    opened, learner = open_learner(Events(100), tmp_path)
    with opened:
        learner.step()
        follower = ModelFollower(tmp_path)
        follower.poll()
        assert follower.current.frozen is None
        frozen = {"since_seconds": 5.0, "reason": "log loss"}
        opened.commit(learner.model, learner.position, extra={"frozen": frozen})
        follower.poll()
        assert follower.current.frozen == frozen
        opened.commit(learner.model, learner.position, extra={"frozen": None})
        follower.poll()
        assert follower.current.frozen is None


def test_a_model_whose_tables_are_not_stored_is_not_used(tmp_path, monkeypatch, caplog):
    learn(Events(100), tmp_path)
    monkeypatch.setattr(stores, "fingerprint", lambda model: "another")
    follower = ModelFollower(tmp_path)
    assert not follower.poll()
    assert "cannot be read" in caplog.text


def test_it_follows_in_a_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(followers, "_TICK_SECONDS", 0.01)
    follower = ModelFollower(tmp_path)
    follower.start()
    log = Events(600)
    opened, learner = open_learner(log, tmp_path, commit_events=10, snapshot_every=7)
    with opened:
        while learner.step():
            follower.score("u0", FACTS, now_seconds=log.now_seconds)
    for _ in range(500):
        if follower.current is not None and follower.current.position == learner.position:
            break
        follower._stop.wait(0.01)
    follower.close()
    assert_same(follower, learner, log)
