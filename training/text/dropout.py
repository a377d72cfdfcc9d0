"""Dropout whose masks belong to the rows of a batch, however the batch is divided.

SimCSE (Gao et al. 2021, "Simple Contrastive Learning of Sentence Embeddings", section 3) embeds a
text twice under different dropout. PyTorch draws a mask for a whole tensor, so that it changes with
the number of processes, the chunks and the padding. Here each element's number is a hash of its
row's seed, its layer and its place in the row (a counter-based generator, Salmon et al. 2011): a
step is the same with any number of processes, and after a stop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import nn

# The increment and the multipliers of SplitMix64 (Steele et al. 2014, figure 17), as signed
# numbers, and odd numbers without a pattern, one for each dimension.
_GOLDEN = -0x61C8864680B583EB
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_STRIDES = (0x2545F4914F6CDD1D, 0x27D4EB2F165667C5, 0x165667B19E3779F9)


@dataclass
class _Rows:
    seeds: torch.Tensor | None = None


class RowDropout:
    """Adds dropout to a tower in evaluation mode, inside `rows` only.

    It takes the places of the tower's own dropout; open_clip's text transformer has none, and
    there it drops what each residual branch adds.

    Args:
        tower: `(B, L)` tokens to features.
        fraction: of the elements set to 0.
    """

    def __init__(self, tower: nn.Module, fraction: float) -> None:
        self._rows = _Rows()
        places = [module for module in tower.modules() if isinstance(module, nn.Dropout)]
        if not places:
            blocks = [m for m in tower.modules() if isinstance(m, ResidualAttentionBlock)]
            places = [branch for block in blocks for branch in (block.ls_1, block.ls_2)]
        if fraction:
            for layer, module in enumerate(places):
                module.register_forward_hook(_make_hook(self._rows, layer, fraction))

    @contextmanager
    def rows(self, seeds: torch.Tensor) -> Iterator[None]:
        """Drops inside the context, by the seeds of the batch's rows, `(B,)` int64."""
        self._rows.seeds = seeds
        try:
            yield
        finally:
            self._rows.seeds = None


def keep_mask(
    seeds: torch.Tensor, shape: tuple[int, ...], *, layer: int, fraction: float
) -> torch.Tensor:
    """Returns which elements stay: bool, of this shape, whose first dimension is that of the
    seeds; at most three more follow."""
    state = _mix(_mix(seeds) + torch.tensor(layer + 1, device=seeds.device) * _GOLDEN)
    state = state.view(-1, *[1] * (len(shape) - 1))
    for dim, size in enumerate(shape[1:], 1):
        steps = torch.arange(1, size + 1, device=seeds.device) * _STRIDES[dim - 1]
        state = state + steps.view(-1, *[1] * (len(shape) - 1 - dim))
    return (_mix(state) >> 40) & 0xFFFFFF >= int(fraction * 2**24)


def _make_hook(rows: _Rows, layer: int, fraction: float) -> Callable[..., torch.Tensor | None]:
    # A function, for a copy of the module then shares it.
    def drop(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor | None:
        if rows.seeds is None or output.shape[0] != len(rows.seeds):
            return None
        kept = keep_mask(rows.seeds, tuple(output.shape), layer=layer, fraction=fraction)
        return output * kept / (1 - fraction)

    return drop


def _mix(state: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer."""
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: torch.Tensor, bits: int) -> torch.Tensor:
    """Shifts right and fills with zeros; PyTorch fills with the sign."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
