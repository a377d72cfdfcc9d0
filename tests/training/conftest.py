"""A tiny model and collection, and what two processes have made of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from reelseek.training.frame_cache import CachedVideo
from reelseek.training.network import Network
from reelseek.vision import DualEncoder
from tests.command_lines import run_program
from tests.training import tiny_run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of matrices as small as these, several threads make slow work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> DualEncoder:
    """An open_clip model with weights by chance."""
    return tiny_run.make_model()


@pytest.fixture
def network() -> Network:
    """Its heads train, on features."""
    return tiny_run.make_network()


@pytest.fixture
def videos() -> list[CachedVideo]:
    return tiny_run.make_videos()


@dataclass(frozen=True)
class TwoProcesses:
    """What `tests.training.tiny_run` did as two processes of `torchrun`.

    Attributes:
        reports: of each process.
        weights: of each process, at the end of each configuration.
        folder: with what they wrote.
    """

    reports: list[dict[str, Any]]
    weights: list[dict[str, dict[str, torch.Tensor]]]
    folder: Path


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> TwoProcesses:
    folder = tmp_path_factory.mktemp("torchrun")
    done = run_program(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2),
        *("-m", "tests.training.tiny_run", folder),
    )
    assert done.returncode == 0, done.stderr
    return TwoProcesses(
        [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)],
        [torch.load(folder / f"weights-{rank}.pt") for rank in range(2)],
        folder,
    )
