"""Sampled softmax against the softmax over the whole catalogue."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from reelseek.recommendation.sequential.negatives import (
    Negatives,
    NegativeSampler,
    sampled_softmax_loss,
)

_SCALE = torch.tensor(4.0)


def tiny(num_items: int = 12, *, dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    items = F.normalize(torch.randn(num_items, dim), dim=1)
    predicted = F.normalize(torch.randn(3, dim), dim=1)
    return items, predicted, torch.tensor([0, 5, 5])


def loss_of(
    items: torch.Tensor, predicted: torch.Tensor, targets: torch.Tensor, negatives: Negatives
) -> torch.Tensor:
    return sampled_softmax_loss(
        predicted,
        items[targets],
        items[negatives.items],
        targets=targets,
        negatives=negatives,
        logit_scale=_SCALE,
    )


def test_all_items_once_are_the_full_softmax() -> None:
    items, predicted, targets = tiny()
    every = Negatives(torch.arange(12), torch.zeros(12))
    expected = F.cross_entropy(_SCALE * predicted @ items.T, targets, reduction="none")
    torch.testing.assert_close(loss_of(items, predicted, targets, every), expected)


def test_the_sum_of_the_softmax_is_estimated_without_bias() -> None:
    items, predicted, targets = tiny()
    sampler = NegativeSampler(np.arange(12.0) ** 2, popularity_fraction=0.5)
    logits = _SCALE * predicted @ items.T
    random = np.random.default_rng(0)
    sums = []
    for _ in range(4000):
        loss = loss_of(items, predicted, targets, sampler.draw(8, random))
        positive = logits.gather(1, targets[:, None])[:, 0]
        sums.append((loss + positive).exp())
    estimates = torch.stack(sums)
    error = estimates.std(dim=0) / math.sqrt(len(estimates))
    difference = (estimates.mean(dim=0) - logits.exp().sum(dim=1)).abs()
    assert difference.lt(4 * error).all()
    assert error.lt(0.02 * logits.exp().sum(dim=1)).all()


def test_many_negatives_come_near_the_gradients_of_the_full_softmax() -> None:
    items, predicted, targets = tiny()
    sampler = NegativeSampler(np.arange(12.0), popularity_fraction=0.5)
    items.requires_grad_()
    F.cross_entropy(_SCALE * predicted @ items.T, targets).backward()
    assert items.grad is not None
    expected, items.grad = items.grad.clone(), None
    negatives = sampler.draw(200_000, np.random.default_rng(0))
    loss_of(items, predicted, targets, negatives).mean().backward()
    torch.testing.assert_close(items.grad, expected, atol=5e-3, rtol=0.05)


def test_only_targets_and_drawn_items_have_gradients() -> None:
    items, predicted, targets = tiny()
    items.requires_grad_()
    drawn = Negatives(torch.tensor([2, 7, 7]), torch.zeros(3))
    loss_of(items, predicted, targets, drawn).sum().backward()
    assert items.grad is not None
    assert items.grad.abs().sum(dim=1).nonzero()[:, 0].tolist() == [0, 2, 5, 7]


def test_a_draw_of_the_target_does_not_count() -> None:
    items, predicted, targets = tiny()
    without = Negatives(torch.tensor([3]), torch.zeros(1))
    drawn_too = Negatives(torch.tensor([3, 5]), torch.zeros(2))
    with_it, alone = (loss_of(items, predicted, targets, each) for each in (drawn_too, without))
    assert with_it[0] > alone[0]  # its target is another
    torch.testing.assert_close(with_it[1:], alone[1:])


def test_draws_follow_the_mixture() -> None:
    counts = np.array([0, 0, 6, 2])
    sampler = NegativeSampler(counts, popularity_fraction=0.5)
    probability = 0.5 * counts / 8 + 0.5 / 4
    drawn = sampler.draw(100_000, np.random.default_rng(0))
    shares = np.bincount(drawn.items.numpy(), minlength=4) / 100_000
    np.testing.assert_allclose(shares, probability, atol=0.01)
    expected = np.log(100_000 * probability)[drawn.items.numpy()]
    np.testing.assert_allclose(drawn.log_expected.numpy(), expected, rtol=1e-5)


def test_without_events_items_are_drawn_alike() -> None:
    drawn = NegativeSampler(np.zeros(3), popularity_fraction=1.0).draw(
        3000, np.random.default_rng(0)
    )
    assert np.bincount(drawn.items.numpy()).min() > 800
