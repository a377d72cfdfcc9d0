"""Sequences and titles -> a trained sequential model, in one process or several."""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelseek.configs.composition import default_values
from reelseek.configs.sequential_schema import (
    SequentialConfig,
    SequentialLoopConfig,
    SequentialNetworkConfig,
)
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.item_transitions import ItemTransitions
from reelseek.recommendation.recommender import FitSettings, Progress, silent
from reelseek.recommendation.sequential.blend import choose_weight
from reelseek.recommendation.sequential.content import ReadContent
from reelseek.recommendation.sequential.fitting import train_network
from reelseek.recommendation.sequential.model import SequentialModel
from reelseek.recommendation.sequential.scorer import SequentialScorer
from reelseek.recommendation.sequential.validation import HeldOutLast, hold_out_last
from reelseek.training.processes import Processes

__all__ = ["ModelSettings", "default_settings", "train_model", "with_steps"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSettings:
    """What a model is made with; see `SequentialConfig`."""

    network: SequentialNetworkConfig
    loop: SequentialLoopConfig
    ensemble: int
    seed: int


def with_steps(settings: ModelSettings, min_steps: int, *, num_events: int) -> ModelSettings:
    """Returns settings with more epochs, where few events would make too few steps."""
    per_epoch = max(1, num_events // settings.loop.batch_events)
    epochs = max(settings.loop.epochs, math.ceil(min_steps / per_epoch))
    return replace(settings, loop=replace(settings.loop, epochs=epochs))


def train_model(
    training: Sequences,
    settings: ModelSettings,
    *,
    read_content: ReadContent,
    processes: Processes,
    folder: Path | None = None,
    stop: Any = False,
    progress: Progress = silent,
) -> SequentialModel | None:
    """Trains a model, or continues its run.

    The last items of some users are not learned from, but choose how much item transitions count.

    Args:
        read_content: of all items; asked in the first process.
        folder: of the checkpoints, None to keep none.
        stop: ends the run after the current step where it becomes true.

    Returns:
        The model; None where `stop` ended the run.

    Raises:
        ValueError: the items stand in no order, nothing can be learned, or the folder holds another
            run.
    """
    if not training.is_ordered:
        raise ValueError("sequential learns from sequences; for pairs choose another method")
    held_out = hold_out_last(training, settings.loop.validation_users, seed=settings.seed)
    content, fingerprint = processes.broadcast_from_rank0(lambda: read_content(progress))
    networks = []
    for number in range(settings.ensemble):
        trained = train_network(
            held_out.learned,
            network=settings.network,
            loop=settings.loop,
            seed=settings.seed * settings.ensemble + number,
            processes=processes,
            content=content,
            folder=None if folder is None else folder / f"network-{number}",
            stop=stop,
            progress=_part(progress, number, settings.ensemble),
        )
        if trained is None:
            return None
        networks.append(trained)
    ids = training.items.ids()
    model = SequentialModel(networks, settings.network.num_heads, ids, fingerprint)
    return replace(model, transitions_weight=_choose_weight(model, held_out))


def default_settings(seed: int, **options: Any) -> ModelSettings:
    """Returns the values of the configuration, with some of `network`, `loop` and `ensemble`
    replaced."""
    values = default_values(SequentialConfig)
    chosen = {
        "network": SequentialNetworkConfig(**values["network"]),
        "loop": SequentialLoopConfig(**values["loop"]),
        "ensemble": values["ensemble"],
    }
    return ModelSettings(**(chosen | options), seed=seed)


def _choose_weight(model: SequentialModel, held_out: HeldOutLast) -> float:
    if not len(held_out.targets):
        return 0.0
    transitions = ItemTransitions(FitSettings())
    transitions.fit(held_out.learned)
    weight, gains = choose_weight(
        SequentialScorer(model, held_out.learned.item_counts).logits(held_out.histories),
        transitions.scores(held_out.histories),
        histories=held_out.histories,
        targets=held_out.targets,
    )
    logger.info("item transitions count %s: %s", weight, gains)
    return weight


def _part(progress: Progress, number: int, total: int) -> Progress:
    """Returns the progress of one network of several."""

    def show(fraction: float, text: str) -> None:
        of = f"network {number + 1} of {total}, " if total > 1 else ""
        progress((number + fraction) / total, of + text)

    return show
