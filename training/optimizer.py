"""A network's parameters -> an optimizer with layer-wise learning rates, and their schedule."""

import math

import torch
from torch import nn

from reelseek.configs.train_schema import OptimizerConfig
from reelseek.training.network import Network, Tower
from reelseek.training.towers import trunk_layers


def make_optimizer(network: Network, config: OptimizerConfig) -> torch.optim.AdamW:
    """Returns AdamW (Loshchilov & Hutter 2019) over the parameters that train.

    Heads and pooling learn at `lr`, or at `text_lr` and `pooling_lr` where these are given. A
    trunk's last layer learns at `trunk_lr`, and each layer before it slower by `layer_decay`
    (ULMFiT, Howard & Ruder 2018, section 3.2; BEiT, Bao et al. 2022, appendix). Vectors and scalars
    (norms, biases, the logit scale) do not decay.
    """
    rates: dict[nn.Parameter, float] = {}
    if config.text_lr is not None:
        rates.update(dict.fromkeys(network.text.head.parameters(), config.text_lr))
    if config.pooling_lr is not None:
        rates.update(dict.fromkeys(network.pooling.parameters(), config.pooling_lr))
    for tower in (network.image, network.text):
        rates.update(_trunk_rates(tower, config))

    # One group for all parameters of the same rate and decay: fewer, larger kernels.
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((rates.get(parameter, config.lr), decay), []).append(parameter)
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
    """Sets the rates of step `step` (from 0) and returns them as a fraction of their peaks: linear
    warm-up, then half a cosine to 0 (SGDR, Loshchilov & Hutter 2017, without restarts)."""
    if step < warmup_steps:
        fraction = (step + 1) / warmup_steps
    else:
        progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        fraction = 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = fraction * group["peak_lr"]
    return fraction


def _trunk_rates(tower: Tower, config: OptimizerConfig) -> dict[nn.Parameter, float]:
    layers = [layer for layer in trunk_layers(tower.trunk) if layer]
    return {
        parameter: config.trunk_lr * config.layer_decay ** (len(layers) - 1 - depth)
        for depth, layer in enumerate(layers)
        for parameter in layer
    }
