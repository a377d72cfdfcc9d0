"""Small networks and sequences for tests."""

from typing import Any

import numpy as np
import torch

from reelseek.configs.sequential_schema import SequentialLoopConfig, SequentialNetworkConfig
from reelseek.recommendation.data.sequences import Sequences
from reelseek.recommendation.sequential.items import ItemEmbeddings
from reelseek.recommendation.sequential.network import SequentialNetwork


def network_config(**values: Any) -> SequentialNetworkConfig:
    defaults = {
        "dim": 16,
        "num_blocks": 2,
        "num_heads": 2,
        "feedforward_factor": 2,
        "max_length": 8,
        "dropout": 0.1,
        "item_dropout": 0.1,
        "id_dropout": 0.0,
        "logit_scale": 10.0,
    }
    return SequentialNetworkConfig(**(defaults | values))


def loop_config(**values: Any) -> SequentialLoopConfig:
    defaults = {
        "epochs": 3,
        "batch_events": 128,
        "num_negatives": 32,
        "popularity_fraction": 0.5,
        "lr": 1e-2,
        "weight_decay": 0.01,
        "warmup_steps": 5,
        "max_grad_norm": 1.0,
        "validation_users": 20,
        "save_every_seconds": 60.0,
    }
    return SequentialLoopConfig(**(defaults | values))


def new_network(
    num_items: int = 30, *, content_dim: int = 0, seed: int = 0, **values: Any
) -> SequentialNetwork:
    """A network whose every weight is random, also those that begin at 0; no item 0 was chosen."""
    torch.manual_seed(seed)
    config = network_config(**values)
    items = ItemEmbeddings(
        torch.arange(num_items) > 0,
        config.dim,
        content=torch.randn(num_items, content_dim) if content_dim else None,
        id_dropout=config.id_dropout,
    )
    network = SequentialNetwork(config, items)
    with torch.no_grad():
        for block in network.blocks:
            torch.nn.init.normal_(block.distance_bias)
    return network.eval()


def rings(num_users: int = 200, *, num_items: int = 20, seed: int = 0) -> Sequences:
    """Users who go around a ring of items: after each comes the next one."""
    random = np.random.default_rng(seed)
    starts, lengths = random.integers(0, num_items, num_users), random.integers(1, 8, num_users)
    return Sequences.of(
        (f"user{user}", [f"item{(start + step) % num_items}" for step in range(length)])
        for user, (start, length) in enumerate(zip(starts, lengths, strict=True))
    )
