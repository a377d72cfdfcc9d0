"""What a poisoned stream costs the live learner, on real impressions.

    python benchmarks/poisoned_streams.py events=FILE.parquet folder=DIR [rows=20000]
        [max_user_examples=30]

The last third of the rows is measured: AUC of what was predicted before learning, with the real
labels. Poison comes in the middle third, alone or with the bounds taken away:
- a robot has half of the impressions, and watches at random;
- all labels are flipped for an hour of the log.
Prints a line of JSON for each: AUC, freezes, skipped and limited examples.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.events.rows import LoggedEvent  # noqa: E402
from reelseek.recommendation.events.schema import Impression, Play  # noqa: E402
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts  # noqa: E402
from reelseek.recommendation.learning.guard import GuardSettings  # noqa: E402
from reelseek.recommendation.learning.impressions import Impressions, Outcomes  # noqa: E402
from reelseek.recommendation.learning.joining import JoinSettings  # noqa: E402
from reelseek.recommendation.learning.learner import Learner  # noqa: E402
from reelseek.recommendation.learning.model import OnlineModel  # noqa: E402
from reelseek.recommendation.learning.reading import read_impressions  # noqa: E402
from reelseek.recommendation.learning.sessions import auc  # noqa: E402
from reelseek.recommendation.learning.store import ModelStore  # noqa: E402

_NEVER = 10**9
_ROBOT = "robot"
_WATCHED_SECONDS = 30.0


@dataclass(frozen=True)
class Poison:
    robot: bool = False
    flipped: bool = False
    is_bounded: bool = True


STREAMS = {
    "sound": Poison(),
    "robot": Poison(robot=True),
    "robot, no bound": Poison(robot=True, is_bounded=False),
    "flipped hour": Poison(flipped=True),
    "flipped hour, no guard": Poison(flipped=True, is_bounded=False),
}


class Log:
    """A log in memory; `labels` are the true ones of measured impressions, by their position."""

    def __init__(
        self, poison: Poison, impressions: Impressions, outcomes: Outcomes, *, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        num = len(impressions)
        begin_ms = impressions.time_ms[num // 3]
        self.events: list[LoggedEvent] = []
        self.labels: dict[int, float] = {}
        columns = (impressions.user, impressions.video, impressions.time_ms, impressions.tab)
        rows = zip(*(each.tolist() for each in columns), strict=True)
        for number, (user, video, time_ms, tab) in enumerate(rows):
            label = bool(outcomes.labels[number, 0])
            is_in_hour = begin_ms <= time_ms < begin_ms + 3_600_000
            if number >= 2 * num // 3:
                self.labels[len(self.events) + 1] = float(label)
            self._add(
                str(user),
                str(video),
                time_ms / 1000,
                tab=tab,
                number=number,
                watched=label != (poison.flipped and is_in_hour),
            )
            if poison.robot and num // 3 <= number < 2 * num // 3:
                self._add(
                    _ROBOT,
                    str(video),
                    time_ms / 1000,
                    tab=tab,
                    number=-number,
                    watched=rng.random() < 0.5,
                )

    def _add(
        self, user: str, video: str, at: float, *, tab: int, number: int, watched: bool
    ) -> None:
        common: dict[str, Any] = {"time_seconds": at, "user": user, "video": video}
        common["request_id"] = f"r{number}"
        impression = Impression(event_id="", position=1, surface=f"tab{tab}", **common)
        self._append(impression, at)
        if watched:  # at once, so that the order of the log needs no sorting
            self._append(Play(event_id="", watched_seconds=_WATCHED_SECONDS, **common), at)

    def _append(self, event: Impression | Play, at: float) -> None:
        self.events.append(LoggedEvent(len(self.events) + 1, at, event))

    def read(self, *, after: int = 0, limit: int = 1000) -> list[LoggedEvent]:
        return self.events[after : after + limit]

    def bounds(self) -> tuple[int, int]:
        return 0, len(self.events)


class MeasuredLearner(Learner):
    """Keeps what was predicted of each example, whether it was learned or not."""

    def open_figures(self) -> None:
        self.predicted: dict[int, float] = {}
        add = self.guard.add

        def kept(positions, times, *, predicted, labels):  # type: ignore[no-untyped-def]
            self.predicted.update(zip(positions, predicted[:, 0].tolist(), strict=True))
            add(positions, times, predicted=predicted, labels=labels)

        self.guard.add = kept  # type: ignore[method-assign]


def main() -> None:
    options = parse_options(__doc__, events=None, folder=None, rows="20000", max_user_examples="30")
    impressions, outcomes, _ = read_impressions("events", [Path(options["events"])])
    part = slice(0, int(options["rows"]))
    impressions, outcomes = impressions.take(part), outcomes.take(part)
    facts = _facts(impressions)
    for name, poison in STREAMS.items():
        log = Log(poison, impressions, outcomes)
        limit = int(options["max_user_examples"]) if poison.is_bounded else _NEVER
        guard = GuardSettings() if poison.is_bounded else GuardSettings(warm_examples=_NEVER)
        folder = Path(options["folder"]) / name.replace(", ", "-").replace(" ", "-")
        with ModelStore(folder) as store:
            learner = MeasuredLearner(
                log,
                store,
                model=OnlineModel(),
                join=JoinSettings(max_user_examples=limit),
                facts_of=lambda video: facts.get(video, UNKNOWN_VIDEO),
                guard=guard,
            )
            learner.open_figures()
            while learner.step():
                pass
        known = [position for position in log.labels if position in learner.predicted]
        labels = np.array([log.labels[position] for position in known])
        predicted = np.array([learner.predicted[position] for position in known])
        figures = {
            "stream": name,
            "AUC": round(auc(labels, predicted), 4),
            "num_events": len(known),
            "freezes": learner.guard.num_freezes,
            "skipped": learner.num_skipped,
            "limited": learner.joiner.counts.limited,
        }
        print(json.dumps(figures), flush=True)


def _facts(impressions: Impressions) -> dict[str, VideoFacts]:
    columns = (
        impressions.video,
        impressions.author,
        impressions.tag,
        impressions.duration_ms,
        impressions.upload_day,
    )
    rows = zip(*(each.tolist() for each in columns), strict=True)
    return {
        str(video): VideoFacts(author, tag, duration, day)
        for video, author, tag, duration, day in rows
    }


if __name__ == "__main__":
    main()
