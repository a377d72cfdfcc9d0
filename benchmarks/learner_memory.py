"""What a learner needs of memory where ids never repeat.

    python benchmarks/learner_memory.py [ids=10000000] [capacity=1000000] [batch=2000]

Each event has a new user, and every tenth a new video; with its pairs, an event has some ten new
keys. Prints lines of JSON as it goes: distinct users and keys so far, rows, candidates, and the
peak memory of the process; the last has the events a second of CPU time too.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.learning.content_codes import content_codes  # noqa: E402
from reelseek.recommendation.learning.impressions import Impressions, Outcomes  # noqa: E402
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel  # noqa: E402

CODES = content_codes(np.random.default_rng(0).normal(size=(1000, 512)))
_REPORTS = 10
_NEW_KEYS = 10.5  # of an event: 4 of the user, 5 pairs of it, and a share of the video's


def main() -> None:
    options = parse_options(__doc__, ids="10000000", capacity="1000000", batch="2000")
    num_ids, size = int(options["ids"]), int(options["batch"])
    capacity = int(options["capacity"])
    model = OnlineModel(ModelSettings(capacity=capacity, max_candidates=capacity))
    model.code_of = lambda video: CODES[video % len(CODES)]
    rng = np.random.default_rng(0)
    num_events = round(num_ids / _NEW_KEYS)
    started = time.process_time()
    report_at = num_events / _REPORTS
    for begin in range(0, num_events, size):
        impressions, outcomes = _events(begin, size, rng=rng)
        model.learn(model.predict(impressions), impressions, outcomes=outcomes)
        if begin + size >= report_at:
            report_at += num_events / _REPORTS
            _report(model, begin + size, seconds=time.process_time() - started)


def _events(begin: int, size: int, *, rng: np.random.Generator) -> tuple[Impressions, Outcomes]:
    number = np.arange(begin, begin + size)
    impressions = Impressions(
        user=number,
        video=number // 10,
        time_ms=1_650_816_000_000 + number,
        tab=rng.integers(5, size=size),
        author=number // 50,
        tag=rng.integers(100, size=size),
        duration_ms=rng.uniform(5e3, 3e5, size),
        upload_day=np.full(size, 19_100.0),
        position=1 + number % 10,
        query=np.array([f"query {each}" for each in (number // 10).tolist()], object),
    )
    return impressions, Outcomes(rng.integers(2, size=(size, 3)).astype(float), rng.random(size))


def _report(model: OnlineModel, num_events: int, *, seconds: float) -> None:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {
        "events": num_events,
        "distinct_keys": model.table.num_evicted + len(model.table),
        "rows": len(model.table),
        "candidates": model.table.num_candidates,
        "peak_mib": round(peak_kib / 1024),
        "events_per_second": round(num_events / seconds),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
