"""A process that writes events until it is killed, and says which are acknowledged.

    # Writes NUM batches, or for ever.
    python -m tests.recommendation.events.event_writer PLACE NAME [NUM]

It prints `{"event_id", ...}` of a batch, as JSON, when the batch is on the disk.
"""

import json
import random
import sys

from reelseek.recommendation.events.opening import open_log
from reelseek.recommendation.events.schema import Click
from tests.indexing.power_loss import mark

NOW = 1_800_000_000.0


def make_event(event_id: str, user: str = "user-a", **fields) -> Click:
    return Click(event_id=event_id, time_seconds=NOW, user=user, video="video", **fields)


def main(place: str, name: str, num_batches: float = float("inf")) -> None:
    log = open_log(place)
    random_sizes = random.Random(name)
    number = 0
    while number < num_batches:
        ids = [f"{name}-{number}-{i}" for i in range(random_sizes.randint(1, 30))]
        waiting = [log.submit([make_event(each)]) for each in ids[1:]]
        # An id that the other processes send too
        waiting.append(log.submit([make_event(ids[0]), make_event(f"shared-{number}")]))
        for future in waiting:
            future.result()
        acknowledged = json.dumps([*ids, f"shared-{number}"])
        mark(acknowledged)
        print(acknowledged, flush=True)
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
