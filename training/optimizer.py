"""A network's parameters -> an optimizer with layer-wise learning rates, and their schedule."""

import math

import torch
from torch import nn

from reelseek.training.network import Network, Tower
from reelseek.training.towers import trunk_layers


def make_optimizer(
    network: Network,
    *,
    lr: float,
    trunk_lr: float,
    layer_decay: float,
    weight_decay: float,
    text_lr: float | None = None,
    pooling_lr: float | None = None,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over what trains.

    Heads and pooling learn at `lr`, the text tower's head at `text_lr` and the pooling at
    `pooling_lr` where these are given; a
    trunk's last layer at `trunk_lr`, and each layer before it slower by `layer_decay` (ULMFiT,
    Howard & Ruder 2018, section 3.2; BEiT, Bao et al. 2022, appendix). Vectors and scalars (norms,
    biases, the logit scale) do not decay.
    """
    rates: dict[nn.Parameter, float] = {}
    if text_lr is not None:
        rates.update(dict.fromkeys(network.text.head.parameters(), text_lr))
    if pooling_lr is not None:
        rates.update(dict.fromkeys(network.pooling.parameters(), pooling_lr))
    for tower in (network.image, network.text):
        rates.update(_trunk_rates(tower, trunk_lr=trunk_lr, layer_decay=layer_decay))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rates.get(parameter, lr), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
    )


def set_learning_rates(
    optimizer: torch.optim.Optimizer, *, step: int, num_steps: int, warmup_steps: int
) -> float:
    """Sets the rates of step `step` (from 0): linear warm-up, then half a cosine to 0 (SGDR,
    Loshchilov & Hutter 2017, without restarts). Returns the share of the peak."""
    if step < warmup_steps:
        fraction = (step + 1) / warmup_steps
    else:
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        fraction = 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = fraction * group["peak_lr"]
    return fraction


def _trunk_rates(tower: Tower, *, trunk_lr: float, layer_decay: float) -> dict[nn.Parameter, float]:
    layers = [layer for layer in trunk_layers(tower.trunk) if layer]
    return {
        parameter: trunk_lr * layer_decay ** (len(layers) - 1 - depth)
        for depth, layer in enumerate(layers)
        for parameter in layer
    }
