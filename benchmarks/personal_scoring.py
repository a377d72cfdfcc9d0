"""How long it takes to score candidates for a user, and to apply what was learned.

    python benchmarks/personal_scoring.py folder=DIR [examples=100000] [candidates=200]
        [requests=500]

Learns made-up examples of 20,000 users, 50,000 videos, 5,000 authors and 300 tags into a folder,
then follows 30 more commits of 1,000 examples as a server does. Prints a line of JSON: milliseconds
of the process's CPU to score the candidates of a request (median, 99th percentile), for search with
a page of 24 hits too, to read and check a commit, and to apply it, for which requests wait; and for
the learner to remove a deleted user from all files.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.learning.content_codes import content_codes  # noqa: E402
from reelseek.recommendation.learning.examples import VideoFacts  # noqa: E402
from reelseek.recommendation.learning.impressions import Impressions, Outcomes  # noqa: E402
from reelseek.recommendation.learning.model import OnlineModel  # noqa: E402
from reelseek.recommendation.learning.state import prepare, restore  # noqa: E402
from reelseek.recommendation.learning.store import ModelReader, ModelStore, WholeState  # noqa: E402
from reelseek.recommendation.personal.reasons import personal_reasons  # noqa: E402
from reelseek.recommendation.personal.scorer import PersonalScorer  # noqa: E402

NUM_USERS, NUM_VIDEOS, NUM_AUTHORS, NUM_TAGS = 20_000, 50_000, 5_000, 300
START_MS = 1_780_000_000_000
BATCH, COMMIT_BATCHES, NUM_FOLLOWED = 250, 4, 30
PAGE = 24
CODES = content_codes(np.random.default_rng(0).normal(size=(1000, 512)))


def facts_of(video: int) -> VideoFacts:
    return VideoFacts(
        f"a{video % NUM_AUTHORS}",
        f"t{video % NUM_TAGS}",
        1e3 * (3 + video % 300),
        code=CODES[video % len(CODES)],
    )


def main() -> None:
    options = parse_options(
        __doc__, folder=None, examples="100000", candidates="200", requests="500"
    )
    folder, rng = Path(options["folder"]), np.random.default_rng(0)
    reader = ModelReader(folder)
    model = OnlineModel()
    model.code_of = lambda video: facts_of(int(video[1:])).code
    with ModelStore(folder, snapshot_every=10**9) as store:
        store.open(model)
        now_ms = START_MS
        for _ in range(int(options["examples"]) // BATCH):
            now_ms = learn_batch(model, rng, now_ms)
        store.commit(model, 1)
        opened = reader.open()
        assert opened is not None
        served, _ = opened
        gc.freeze()  # as servers do
        reading, applying = [], []
        for number in range(NUM_FOLLOWED):
            for _ in range(COMMIT_BATCHES):
                now_ms = learn_batch(model, rng, now_ms)
            store.commit(model, number + 2)
            started = time.process_time()
            (state,) = reader.changes()
            prepared = prepare(state["model"])
            reading.append(time.process_time() - started)
            applying.append(seconds_of(partial(restore, served, prepared)))
        forget = partial(store.commit, has_forgotten=True, past=partial(past_of, store, model))
        forgetting = seconds_of(partial(forget, model, NUM_FOLLOWED + 2))
    scorer = PersonalScorer(served)
    figures: dict[str, float] = {
        "rows": len(served.table),
        "candidates": int(options["candidates"]),
    }
    for name, num in (("score", int(options["candidates"])), ("score_page", PAGE)):
        times = []
        for _ in range(int(options["requests"])):
            user = f"u{rng.integers(NUM_USERS)}"
            facts = [facts_of(video) for video in rng.integers(NUM_VIDEOS, size=num).tolist()]

            def score(user: str = user, facts: list[VideoFacts] = facts) -> None:
                personal_reasons(scorer.score(user, facts, now_ms=now_ms), facts)

            times.append(seconds_of(score))
        figures |= quantiles(name, times)
    figures |= quantiles("read", reading) | quantiles("apply", applying)
    figures["forget_ms"] = round(1000 * forgetting, 3)
    print(json.dumps(figures))


def past_of(store: ModelStore, model: OnlineModel) -> WholeState:
    """Returns what the guard may go back to, some commits ago."""
    past = model.new()
    found = store.open_past(past, up_to=NUM_FOLLOWED // 2)
    return WholeState(past, found.position, {}, {})


def learn_batch(model: OnlineModel, rng: np.random.Generator, now_ms: int) -> int:
    """Learns examples of one second; returns the time after them."""
    user = [f"u{each}" for each in rng.integers(NUM_USERS, size=BATCH).tolist()]
    number = (NUM_VIDEOS * rng.random(BATCH) ** 2).astype(np.int64).tolist()
    facts = [facts_of(each) for each in number]
    impressions = Impressions(
        user=column(user),
        video=column([f"v{each}" for each in number]),
        time_ms=np.full(BATCH, now_ms),
        tab=column(["search"] * BATCH),
        author=column([each.author for each in facts]),
        tag=column([each.tag for each in facts]),
        duration_ms=np.array([each.duration_ms for each in facts]),
        upload_day=np.full(BATCH, np.nan),
        position=rng.integers(1, 11, BATCH),
        query=column([f"query {each % 1000}" for each in number]),
    )
    outcomes = Outcomes((rng.random((BATCH, 3)) < 0.3).astype(np.float64), rng.random(BATCH))
    model.learn(model.predict(impressions), impressions, outcomes=outcomes)
    return now_ms + 1000


def column(values: Sequence[object]) -> np.ndarray:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def seconds_of(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def quantiles(name: str, seconds: list[float]) -> dict[str, float]:
    median, p99 = np.quantile(seconds, (0.5, 0.99)) * 1000
    return {f"{name}_ms": round(float(median), 3), f"{name}_p99_ms": round(float(p99), 3)}


if __name__ == "__main__":
    main()
