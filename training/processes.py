"""The processes of one training run: a single one, or as many as `torchrun` has started."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from reelseek.vision import choose_device

Value = TypeVar("Value")

# The first process decodes a collection while the others wait for it.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: from 0; only 0 writes and prints.
        world_size: number of processes.
        device: of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main_process(self) -> bool:
        return self.rank == 0

    def broadcast_from_rank0(self, make: Callable[[], Value]) -> Value:
        """Calls `make` in the first process; returns its value, or raises its error, in all."""
        if self.world_size == 1:
            return make()
        box: list = [None, None]
        if self.is_main_process:
            try:
                box[0] = make()
            except Exception as error:
                box[1] = error
        distributed.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise box[1]
        return box[0]

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is true in any process."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        return bool(flags.item())


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Joins the processes that `torchrun` has started; alone where it has not.

    Args:
        device: `auto`, `cpu`, `cuda`, ...; under torchrun, each process takes a GPU of its own.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Processes(0, 1, choose_device(device))
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    # open_clip gathers with it, correctly.
    warnings.filterwarnings("ignore", "torch.distributed.nn.functional", FutureWarning)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), chosen)
    finally:
        distributed.destroy_process_group()
