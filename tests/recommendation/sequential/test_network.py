"""No position sees a later one; padding changes nothing."""

import numpy as np
import torch

from reelseek.recommendation.sequential.batches import pad_histories
from reelseek.recommendation.sequential.network import SequentialNetwork
from tests.recommendation.sequential.samples import new_network


def test_a_later_item_changes_no_earlier_position() -> None:
    network = new_network()
    histories = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 9, 8]])
    first, second = network(histories)
    torch.testing.assert_close(first[:3], second[:3])
    assert not torch.allclose(first[3:], second[3:])


def test_no_gradient_flows_back_from_a_later_item() -> None:
    network = new_network()
    given: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        given.append(output.detach().requires_grad_())
        return given[0]

    with_hook = network.items.register_forward_hook(keep)
    out = network(torch.tensor([[1, 2, 3, 4]]))
    with_hook.remove()
    out[0, 1].sum().backward()
    assert given[0].grad is not None
    assert given[0].grad[0, :2].abs().sum(dim=1).gt(0).all()
    assert given[0].grad[0, 2:].eq(0).all()


def test_padding_changes_nothing() -> None:
    network = new_network()
    histories = [np.array([1, 2, 3]), np.array([4, 5, 6, 7, 8, 9]), np.array([7])]
    items, is_item = pad_histories(histories)
    together = network(items)
    for row, history in enumerate(histories):
        alone = network(torch.from_numpy(history)[None])[0]
        torch.testing.assert_close(together[row][is_item[row]], alone, atol=1e-6, rtol=1e-5)


def test_outputs_have_unit_length_and_depend_on_the_order() -> None:
    network = new_network()
    out = network(torch.tensor([[1, 2, 3], [2, 1, 3]]))
    torch.testing.assert_close(out.norm(dim=-1), torch.ones(2, 3))
    assert not torch.allclose(out[0, 2], out[1, 2])


def test_a_block_is_the_formula_of_its_docstring() -> None:
    """One head and one history, with the attention written out."""
    network: SequentialNetwork = new_network(num_heads=1, num_blocks=1)
    block = network.blocks[0]
    hidden = torch.randn(1, 4, 16)
    normed = block.attention_norm(hidden)[0]
    query, key, value = block.query_key_value(normed).chunk(3, dim=-1)
    attended = torch.zeros(4, 16)
    for at in range(4):
        logits = torch.stack(
            [
                query[at] @ key[before] / 4 + block.distance_bias[0, at - before]
                for before in range(at + 1)
            ]
        )
        attended[at] = logits.softmax(dim=0) @ value[: at + 1]
    gate = torch.sigmoid(block.attention_gate(normed))
    after = hidden[0] + block.attention_out(attended) * gate
    normed = block.feedforward_norm(after)
    inner = torch.nn.functional.gelu(block.feedforward_in(normed), approximate="tanh")
    expected = after + block.feedforward_out(inner) * torch.sigmoid(block.feedforward_gate(normed))
    torch.testing.assert_close(block(hidden)[0], expected, atol=1e-5, rtol=1e-5)
