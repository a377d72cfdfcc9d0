"""`python -m recommendation.experiment`: what an experiment shows, from the log of events."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.experiment_schema import ExperimentConfig
from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.experiments.buckets import arm_of, check_shares
from reelseek.recommendation.experiments.effect import ratio_effect, sample_ratio_p
from reelseek.recommendation.experiments.outcomes import UserOutcomes, outcomes_by_user

USAGE = """usage: python -m recommendation.experiment events=DIR name=NAME [surface=search]
           [since=UNIX_SECONDS] [until=UNIX_SECONDS] [name=value ...]

Users are in the arm that the hash of their pseudonym and the experiment's name gives. The last line
on stdout is a JSON object: of each metric both arms, the difference, its 95 % interval and p-value;
and whether the arms have as many users as they should (p_value below .001: do not trust it)."""

_SUSPICIOUS = 0.001


def main(config: ExperimentConfig) -> None:
    folder = Path(config.events)
    if not folder.is_dir():
        raise ValueError(f"events={folder}: no such folder; name that of `serve events=DIR`")
    shares = [1 - config.treatment_share, config.treatment_share]
    check_shares(shares)
    log = EventLog(folder)
    try:
        found = outcomes_by_user(
            log.scan(),
            surface=config.surface,
            since=config.since,
            until=math.inf if config.until is None else config.until,
        )
    except EventsUnavailable as error:
        raise ValueError(str(error)) from error
    finally:
        log.close()
    arms: tuple[list[UserOutcomes], list[UserOutcomes]] = ([], [])
    for user, outcomes in found.items():
        arms[arm_of(config.name, user, shares)].append(outcomes)
    if min(len(arm) for arm in arms) < 2:
        raise ValueError(
            f"events={folder}: {len(arms[0])} and {len(arms[1])} users with impressions in the two "
            "arms; two of each are needed at least"
        )
    command_line.print_json(_figures(config, arms, shares=shares))


def _figures(
    config: ExperimentConfig,
    arms: tuple[list[UserOutcomes], list[UserOutcomes]],
    *,
    shares: list[float],
) -> dict[str, Any]:
    p_value = sample_ratio_p([len(arm) for arm in arms], shares)
    metrics = {
        "clicks_per_impression": UserOutcomes.num_clicked,
        "long_views_per_impression": lambda each: each.num_long(config.long_view_seconds),
        "seconds_per_impression": UserOutcomes.num_seconds,
    }
    effects = {}
    for name, of in metrics.items():
        columns = [
            (
                np.array([of(each) for each in arm], np.float64),
                np.array([len(each.shown) for each in arm], np.float64),
            )
            for arm in arms
        ]
        effect = ratio_effect(columns[0], columns[1])
        effects[name] = {
            "control": round(effect.control, 5),
            "treatment": round(effect.treatment, 5),
            "difference": round(effect.difference, 5),
            "interval": [round(bound, 5) for bound in effect.interval],
            "p_value": round(effect.p_value, 5),
        }
    return {
        "name": config.name,
        "users": [len(arm) for arm in arms],
        "sample_ratio": {"p_value": round(p_value, 6), "is_sound": p_value >= _SUSPICIOUS},
        "effects": effects,
    }


if __name__ == "__main__":
    command_line.run(main, ExperimentConfig, usage=USAGE)
