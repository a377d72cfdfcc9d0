"""A tiny model and collection."""

from collections.abc import Iterator

import pytest
import torch

import reelseek.training.run
from reelseek.training.frame_cache import CachedVideo
from reelseek.training.network import Network
from reelseek.vision import DualEncoder
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


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the curves of a run, which take longer to draw than its steps: those of a fixture
    are drawn, and tests/training/test_curves.py draws more."""
    monkeypatch.setattr(reelseek.training.run, "draw_curves", lambda history, path: None)
