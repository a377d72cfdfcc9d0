import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from reelseek.recommendation.learning import store
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.state import DamagedState
from reelseek.recommendation.learning.store import (
    LeaseHeld,
    LeaseLost,
    ModelReader,
    ModelStore,
    Stored,
)
from tests.recommendation.learning.learner import digest_of, learn, new_model

PROJECT = Path(__file__).resolve().parents[3]
NUM_EVENTS = 3000


def files(folder, kind):
    return sorted(folder.glob(f"{kind}-*.bin"))


def test_a_learner_killed_at_random_ends_with_the_bits_of_one_that_was_not(tmp_path):
    expected = learn(tmp_path / "unkilled", NUM_EVENTS)
    killed, rng = tmp_path / "killed", np.random.default_rng(0)
    command = [sys.executable, "-m", "tests.recommendation.learning.learner", str(killed)]
    num_killed = 0
    for _ in range(4):
        process = subprocess.Popen(
            [*command, str(NUM_EVENTS)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "begins\n"
        time.sleep(rng.uniform(0.02, 0.3))
        process.kill()
        num_killed += process.wait() == -9
        process.stdout.close()
    assert num_killed
    assert files(killed, "snapshot")
    assert learn(killed, NUM_EVENTS) == expected
    assert not list(killed.glob("*.tmp"))


def test_a_learner_goes_on_where_it_was_left(tmp_path):
    learn(tmp_path / "parts", 700)
    learn(tmp_path / "parts", 1500)
    # The last batch of 700 was cut short by the end of the log, so positions are compared.
    with ModelStore(tmp_path / "parts") as store:
        found = store.open(new_model())
        assert (found.position, found.extra) == (1500, {"learned": 1500})


def test_a_new_folder_begins_at_zero(tmp_path):
    with ModelStore(tmp_path / "a" / "b") as store:
        assert store.open(OnlineModel()) == Stored()


def test_readers_follow_what_was_committed(tmp_path):
    expected = learn(tmp_path, 1000, snapshot_every=1000)
    model = new_model()
    assert ModelReader(tmp_path).load(model).position == 1000
    assert digest_of(model) == expected
    assert len(files(tmp_path, "delta")) > 5


def test_old_files_are_deleted(tmp_path):
    learn(tmp_path, 1500, snapshot_every=3)
    assert len(files(tmp_path, "snapshot")) == 2
    assert len(files(tmp_path, "delta")) < 9


def test_a_large_state_is_written_when_the_changes_are_as_large(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_SMALL_SNAPSHOT", 0)
    monkeypatch.setattr(ModelStore, "_delete_old", lambda *_: None)
    expected = learn(tmp_path / "rare", NUM_EVENTS, snapshot_every=3)
    size_of = {path.name: path.stat().st_size for path in (tmp_path / "rare").glob("*.bin")}
    changes, whole, since = 0, 0, 0
    for name in sorted(
        size_of, key=lambda each: (each.split("-")[2], each)
    ):  # as they were written
        if name.startswith("delta"):
            changes, since = changes + size_of[name], since + 1
            is_due = since >= 3 and changes >= whole
            assert is_due == (name.replace("delta", "snapshot") in size_of)
        else:
            changes, since, whole = 0, 0, size_of[name]
    assert (
        2 < len(files(tmp_path / "rare", "snapshot")) < len(files(tmp_path / "rare", "delta")) / 4
    )
    model = new_model()
    ModelReader(tmp_path / "rare").load(model)
    assert digest_of(model) == expected == learn(tmp_path / "often", NUM_EVENTS)


def test_of_a_damaged_snapshot_the_one_before_serves(tmp_path):
    expected = learn(tmp_path, 1500, snapshot_every=3)
    last = files(tmp_path, "snapshot")[-1]
    last.write_bytes(last.read_bytes()[:-1])
    model = new_model()
    assert ModelReader(tmp_path).load(model).position == 1500  # deltas lead past the damaged one
    assert digest_of(model) == expected


def test_after_a_damaged_delta_the_log_is_learned_again(tmp_path):
    expected = learn(tmp_path, 1500, snapshot_every=1000)
    damaged = files(tmp_path, "delta")[4]
    damaged.write_bytes(b"")
    model = new_model()
    assert 0 < ModelReader(tmp_path).load(model).position < 1500
    assert learn(tmp_path, 1500) == expected


def test_where_no_state_can_be_read_nothing_is_learned_over_it(tmp_path):
    learn(tmp_path, 200)
    for path in files(tmp_path, "snapshot"):
        path.write_bytes(b"damaged")
    with ModelStore(tmp_path) as store, pytest.raises(DamagedState, match="snapshot"):
        store.open(new_model())


def test_two_learners_never_write_one_model(tmp_path):
    with ModelStore(tmp_path), pytest.raises(LeaseHeld, match="another process learns"):
        ModelStore(tmp_path)
    ModelStore(tmp_path).close()


def test_what_an_earlier_holder_writes_counts_for_nothing(tmp_path):
    """As where a network drive has lost the lock: the file lock is taken away below."""
    old_model, new = new_model(), new_model()
    old = ModelStore(tmp_path)
    old.open(old_model)
    old.commit(old_model, 3)
    (tmp_path / "writer.lock").unlink()
    with ModelStore(tmp_path) as store:
        store.open(new)
        store.commit(new, 5)
        with pytest.raises(LeaseLost, match="epoch 2 has begun"):
            old.commit(old_model, 9)
        # Even if it was past that check already:
        old._check_lease = lambda: None
        old.commit(old_model, 9)
        assert ModelReader(tmp_path).load(new_model()).position == 5
    old.close()
    with pytest.raises(LeaseLost, match="given up"):
        ModelStore._check_lease(old)


def test_a_model_with_other_settings_is_refused(tmp_path):
    learn(tmp_path, 200)
    with ModelStore(tmp_path) as store, pytest.raises(ValueError, match="other settings"):
        store.open(OnlineModel())


def test_a_model_is_opened_before_it_is_committed(tmp_path):
    with ModelStore(tmp_path) as store, pytest.raises(ValueError, match="must be opened"):
        store.commit(OnlineModel(), 1)


def test_what_belongs_to_the_whole_state_alone_is_given_back(tmp_path):
    model = new_model()
    with ModelStore(tmp_path) as store:
        store.open(model)
        store.commit(model, 4, extra="a", snapshot_extra=lambda: ["large"])
        store.commit(model, 6, extra="b")
    assert ModelReader(tmp_path).load(new_model()) == Stored(6, "b", 4, ["large"], ("b",))
