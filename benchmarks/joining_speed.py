"""Events a second that the learner's joiner takes, before its memory is full and long after.

    python benchmarks/joining_speed.py [open=200000] [rounds=12]

Impressions come at 2,000 a second of the log, and none has an outcome. Prints a line of JSON: the
impressions that may be open, and events a second of CPU of each round, which has a quarter as many.
"""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.events.rows import LoggedEvent  # noqa: E402
from reelseek.recommendation.events.schema import Impression  # noqa: E402
from reelseek.recommendation.learning.joining import Joiner, JoinSettings  # noqa: E402

START_SECONDS, EVENTS_PER_SECOND = 1.78e9, 2000
NUM_USERS, NUM_VIDEOS = 2000, 5000


def shown(number: int) -> LoggedEvent:
    at = START_SECONDS + number / EVENTS_PER_SECOND
    event = Impression(
        event_id="i",
        time_seconds=at,
        user=f"u{number % NUM_USERS}",
        request_id=f"r{number}",
        video=f"v{number % NUM_VIDEOS}",
        position=1,
    )
    return LoggedEvent(number + 1, at, event)


def main() -> None:
    options = parse_options(__doc__, open="200000", rounds="12")
    max_open = int(options["open"])
    joiner = Joiner(JoinSettings(max_open=max_open, max_user_examples=max_open))
    size, rates = max_open // 4, []
    for number in range(int(options["rounds"])):
        events = [shown(number * size + index) for index in range(size)]
        started = time.process_time()
        for event in events:
            joiner.add(event)
            joiner.take()
        rates.append(round(size / (time.process_time() - started)))
    print(json.dumps({"open": joiner.num_open, "events_per_second": rates}))


if __name__ == "__main__":
    main()
