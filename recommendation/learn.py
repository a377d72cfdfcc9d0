"""`python -m recommendation.learn`: follows the log of events and keeps a model in a folder."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelseek.configs import command_line
from reelseek.configs.learning_schema import LearnConfig
from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.recommendation.events.log import EventLog, EventsUnavailable, EventsUnreachable
from reelseek.recommendation.events.opening import check_readable, open_log
from reelseek.recommendation.learning.faults import DeadLetters
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.redis_files import RedisFiles, published_files
from reelseek.recommendation.learning.state import DamagedState
from reelseek.recommendation.learning.status import StatusWriter, status_of
from reelseek.recommendation.learning.store import LeaseLost, ModelStore
from reelseek.recommendation.personal.facts import FactsBook, IndexVideos
from reelseek.recommendation.personal.follower import DEFAULT_FOLDER
from reelseek.recommendation.redis_server import RedisUnavailable, is_redis

USAGE = """usage: python -m recommendation.learn events=DIR [index=DIR] [output=DIR] [follow=true]
           [name=value ...]

Learns each event of the log once, and goes on with new ones until it is stopped (Ctrl-C). Killed at
any moment, it goes on where the folder of the model says. From the index come authors, tags and
durations of videos. With follow=false it ends with the log; the last line on stdout is a JSON
object with progress, speed and quality."""

logger = logging.getLogger(__name__)

FACTS_NAME = "facts.jsonl"
Report = Callable[[str, dict[str, Any]], None]

_POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_PROGRESS_SECONDS = 10.0


def main(config: LearnConfig) -> None:
    folder = _folder_of(config)
    check_readable(config.events)
    if config.index is not None and not Path(config.index).is_dir():
        raise ValueError(f"index={config.index}: no such folder; name the folder of an index")
    check_can_write_folder("output", folder)
    run(config, report=lambda line, _: print(line, file=sys.stderr))


def run(config: LearnConfig, *, report: Report) -> None:
    """Learns without looking whether the index is there yet.

    Args:
        report: takes a line for people, and the figures that it is made from, now and then.
    """
    folder = _folder_of(config)
    log = open_log(config.events)
    publish = None if config.publish is None else published_files("publish", config.publish)
    try:
        _learn(config, log, folder, publish=publish, report=report)
    except (EventsUnavailable, DamagedState, LeaseLost, RedisUnavailable) as error:
        raise ValueError(str(error)) from error
    finally:
        log.close()
        if publish is not None:
            publish.close()


def _folder_of(config: LearnConfig) -> Path:
    if config.output is not None:
        return Path(config.output)
    if is_redis(config.events):
        raise ValueError("output: missing; name a folder, as the events are in a Redis server")
    return Path(config.events) / DEFAULT_FOLDER


def _learn(
    config: LearnConfig, log: EventLog, folder: Path, *, publish: RedisFiles | None, report: Report
) -> None:
    videos = None if config.index is None else IndexVideos(Path(config.index))
    with ModelStore(folder, publish=publish) as store:
        facts = FactsBook(folder / FACTS_NAME, videos or (lambda video: None))
        store.before_commit = facts.sync
        try:
            learner = Learner(
                log,
                store,
                model=OnlineModel(
                    ModelSettings(
                        capacity=config.capacity,
                        min_sightings=config.min_sightings,
                        expire_days=config.expire_days,
                    )
                ),
                join=JoinSettings(
                    wait_seconds=config.wait_seconds,
                    correct_seconds=config.correct_seconds,
                    long_view_seconds=config.long_view_seconds,
                    max_user_examples=config.max_user_examples,
                ),
                facts_of=facts.facts_of,
                commit_events=config.commit_events,
                dead_letters=DeadLetters(folder / "dead-letters.jsonl"),
            )
            facts.position = lambda: learner.learned_position
            facts.is_repeated = lambda: learner.is_repeating
            status = StatusWriter(folder, publish=store.publish_status)
            _follow(learner, store, status=status, report=report, is_endless=config.follow)
        finally:
            facts.close()
            if videos is not None:
                videos.close()


def _follow(
    learner: Learner, store: ModelStore, *, status: StatusWriter, report: Report, is_endless: bool
) -> None:
    num_events, seconds, printed = 0, 0.0, time.monotonic()
    try:
        while True:
            started = time.monotonic()
            try:
                taken = learner.step()
                status.note(learner, taken)
            except EventsUnreachable as error:
                # Nothing was taken: it goes on where it was, after a failover with another server.
                if not is_endless:
                    raise
                logger.warning("the events cannot be read now: %s", error)
                time.sleep(_RETRY_SECONDS)
                continue
            store.publish()
            if taken:
                num_events += taken
                seconds += time.monotonic() - started
            elif not is_endless:
                break
            else:
                time.sleep(_POLL_SECONDS)
            if taken and time.monotonic() - printed >= _PROGRESS_SECONDS:
                printed = time.monotonic()
                figures = _figures(learner, num_events, seconds=seconds)
                report(_progress_line(figures), figures)
    finally:
        command_line.print_json(_figures(learner, num_events, seconds=seconds))


def _progress_line(figures: dict[str, Any]) -> str:
    recent = figures["last_hour"]
    quality = "" if recent["AUC"] is None else f", AUC of the last hour {recent['AUC']}"
    frozen = f", frozen: {figures['frozen']['reason']}" if figures["frozen"] else ""
    return (
        f"learned up to event {figures['position']}, {figures['lag_events']} behind, "
        f"{figures['events_per_second']} events a second, {figures['rows']} rows{quality}{frozen}"
    )


def _figures(learner: Learner, num_events: int, *, seconds: float) -> dict[str, Any]:
    return {
        **status_of(learner, now_seconds=time.time()),
        "events": num_events,
        "events_per_second": round(num_events / seconds) if seconds else 0,
        "last_hour": learner.recent.summary(),
    }


if __name__ == "__main__":
    command_line.run(main, LearnConfig, usage=USAGE)
