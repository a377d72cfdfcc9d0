"""Weights of a trained network -> what comes after a history, in NumPy.

A server answers with it in a millisecond or two and needs no PyTorch, whose import takes seconds
and hundreds of megabytes. It computes what `SequentialNetwork` computes in evaluation mode, except
that the last layer is computed at the last position alone.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

Weights: TypeAlias = Mapping[str, np.ndarray]

_NORM_EPSILON = 1e-5  # PyTorch's LayerNorm
_LENGTH_EPSILON = 1e-12  # PyTorch's normalize
_BATCH_POSITIONS = 2048  # of histories of like length together


def encode_histories(
    weights: Weights, items: np.ndarray, histories: Sequence[np.ndarray], *, num_heads: int
) -> np.ndarray:
    """Embeds what comes after histories.

    Args:
        weights: of a network by name, without its items.
        items: `(N, D)` embeddings of items, L2-normalised.
        histories: B arrays of item indices, the oldest first; only the last ones are looked at.
        num_heads: of attention.

    Returns:
        `(B, D)` float32, L2-normalised; zeros for an empty history.
    """
    max_length = weights["blocks.0.distance_bias"].shape[1]
    histories = [each[-max_length:] for each in histories]
    lengths = np.array([len(each) for each in histories], np.int64)
    encoded = np.zeros((len(histories), items.shape[1]), np.float32)
    order = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]
    first = 0
    while first < len(order):
        # As many as, of the length of the first of the shortest, fill a batch: little padding.
        size = max(1, _BATCH_POSITIONS // int(lengths[order[first]]))
        rows = order[first : first + size]
        encoded[rows] = _encode_padded(
            weights, items, [histories[row] for row in rows], num_heads=num_heads
        )
        first += size
    return encoded


def _encode_padded(
    weights: Weights, items: np.ndarray, histories: Sequence[np.ndarray], *, num_heads: int
) -> np.ndarray:
    """The same of histories of at least one item each, padded to the longest."""
    lengths = np.array([len(each) for each in histories])
    is_item = np.arange(lengths.max())[None, :] < lengths[:, None]
    indices = np.zeros(is_item.shape, np.int64)
    indices[is_item] = np.concatenate(histories)
    hidden = items[indices] * weights["input_scale"]
    last = (lengths - 1)[:, None]  # (B, 1): the positions that are computed in the last layer
    every = np.broadcast_to(np.arange(lengths.max()), is_item.shape)
    num_blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for number in range(num_blocks):
        prefix = f"blocks.{number}."
        block = {
            name.removeprefix(prefix): each
            for name, each in weights.items()
            if name.startswith(prefix)
        }
        asked = last if number == num_blocks - 1 else every
        hidden = _block(block, hidden, asked, num_heads=num_heads)
    return _unit_length(_norm(weights, "final_norm", hidden[:, -1]))


def _block(
    weights: Weights, hidden: np.ndarray, asked: np.ndarray, *, num_heads: int
) -> np.ndarray:
    """`GatedBlock` at some positions: `(B, L, D)` and `(B, P)` positions to `(B, P, D)`."""
    normed = _norm(weights, "attention_norm", hidden)
    kept = np.take_along_axis(hidden, asked[..., None], axis=1)
    normed_kept = np.take_along_axis(normed, asked[..., None], axis=1)
    dim = hidden.shape[-1]
    weight, bias = weights["query_key_value.weight"], weights["query_key_value.bias"]
    query = _heads(normed_kept @ weight[:dim].T + bias[:dim], num_heads)
    key, value = (
        _heads(part, num_heads)
        for part in np.split(normed @ weight[dim:].T + bias[dim:], 2, axis=-1)
    )
    logits = query @ key.swapaxes(-1, -2) * np.float32((dim // num_heads) ** -0.5)  # (B, H, P, L)
    distance = asked[:, :, None] - np.arange(hidden.shape[1])  # (B, P, L)
    bias_of = weights["distance_bias"][:, np.maximum(distance, 0)].swapaxes(0, 1)
    logits = np.where(distance[:, None] < 0, -np.inf, logits + bias_of)
    attention = np.exp(logits - logits.max(axis=-1, keepdims=True))
    attention /= attention.sum(axis=-1, keepdims=True)
    attended = (attention @ value).swapaxes(1, 2).reshape(kept.shape)
    attended = _linear(weights, "attention_out", attended)
    kept = kept + attended * _sigmoid(_linear(weights, "attention_gate", normed_kept))
    normed = _norm(weights, "feedforward_norm", kept)
    inner = _linear(weights, "feedforward_out", _gelu(_linear(weights, "feedforward_in", normed)))
    return kept + inner * _sigmoid(_linear(weights, "feedforward_gate", normed))


def _heads(values: np.ndarray, num_heads: int) -> np.ndarray:
    """`(B, L, D)` to `(B, H, L, D / H)`."""
    return values.reshape(*values.shape[:2], num_heads, -1).swapaxes(1, 2)


def _linear(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    normed = centred / np.sqrt(variance + np.float32(_NORM_EPSILON))
    return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(values: np.ndarray) -> np.ndarray:
    """Hendrycks and Gimpel 2016, "Gaussian error linear units", with their tanh."""
    inner = np.float32(0.7978845608) * (values + np.float32(0.044715) * values**3)
    return np.float32(0.5) * values * (1 + np.tanh(inner))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * values))  # never overflows


def _unit_length(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.maximum(length, np.float32(_LENGTH_EPSILON))
