"""What is exported computes what was trained."""

import numpy as np
import pytest
import torch

from reelseek.recommendation.sequential.fitting import export_network
from reelseek.recommendation.sequential.inference import encode_histories
from tests.recommendation.sequential.samples import new_network


@pytest.mark.parametrize("num_blocks", [1, 3])
@pytest.mark.parametrize("num_heads", [1, 4])
def test_the_export_equals_the_network(num_blocks: int, num_heads: int) -> None:
    network = new_network(content_dim=5, num_blocks=num_blocks, num_heads=num_heads)
    exported = export_network(network)
    random = np.random.default_rng(0)
    histories = [random.integers(0, 30, length) for length in (3, 1, 8, 0, 20, 3)]
    encoded = encode_histories(exported.weights, exported.items, histories, num_heads=num_heads)
    assert encoded.dtype == np.float32
    for row, history in zip(encoded, histories, strict=True):
        if not len(history):
            assert not row.any()
            continue
        with torch.no_grad():
            expected = network(torch.from_numpy(history[-8:])[None])[0, -1].numpy()
        np.testing.assert_allclose(row, expected, atol=2e-6)


def test_many_histories_are_the_same_as_each_alone() -> None:
    exported = export_network(new_network())
    random = np.random.default_rng(0)
    histories = [random.integers(0, 30, length) for length in random.integers(0, 9, 700)]
    together = encode_histories(exported.weights, exported.items, histories, num_heads=2)
    for number in range(0, 700, 50):
        alone = encode_histories(
            exported.weights, exported.items, histories[number : number + 1], num_heads=2
        )
        np.testing.assert_allclose(together[number], alone[0], atol=2e-6)


def test_large_activations_do_not_overflow() -> None:
    network = new_network()
    with torch.no_grad():
        for block in network.blocks:
            block.attention_gate.bias += 500
            block.feedforward_gate.bias -= 500
    exported = export_network(network)
    with np.errstate(all="raise"):
        encoded = encode_histories(
            exported.weights, exported.items, [np.array([1, 2])], num_heads=2
        )
    assert np.isfinite(encoded).all()
