"""`python -m recommendation.learn`: follows the log of events and keeps a model in a folder."""

import sys
import time
from pathlib import Path
from typing import Any

from reelseek.configs import command_line
from reelseek.configs.learning_schema import LearnConfig
from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.learning.faults import DeadLetters
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.state import DamagedState
from reelseek.recommendation.learning.store import ModelStore

USAGE = """usage: python -m recommendation.learn events=DIR output=DIR [follow=true]
           [name=value ...]

Learns each event of the log once, and goes on with new ones until it is stopped (Ctrl-C). Killed at
any moment, it goes on where the folder of the model says. With follow=false it ends with the log;
the last line on stdout is a JSON object with progress, speed and quality."""

_POLL_SECONDS = 0.2
_PROGRESS_SECONDS = 10.0


def main(config: LearnConfig) -> None:
    events, folder = Path(config.events), Path(config.output)
    if not events.is_dir():
        raise ValueError(f"events={events}: no such folder; name that of `serve events=DIR`")
    check_can_write_folder("output", folder)
    log = EventLog(events)
    model = OnlineModel(
        ModelSettings(
            capacity=config.capacity,
            min_sightings=config.min_sightings,
            expire_days=config.expire_days,
        )
    )
    try:
        with ModelStore(folder) as store:
            learner = Learner(
                log,
                store,
                model=model,
                join=JoinSettings(
                    wait_seconds=config.wait_seconds,
                    correct_seconds=config.correct_seconds,
                    long_view_seconds=config.long_view_seconds,
                    max_user_examples=config.max_user_examples,
                ),
                commit_events=config.commit_events,
                dead_letters=DeadLetters(folder / "dead-letters.jsonl"),
            )
            _follow(learner, is_endless=config.follow)
    except (EventsUnavailable, DamagedState) as error:
        raise ValueError(str(error)) from error
    finally:
        log.close()


def _follow(learner: Learner, *, is_endless: bool) -> None:
    num_events, seconds, printed = 0, 0.0, time.monotonic()
    try:
        while True:
            started = time.monotonic()
            taken = learner.step()
            if taken:
                num_events += taken
                seconds += time.monotonic() - started
            elif not is_endless:
                break
            else:
                time.sleep(_POLL_SECONDS)
            if taken and time.monotonic() - printed >= _PROGRESS_SECONDS:
                printed = time.monotonic()
                print(_progress_line(learner, num_events, seconds=seconds), file=sys.stderr)
    finally:
        command_line.print_json(_figures(learner, num_events, seconds=seconds))


def _progress_line(learner: Learner, num_events: int, *, seconds: float) -> str:
    figures = _figures(learner, num_events, seconds=seconds)
    recent = figures["last_hour"]
    quality = "" if recent["AUC"] is None else f", AUC of the last hour {recent['AUC']}"
    frozen = f", frozen: {figures['frozen']['reason']}" if figures["frozen"] else ""
    return (
        f"learned up to event {figures['position']}, {figures['lag_events']} behind, "
        f"{figures['events_per_second']} events a second, {figures['rows']} rows{quality}{frozen}"
    )


def _figures(learner: Learner, num_events: int, *, seconds: float) -> dict[str, Any]:
    counts = learner.joiner.counts
    table = learner.model.table
    return {
        "position": learner.position,
        "lag_events": learner.lag_events,
        "events": num_events,
        "events_per_second": round(num_events / seconds) if seconds else 0,
        "examples": counts.examples,
        "corrections": counts.corrections,
        "repeated": counts.repeated,
        "unmatched": counts.unmatched,
        "limited": counts.limited,
        "refused": counts.refused,
        "skipped": learner.num_skipped,
        "freezes": learner.guard.num_freezes,
        "frozen": learner.frozen,
        "rows": len(table),
        "evicted": table.num_evicted,
        "expired": table.num_expired,
        "last_hour": learner.recent.summary(),
    }


if __name__ == "__main__":
    command_line.run(main, LearnConfig, usage=USAGE)
