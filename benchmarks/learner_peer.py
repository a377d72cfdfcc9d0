"""Events a second of the online model beside Vowpal Wabbit, on one core, in turns.

    python benchmarks/learner_peer.py events=FILE.parquet [events_each=10000] [rounds=3]

Both see the same events, one pass, each predicted and then learned: the model in batches as a
replay makes them, Vowpal Wabbit (`pip install vowpalwabbit`) one by one, with user, tag and tab
crossed. Its lines of text are made before its clock starts. Prints a line of JSON: CPU seconds'
worth of events a second of both, of each round, and the ratio of the medians.
"""

import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.learning.batches import batches_of  # noqa: E402
from reelseek.recommendation.learning.impressions import Impressions, Outcomes  # noqa: E402
from reelseek.recommendation.learning.model import OnlineModel  # noqa: E402
from reelseek.recommendation.learning.reading import read_impressions  # noqa: E402


def main() -> None:
    import vowpalwabbit

    options = parse_options(__doc__, events=None, events_each="10000", rounds="3")
    impressions, outcomes, _ = read_impressions("events", [Path(options["events"])])
    size = int(options["events_each"])
    model = OnlineModel()
    peer = vowpalwabbit.Workspace("--loss_function logistic --link logistic -q :: --quiet -b 22")
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(int(options["rounds"])):
        part = slice(number * size, (number + 1) * size)
        chunk, labels = impressions.take(part), outcomes.take(part)
        if not len(chunk):
            break
        rates[0].append(len(chunk) / _model_seconds(model, chunk, labels))
        lines = _lines(chunk, labels)
        started = time.process_time()
        for line in lines:
            example = peer.parse(line)
            peer.predict(example)
            peer.learn(example)
            peer.finish_example(example)
        rates[1].append(len(chunk) / (time.process_time() - started))
    ratio = statistics.median(rates[0]) / statistics.median(rates[1])
    ours, theirs = ([round(rate) for rate in each] for each in rates)
    print(json.dumps({"model": ours, "vowpal_wabbit": theirs, "ratio": round(ratio, 3)}))


def _model_seconds(model: OnlineModel, impressions: Impressions, outcomes: Outcomes) -> float:
    started = time.process_time()
    for batch in batches_of(impressions.user, impressions.time_ms, max_ms=60_000, max_events=256):
        chosen = impressions.take(batch)
        model.learn(model.predict(chosen), chosen, outcomes=outcomes.take(batch))
    return time.process_time() - started


def _lines(impressions: Impressions, outcomes: Outcomes) -> list[str]:
    columns = (
        impressions.user.tolist(),
        impressions.tag.tolist(),
        impressions.tab.tolist(),
        outcomes.labels[:, 0].tolist(),
    )
    return [
        f"{1 if label else -1} |u u{user} |g g{str(tag).replace(' ', '_')} |t t{tab}"
        for user, tag, tab, label in zip(*columns, strict=True)
    ]


if __name__ == "__main__":
    main()
