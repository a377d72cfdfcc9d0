"""Waiting for outcomes, or learning at once and correcting: what each costs.

    python benchmarks/late_positives.py events=FILE.parquet measure_from=TIME_MS
        [history=FILE.parquet] [videos=FILE.csv] [late_fraction=0.3] [late_seconds=7200] [seed=0]

A positive is known when the video has been watched for as long as it was. A random part of them is
made later still, by a time drawn from an exponential distribution, as where a video is watched to
its end, or liked, on another day. Prints AUC of long views for learners that
- know each outcome at once (the bound),
- wait a day, so that nearly all are known,
- take what is not known after 10 minutes, or 1 second, as negative, for good,
- do the same, and correct it when it comes.
"""

import heapq
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.learning.batches import batches_of  # noqa: E402
from reelseek.recommendation.learning.figures import calibration  # noqa: E402
from reelseek.recommendation.learning.impressions import Impressions, Outcomes  # noqa: E402
from reelseek.recommendation.learning.model import OnlineModel, Scored  # noqa: E402
from reelseek.recommendation.learning.prior import Prior, fit_prior  # noqa: E402
from reelseek.recommendation.learning.reading import (  # noqa: E402
    read_history,
    read_impressions,
    read_video_groups,
)
from reelseek.recommendation.learning.sessions import auc  # noqa: E402

_DAY_MS = 86_400_000
_WATCHED_LOG = 5.0  # log(1 + seconds) that `Outcomes.watched` counts as 1


@dataclass
class Policy:
    """When an example is learned, and whether what comes later corrects it."""

    wait_ms: int
    corrects: bool


POLICIES = {
    "wait 0, nothing late": Policy(0, False),
    "wait 10 min, no correction": Policy(600_000, False),
    "wait 10 min, corrected": Policy(600_000, True),
    "wait 1 s, no correction": Policy(1_000, False),
    "wait 1 s, corrected": Policy(1_000, True),
    "wait 1 day": Policy(_DAY_MS, True),
}


def run(
    policy: Policy,
    impressions: Impressions,
    outcomes: Outcomes,
    *,
    known_ms: np.ndarray,
    prior: Prior,
) -> np.ndarray:
    """Returns the probability of a long view, predicted right before each event.

    Args:
        known_ms: when each event's outcome is known.
    """
    model = OnlineModel(prior=prior)
    predicted = np.empty(len(impressions))
    waiting: list[tuple[slice, Scored]] = []
    late: list[tuple[int, int]] = []  # a heap of when an outcome is known, and whose
    learned: dict[int, Scored] = {}  # of late events
    times = impressions.time_ms
    for batch in batches_of(impressions.user, times, max_ms=60_000, max_events=256):
        now = times[batch.start]
        while waiting and times[waiting[0][0].stop - 1] + policy.wait_ms < now:
            part, scored = waiting.pop(0)
            is_late = known_ms[part] > times[part] + policy.wait_ms
            chosen = outcomes.take(part)
            labels = np.where(is_late[:, None], 0.0, chosen.labels)
            watched = np.where(is_late, 0.0, chosen.watched)
            model.learn(scored, impressions.take(part), outcomes=Outcomes(labels, watched))
            for index in (part.start + np.flatnonzero(is_late)).tolist():
                heapq.heappush(late, (int(known_ms[index]), index))
                learned[index] = scored.take(slice(index - part.start, index - part.start + 1))
        due = []
        while late and late[0][0] < now:
            due.append(heapq.heappop(late)[1])
        if due and policy.corrects:
            found = [learned.pop(index) for index in due]
            inputs = Scored(
                np.concatenate([each.probabilities for each in found]),
                np.concatenate([each.dense for each in found]),
                np.concatenate([each.profile for each in found]),
            )
            index = np.array(due)
            model.correct(inputs, impressions.take(index), change=outcomes.take(index))
        scored = model.predict(impressions.take(batch))
        predicted[batch] = scored.probabilities[:, 0]
        waiting.append((batch, scored))
    return predicted


def main() -> None:
    options = parse_options(
        __doc__,
        **{"events": None, "measure_from": None, "history": "", "videos": ""},
        **{"late_fraction": "0.3", "late_seconds": "7200", "seed": "0"},
    )
    impressions, outcomes, _ = read_impressions("events", [Path(options["events"])])
    from_ms = int(options["measure_from"])
    prior = Prior()
    if options["history"]:
        groups = read_video_groups("videos", Path(options["videos"]))
        history = read_history("history", Path(options["history"]), before_ms=from_ms)
        prior = fit_prior(history, groups[0], tags=groups[1])
    rng = np.random.default_rng(int(options["seed"]))
    num = len(impressions)
    is_late = (outcomes.labels[:, 0] > 0) & (rng.random(num) < float(options["late_fraction"]))
    delay_ms = rng.exponential(float(options["late_seconds"]) * 1000, num)
    watched_ms = np.expm1(outcomes.watched * _WATCHED_LOG) * 1000
    is_positive = outcomes.labels.any(axis=1)
    late_known_ms = (
        impressions.time_ms
        + np.where(is_positive, watched_ms, 0.0)
        + np.where(is_late, delay_ms, 0.0)
    )
    is_measured = impressions.time_ms >= from_ms
    labels = outcomes.labels[is_measured, 0]
    for name, policy in POLICIES.items():
        known_ms = late_known_ms if policy.wait_ms else impressions.time_ms.astype(np.float64)
        predicted = run(policy, impressions, outcomes, known_ms=known_ms, prior=prior)
        found = predicted[is_measured]
        figures = {"policy": name, "AUC": round(auc(labels, found), 4)}
        print(json.dumps({**figures, **calibration(labels, found)}), flush=True)


if __name__ == "__main__":
    main()
