"""The process that learns from the events of a service while they come."""

import logging
import signal
from typing import Any

from reelseek.configs.composition import compose
from reelseek.configs.learning_schema import LearnConfig
from reelseek.configs.schema import ServeConfig
from reelseek.recommendation import learn
from reelseek.serving import telemetry
from reelseek.serving.personalizing import learned_place

logger = logging.getLogger(__name__)


def learn_config(config: ServeConfig) -> LearnConfig:
    """The learner's options: its own defaults, and what the service's say.

    Raises:
        ValueError: one of `personal.learner_options` is not known or not allowed.
    """
    asked = compose(LearnConfig, [*config.personal.learner_options, "events=."])
    asked.events, asked.index = str(config.events), config.index
    asked.output, asked.follow = str(learned_place(config)), True
    return asked


def main(config: ServeConfig) -> None:
    """Runs until SIGTERM; whatever was not committed then is learned again."""
    telemetry.log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    try:
        learn.run(learn_config(config), report=_log)
    except ValueError as error:
        logger.error("the learner stops: %s", error)
        raise SystemExit(1) from error


def _log(line: str, figures: dict[str, Any]) -> None:
    logger.info("learning", extra={"fields": figures})
