"""Sequences -> one trained network: the parts of its run, put together."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.configs.sequential_schema import SequentialLoopConfig, SequentialNetworkConfig
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.recommender import Progress, silent
from reelseek.recommendation.sequential.batches import SequenceBatches
from reelseek.recommendation.sequential.items import ItemEmbeddings
from reelseek.recommendation.sequential.model import TrainedNetwork, catalogue_fingerprint
from reelseek.recommendation.sequential.negatives import NegativeSampler
from reelseek.recommendation.sequential.network import SequentialNetwork
from reelseek.recommendation.sequential.trainer import SequentialTrainer
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.checks import require_same_run
from reelseek.training.processes import Processes

__all__ = ["export_network", "train_network"]


def train_network(
    sequences: Sequences,
    *,
    network: SequentialNetworkConfig,
    loop: SequentialLoopConfig,
    seed: int,
    processes: Processes,
    content: np.ndarray | None = None,
    folder: Path | None = None,
    stop: Any = False,
    progress: Progress = silent,
) -> TrainedNetwork | None:
    """Trains one network, or continues its run.

    Args:
        sequences: learned from whole.
        seed: of all that is drawn at random.
        content: `(N, C)` of the catalogue's items, None for none.
        folder: of the checkpoints, None to keep none.
        stop: ends the run after the current step where it becomes true.

    Returns:
        The network; None where `stop` ended the run.

    Raises:
        ValueError: nothing can be learned, or the folder holds another run.
    """
    torch.manual_seed(seed)
    counts = sequences.item_counts
    items = ItemEmbeddings(
        torch.from_numpy(counts > 0),
        network.dim,
        content=None if content is None else torch.from_numpy(content),
        id_dropout=network.id_dropout,
    )
    made = SequentialNetwork(network, items).to(processes.device)
    batches = SequenceBatches(
        sequences.histories(),
        max_length=network.max_length,
        batch_events=loop.batch_events,
        seed=seed,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    options = _options(sequences, network, loop, seed=seed, content=content)
    checkpoints = None if folder is None else Checkpoints(folder)
    trainer = SequentialTrainer(
        made,
        batches,
        sampler=NegativeSampler(counts, popularity_fraction=loop.popularity_fraction),
        config=loop,
        seed=seed,
        processes=processes,
        checkpoints=checkpoints,
        options=options,
    )
    state = None if checkpoints is None else checkpoints.read_last()
    if state is not None and folder is not None:
        require_same_run(options, state.options, folder.parent)
        trainer.restore(state)
    if not trainer.run(stop=stop, progress=progress):
        return None
    return export_network(made)


def export_network(network: SequentialNetwork) -> TrainedNetwork:
    """Takes what is served out of a network."""
    network.eval()
    weights = {
        name: tensor.detach().cpu().numpy().copy()
        for name, tensor in network.state_dict().items()
        if not name.startswith("items.")
    }
    projection = network.items.projection
    return TrainedNetwork(
        weights,
        network.items.table().cpu().numpy(),
        None if projection is None else projection.weight.detach().cpu().numpy().copy(),
    )


def _options(
    sequences: Sequences,
    network: SequentialNetworkConfig,
    loop: SequentialLoopConfig,
    *,
    seed: int,
    content: np.ndarray | None,
) -> dict[str, Any]:
    """What a run and its continuation must share, as plain values."""
    data = {
        "catalogue": catalogue_fingerprint(sequences.items.ids()),
        "num_users": sequences.num_users,
        "num_events": sequences.num_events,
        "content_dim": 0 if content is None else int(content.shape[1]),
    }
    values = {name: value for name, value in asdict(loop).items() if name != "save_every_seconds"}
    return {"network": asdict(network), "loop": values, "seed": seed, "data": data}
