import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reelseek.training import grad_cache
from reelseek.training.batches import Batch, collate
from reelseek.training.objective import MultiPositiveClipLoss, MultiPositiveSigLipLoss
from tests.training import tiny_run

LOSSES = {"infonce": MultiPositiveClipLoss(), "sigmoid": MultiPositiveSigLipLoss()}


def make_batch(num_pairs=7, *, pixels=False):
    """Pairs of videos of unequal lengths; the first two are of one video."""
    videos = tiny_run.make_videos(num_pairs, pixels=pixels)
    captions = [f"film {n}" for n in range(num_pairs)]
    if pixels:
        text = tiny_run.tokenize(captions)
    else:
        text = torch.randn(num_pairs, tiny_run.WIDTH, generator=torch.Generator().manual_seed(1))
    pairs = []
    for number, video in enumerate(videos):
        frames = torch.from_numpy(video.frames if pixels else video.frames.astype("float32"))
        pairs.append((frames, text[number], max(number, 1), number))
    return collate(pairs)


def gradients_of(network):
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad(set_to_none=True)
    return found


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("trains", ["heads", "all"])
def test_gradients_are_those_of_the_whole_batch(trains, loss, chunk_size):
    network = tiny_run.make_network(trains=trains, logit_bias=-5.0 if loss == "sigmoid" else None)
    batch, objective = make_batch(pixels=trains == "all"), LOSSES[loss]
    expected_loss = objective(*network(batch), batch.ids)
    expected_loss.backward()
    expected = gradients_of(network)
    assert expected.keys() == network.trained_state().keys()
    assert {"logit_scale"} | ({"logit_bias"} if loss == "sigmoid" else set()) <= expected.keys()
    assert all(expected[name].abs().max() > 1e-4 for name in expected if "logit" in name)

    found = grad_cache.backward(network, batch, objective, chunk_size=chunk_size)
    torch.testing.assert_close(found, expected_loss.detach())
    assert not found.requires_grad
    assert_same(gradients_of(network), expected)


def test_no_forward_pass_has_more_than_a_chunk(network, monkeypatch):
    sizes, with_graph = [], []

    def forward(batch, forward=network.forward):
        sizes.append(len(batch))
        with_graph.append(torch.is_grad_enabled())
        return forward(batch)

    monkeypatch.setattr(network, "forward", forward)
    grad_cache.backward(network, make_batch(7), LOSSES["infonce"], chunk_size=3)
    assert sizes == [3, 3, 1, 3, 3, 1]
    assert with_graph == [False] * 3 + [True] * 3


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_gradients_are_added_to_those_that_are_there_and_scaled(network, chunk_size):
    batch, objective = make_batch(), LOSSES["infonce"]
    grad_cache.backward(network, batch, objective)
    once = gradients_of(network)
    for scale in (0.25, 0.5):
        grad_cache.backward(network, batch, objective, chunk_size=chunk_size, scale=scale)
    assert_same(gradients_of(network), {name: 0.75 * part for name, part in once.items()})


class Noisy(nn.Module):
    """A network with dropout, which draws anew in each forward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.video = nn.Linear(tiny_run.WIDTH, 8)
        self.text = nn.Linear(tiny_run.WIDTH, 8)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.logit_bias = nn.Parameter(torch.tensor(-1.0))
        self.train()

    def forward(self, batch: Batch):
        videos, texts = (
            F.normalize(F.dropout(head(inputs), 0.3, training=self.training), dim=-1)
            for head, inputs in ((self.video, batch.frames[:, 0]), (self.text, batch.text))
        )
        return videos, texts, self.logit_scale.exp(), self.logit_bias


@pytest.mark.parametrize("chunk_size", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_dropout_draws_the_same_in_both_passes(loss, chunk_size):
    network, objective, batch = Noisy(), LOSSES[loss], make_batch(6)

    def seed_chunk(chunk):
        torch.manual_seed(100 + chunk)

    # The oracle: all chunks with their graphs at once, each drawn once.
    videos, texts = [], []
    for number, chunk in enumerate(batch.chunks(chunk_size)):
        seed_chunk(number)
        video, text, scale, bias = network(chunk)
        videos.append(video)
        texts.append(text)
    expected_loss = objective(torch.cat(videos), torch.cat(texts), scale, bias, batch.ids)
    expected_loss.backward()
    expected = gradients_of(network)

    found = grad_cache.backward(
        network, batch, objective, chunk_size=chunk_size, seed_chunk=seed_chunk
    )
    torch.testing.assert_close(found, expected_loss.detach())
    unused = {"logit_bias": torch.zeros(())} if loss == "infonce" else {}
    assert_same(gradients_of(network), expected | unused)

    grad_cache.backward(network, batch, objective, chunk_size=chunk_size)  # no seeds
    other = gradients_of(network)
    assert not torch.allclose(other["video.weight"], expected["video.weight"], atol=1e-3)


def test_whole_batch_is_seeded_too():
    network, batch = Noisy(), make_batch(6)
    losses = [
        grad_cache.backward(
            network, batch, LOSSES["infonce"], seed_chunk=lambda chunk: torch.manual_seed(chunk)
        )
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
