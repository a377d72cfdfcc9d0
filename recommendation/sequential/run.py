"""Sequences and titles -> a trained sequential model, in one process or several."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.configs.sequential_schema import SequentialLoopConfig, SequentialNetworkConfig
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.item_transitions import ItemTransitions
from reelseek.recommendation.recommender import FitSettings, Progress, silent
from reelseek.recommendation.sequential.blend import choose_weight
from reelseek.recommendation.sequential.content import embed_titles, load_text_tower
from reelseek.recommendation.sequential.fitting import train_network
from reelseek.recommendation.sequential.model import SequentialModel
from reelseek.recommendation.sequential.scorer import SequentialScorer
from reelseek.recommendation.sequential.validation import HeldOutLast, hold_out_last
from reelseek.training.processes import Processes

__all__ = ["ModelSettings", "train_model"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelSettings:
    """What a model is made with; see `SequentialConfig`."""

    network: SequentialNetworkConfig
    loop: SequentialLoopConfig
    ensemble: int
    text_model: str
    seed: int


def train_model(
    training: Sequences,
    settings: ModelSettings,
    *,
    titles: tuple[str, ...] | None,
    processes: Processes,
    folder: Path | None = None,
    stop: Any = False,
    progress: Progress = silent,
) -> SequentialModel | None:
    """Trains a model, or continues its run.

    The last items of some users are not learned from, but choose how much item transitions count.

    Args:
        titles: of all items by index, None for none.
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

    def read_titles() -> tuple[np.ndarray | None, str]:
        return _content(titles, settings.text_model, progress=progress)

    content, fingerprint = processes.broadcast_from_rank0(read_titles)
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


def _content(
    titles: tuple[str, ...] | None, text_model: str, *, progress: Progress
) -> tuple[np.ndarray | None, str]:
    """Returns the content of the items and the fingerprint of what made it."""
    if titles is None or not any(title.strip() for title in titles):
        return None, ""
    embed, fingerprint = load_text_tower(text_model)
    return embed_titles(titles, embed, progress=progress), fingerprint


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
