"""A learner in a process of its own, which tests kill.

    python -m tests.recommendation.learning.learner FOLDER NUM_EVENTS

Learns a synthetic log into a folder, from where it was left; prints the digest of the state.
"""

import hashlib
import sys
from pathlib import Path

from reelseek.recommendation.learning.batches import batches_of
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.state import encode, take_state
from reelseek.recommendation.learning.store import ModelStore
from tests.recommendation.learning.synthetic import log

COMMIT_EVERY = 3  # batches


def new_model() -> OnlineModel:
    """A small table, so that keys wait, are evicted and expire; what most videos show is
    known."""
    model = OnlineModel(
        ModelSettings(capacity=2500, max_candidates=300, min_sightings=2, expire_days=0.05)
    )
    model.code_of = code_of
    return model


def code_of(video: object) -> bytes:
    digest = hashlib.sha256(repr(video).encode()).digest()
    return 2 * digest if digest[0] < 200 else b""


def digest_of(model: OnlineModel) -> str:
    return hashlib.sha256(encode(take_state(model))).hexdigest()


def learn(folder: Path, num: int, *, snapshot_every: int = 8) -> str:
    """Returns the digest of the state at the end of the log."""
    impressions, outcomes = log(num, num_users=200, num_videos=300)
    model = new_model()
    with ModelStore(folder, snapshot_every=snapshot_every) as store:
        begin = store.open(model).position
        batches = batches_of(
            impressions.user[begin:], impressions.time_ms[begin:], max_ms=600_000, max_events=32
        )
        for number, batch in enumerate(batches):
            part = slice(begin + batch.start, begin + batch.stop)
            scored = model.predict(impressions.take(part))
            model.learn(scored, impressions.take(part), outcomes=outcomes.take(part))
            if number % COMMIT_EVERY == COMMIT_EVERY - 1 or part.stop == num:
                store.commit(model, part.stop, extra={"learned": part.stop})
    return digest_of(model)


if __name__ == "__main__":
    print("begins", flush=True)
    print(learn(Path(sys.argv[1]), int(sys.argv[2])), flush=True)
