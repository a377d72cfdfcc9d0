import numpy as np
import pytest

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Click, Deletion, Impression, Play, sha256_of
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.store import ModelStore
from tests.recommendation.learning.learner import digest_of, new_model

JOIN = JoinSettings(wait_seconds=20, correct_seconds=200, long_view_seconds=18)


class Events:
    """A log in memory, of users some of whom click and watch, now and then late."""

    def __init__(self, num, seed=0):
        rng = np.random.default_rng(seed)
        self.events = []
        shown = []
        for position, at in enumerate(np.sort(rng.uniform(0, num / 4, num)), 1):
            user, video = str(rng.integers(40)), str(rng.integers(60))
            if shown and rng.random() < 0.5:
                user, video, request = shown[-1 - int(rng.exponential(25)) % len(shown)]
                kind, fields = (
                    (Click, {}) if rng.random() < 0.5 else (Play, {"watched_seconds": 19.0})
                )
            else:
                request = f"r{position}"
                shown.append((user, video, request))
                kind, fields = Impression, {"position": 1, "surface": "search"}
            event = kind(
                event_id=str(position),
                time_seconds=at,
                user=user,
                video=video,
                request_id=request,
                **fields,
            )
            self.events.append(LoggedEvent(position, float(at), event))

    def read(self, *, after=0, limit=1000):
        return [event for event in self.events if event.log_position > after][:limit]

    def bounds(self):
        return 0, self.events[-1].log_position


def learn(log, folder, *, commit_events, max_steps=10**9, snapshot_every=5):
    model = new_model()
    with ModelStore(folder, snapshot_every=snapshot_every) as store:
        learner = Learner(log, store, model=model, join=JOIN, commit_events=commit_events)
        for _ in range(max_steps):
            if not learner.step():
                break
        return learner


@pytest.mark.parametrize("commit_events", [7, 60, 333])
def test_the_state_depends_on_the_log_alone(tmp_path, commit_events):
    log = Events(1500)
    whole = learn(log, tmp_path / "whole", commit_events=1000)
    for _ in range(3):  # stopped twice on the way
        parts = learn(log, tmp_path / "parts", commit_events=commit_events, max_steps=9)
    parts = learn(log, tmp_path / "parts", commit_events=commit_events)
    assert parts.position == whole.position == 1500
    assert digest_of(parts.model) == digest_of(whole.model)
    assert parts.joiner.counts == whole.joiner.counts
    assert whole.joiner.counts.corrections > 20
    assert whole.model.num_learned > 500


def test_what_was_learned_but_not_committed_is_learned_again(tmp_path):
    log = Events(800)
    expected = digest_of(learn(log, tmp_path / "whole", commit_events=1000).model)
    model = new_model()
    with ModelStore(tmp_path / "killed") as store:
        learner = Learner(log, store, model=model, join=JOIN, commit_events=300)
        learner.step()
        for event in log.read(after=learner.position, limit=250):
            learner._take(event)  # and here the process ends
    assert digest_of(learn(log, tmp_path / "killed", commit_events=300).model) == expected


def test_a_deleted_user_is_forgotten(tmp_path):
    log = Events(600)
    user = log.events[-100].event.user
    deletion = Deletion(event_id="d", time_seconds=0, pseudonym_sha256=sha256_of(user))
    log.events.append(LoggedEvent(601, log.events[-1].received_seconds, deletion))
    learner = learn(log, tmp_path, commit_events=50)
    keys = learner.model.table.keys_of(range(learner.model.table.num_used))
    assert not any(
        key is not None and learner.model._is_of_user(key) and key[1] == user for key in keys
    )
    assert learner.model.table.find([(11, "0"), (11, user)])[1] == -1


def test_a_log_that_has_lost_events_is_refused(tmp_path):
    log = Events(300)
    learn(log, tmp_path, commit_events=50, max_steps=2)
    log.bounds = lambda: (200, 300)
    with pytest.raises(ValueError, match="lacks events 101 to 200"):
        learn(log, tmp_path, commit_events=50)


def test_figures_are_of_the_last_hour(tmp_path):
    learner = learn(Events(1000), tmp_path, commit_events=100)
    figures = learner.recent.summary()
    assert figures["num_examples"] > 100
    assert 0 <= figures["AUC"] <= 1
    learner.recent.add(np.array([10**6]), np.ones(1), predicted=np.ones(1) / 2)
    assert learner.recent.summary()["num_examples"] == 1
    assert learner.lag_events == 0


def test_it_reads_the_service_s_log(tmp_path):
    clock = iter(np.arange(10**4, 10**6, 30.0))
    log = EventLog(tmp_path / "events", clock=lambda: float(next(clock)))
    for number in range(30):
        log.append(
            [
                Impression(
                    event_id=f"i{number}",
                    time_seconds=2e9,
                    user="u",
                    video="v",
                    position=1,
                    request_id=str(number),
                ),
                Click(
                    event_id=f"c{number}",
                    time_seconds=2e9,
                    user="u",
                    video="v",
                    request_id=str(number),
                ),
            ]
        )
    try:
        learner = learn(log, tmp_path / "model", commit_events=13)
    finally:
        log.close()
    assert learner.position == 60
    assert learner.joiner.counts.examples >= 27
    assert learner.model.num_learned >= 26
