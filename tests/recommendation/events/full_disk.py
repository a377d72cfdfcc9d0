"""A process that writes events until the disk is full, and again after there is room.

    python -m tests.recommendation.events.full_disk FOLDER limit     # no file may exceed 200 kB
    python -m tests.recommendation.events.full_disk FOLDER ballast   # FOLDER/ballast fills the disk

It prints which events were acknowledged and which were refused, as JSON.
"""

import json
import resource
import sys
from pathlib import Path

from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from tests.recommendation.events.event_writer import make_event

_LIMIT_BYTES = 200_000


def main(folder: Path, way: str) -> None:
    log = EventLog(folder / "events")
    stored, refused = [], []

    def append(number: int) -> None:
        ids = [f"{number}-{i}" for i in range(20)]
        try:
            log.append([make_event(each) for each in ids])
            stored.extend(ids)
        except EventsUnavailable:
            refused.append(ids)

    append(0)
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT_BYTES, resource.RLIM_INFINITY))
    else:
        fill_disk(folder / "ballast")
    number = 1
    while len(refused) < 10 and number < 10_000:
        append(number)
        number += 1
    num_read = len(log.read(limit=10**6))  # reading goes on
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    else:
        (folder / "ballast").unlink()
    refused_first = list(refused)
    for ids in refused_first:
        append(int(ids[0].partition("-")[0]))
    in_log = [each.event.event_id for each in log.read(limit=10**6)]
    log.close()
    refused = refused[len(refused_first) :]
    print(
        json.dumps(
            {"stored": stored, "in_log": in_log, "still_refused": refused}
            | {"num_refused": len(refused_first), "num_read": num_read}
        )
    )


def fill_disk(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
