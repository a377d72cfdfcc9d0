"""A log -> the state of a learner that reads it from its beginning, or goes on to its end.

What the benchmarks that kill learners compare at the end.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import EventSource, Learner
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.learning.store import ModelStore
from reelseek.recommendation.personal.facts import FactsBook
from tests.recommendation.learning.learner import digest_of

# Short waits and a small table, so that keys wait, are evicted and expire.
SETTINGS = {
    "wait_seconds": 5,
    "correct_seconds": 60,
    "commit_events": 40,
    "capacity": 4000,
    "min_sightings": 2,
    "expire_days": 0.002,
}
OPTIONS = [f"{name}={value}" for name, value in SETTINGS.items()]


def new_model() -> OnlineModel:
    names = ("capacity", "min_sightings", "expire_days")
    return OnlineModel(ModelSettings(**{name: SETTINGS[name] for name in names}))  # type: ignore[arg-type]


def learn(
    log: EventSource,
    folder: Path,
    *,
    publish: RedisFiles | None = None,
    facts: FactsBook | None = None,
) -> tuple[Learner, int]:
    """Learns to the end of the log; returns the learner, and its epoch.

    Args:
        folder: of the model, from which it goes on.
        facts: of videos, as they were found when the log was first learned.
    """
    join = JoinSettings(SETTINGS["wait_seconds"], SETTINGS["correct_seconds"])
    facts_of: Callable[[str], VideoFacts] = lambda video: UNKNOWN_VIDEO  # noqa: E731
    with ModelStore(folder, publish=publish) as store:
        learner = Learner(
            log,
            store,
            model=new_model(),
            join=join,
            facts_of=facts_of if facts is None else facts.facts_of,
            commit_events=int(SETTINGS["commit_events"]),
        )
        if facts is not None:
            facts.position = lambda: learner.position
        while learner.step():
            pass
        learner.commit()
        return learner, store.epoch


def summed(
    results: Sequence[dict[str, Any]],
    names: Sequence[str],
    *,
    is_right: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """Returns the sums of several runs.

    Args:
        names: of numbers of each run, besides its kills.
    """
    kills: Counter[str] = sum((Counter(each["kills"]) for each in results), Counter())
    return {
        "runs": len(results),
        "right": sum(map(is_right, results)),
        "kills": sum(kills.values()),
        "of_each": dict(kills),
        **{name: sum(each[name] for each in results) for name in names},
    }


def state_of(learner: Learner) -> tuple[Any, ...]:
    return learner.position, digest_of(learner.model), learner.joiner.counts
