"""A run that is stopped and continued is the run that was never stopped; it learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reelseek.recommendation.recommender import Progress
from reelseek.recommendation.sequential.fitting import export_network, train_network
from reelseek.recommendation.sequential.model import TrainedNetwork
from reelseek.training.processes import Processes
from tests.recommendation.sequential.samples import loop_config, network_config, new_network, rings

_ALONE = Processes(0, 1, torch.device("cpu"))


class _StopAfter:
    """Becomes true after some steps."""

    def __init__(self, num_steps: int) -> None:
        self._left = num_steps

    def __bool__(self) -> bool:
        self._left -= 1
        return self._left <= 0


def train(folder: Path | None = None, *, stop: Any = False, **values: Any) -> TrainedNetwork | None:
    content = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    return train_network(
        rings(),
        network=network_config(id_dropout=0.3),
        loop=loop_config(**values),
        seed=3,
        processes=_ALONE,
        content=content,
        folder=folder,
        stop=stop,
    )


def assert_same_bits(first: TrainedNetwork, second: TrainedNetwork) -> None:
    assert first.weights.keys() == second.weights.keys()
    for name in first.weights:
        assert np.array_equal(first.weights[name], second.weights[name]), name
    assert np.array_equal(first.items, second.items)


@pytest.mark.parametrize("stopped_after", [1, 7, 8, 9])  # an epoch has 7 steps or so
def test_resumed_is_uninterrupted_to_the_bit(tmp_path: Path, stopped_after: int) -> None:
    uninterrupted = train()
    folder = tmp_path / "checkpoints"
    assert train(folder, stop=_StopAfter(stopped_after)) is None
    torch.manual_seed(99)  # a new process has another state of chance
    resumed = train(folder)
    assert uninterrupted is not None and resumed is not None
    assert_same_bits(uninterrupted, resumed)
    again = train(folder)  # a run that has ended comes out of its checkpoint
    assert again is not None
    assert_same_bits(resumed, again)


def test_another_run_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    train(folder, stop=_StopAfter(2))
    with pytest.raises(ValueError, match=r"epochs.*name another output"):
        train(folder, epochs=4)


def test_it_learns_what_comes_next() -> None:
    sequences = rings()
    losses: list[str] = []
    progress: Progress = lambda fraction, text: losses.append(text)  # noqa: E731
    trained = train_network(
        sequences,
        network=network_config(),
        loop=loop_config(epochs=12),
        seed=0,
        processes=_ALONE,
        progress=progress,
    )
    assert trained is not None
    first, last = (float(text.rpartition(" ")[2]) for text in (losses[0], losses[-1]))
    assert last < first / 3


def test_a_loss_that_is_not_finite_names_the_learning_rate() -> None:
    with pytest.raises(ValueError, match=r"loop\.lr=1e\+30 is too high"):
        train(lr=1e30, warmup_steps=0, max_grad_norm=1e30)


def test_the_export_has_no_more_than_is_served() -> None:
    network = new_network(content_dim=5)
    exported = export_network(network)
    assert not any(name.startswith("items.") for name in exported.weights)
    assert exported.items.shape == (30, 16)
    assert exported.projection is not None and exported.projection.shape == (16, 5)
