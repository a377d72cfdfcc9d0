"""A process that sends what simulated users do to a log, until it is killed.

    python -m tests.recommendation.learning.event_sender PLACE NAME

It prints the ids of a batch, as JSON, when the batch is acknowledged; one that is not, it sends
again.
"""

import json
import random
import sys
import time

from reelseek.recommendation.events.log import EventsUnavailable
from reelseek.recommendation.events.opening import open_log
from reelseek.recommendation.events.schema import AnyEvent, Click, Impression, Like, Play

_RETRY_SECONDS, _PAUSE_SECONDS = 0.2, 0.03
_LONG_SECONDS = 20.0


def impressions_of(name: str, number: int, draws: random.Random) -> list[AnyEvent]:
    """Returns an answer's impressions."""
    now, user = time.time(), f"user-{draws.randrange(60)}"
    return [
        Impression(
            event_id=f"{name}-{number}-{position}",
            time_seconds=now,
            user=user,
            request_id=f"{name}-{number}",
            video=f"video-{draws.randrange(100)}",
            position=position,
            surface="search",
        )
        for position in range(1, draws.randint(2, 8))
    ]


def outcomes_of(shown: list[AnyEvent], draws: random.Random) -> list[AnyEvent]:
    """Returns what a user did with them."""
    found: list[AnyEvent] = []
    for each in shown:
        assert isinstance(each, Impression)
        common = {
            "time_seconds": time.time(),
            "user": each.user,
            "request_id": each.request_id,
            "video": each.video,
        }
        taste = (int(each.user[-1]) + int(each.video[-1])) % 7 / 10
        if draws.random() < taste:
            found.append(Click(event_id=f"{each.event_id}-click", **common))
            seconds = _LONG_SECONDS * 2 * draws.random()
            found.append(Play(event_id=f"{each.event_id}-play", watched_seconds=seconds, **common))
        if draws.random() < taste / 5:
            found.append(Like(event_id=f"{each.event_id}-like", **common))
    return found


def main(place: str, name: str) -> None:
    log, draws, number = open_log(place), random.Random(name), 0
    recent: list[list[AnyEvent]] = []
    while True:
        recent.append(impressions_of(name, number, draws))
        events = list(recent[-1])
        if len(recent) > 30:  # some answers later, so that some outcomes come late
            events += outcomes_of(recent.pop(draws.randrange(len(recent))), draws)
        while True:
            try:
                log.append(events)
                break
            except EventsUnavailable:
                time.sleep(_RETRY_SECONDS)
        print(json.dumps([each.event_id for each in events]), flush=True)
        number += 1
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:3])
