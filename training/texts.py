"""Captions -> what of them a network takes: tokens, or features of a trunk that does not train."""

from collections.abc import Sequence

import torch

from text import trimmed
from training.network import Network
from vision import DualEncoder

_BATCH_SENTENCES = 256


def prepare_texts(
    sentences: Sequence[str],
    model: DualEncoder,
    network: Network,
    *,
    device: torch.device,
    max_tokens: int = 0,
) -> torch.Tensor:
    """Tokens `(N, L)` int64 where the text trunk trains, else its features `(N, F)` float32.

    Features are computed once and kept in memory: 4 F bytes for a sentence.

    Args:
        max_tokens: longer sentences are cut to it; 0 for as many as the model reads.
    """
    tokens = _tokens(sentences, model, max_tokens or model.context_length)
    if network.text.plan.trunk_trains:
        return tokens
    features = []
    order = (tokens != 0).sum(dim=1).argsort()  # of about equal length together: less padding
    with torch.inference_mode():
        for places in order.split(_BATCH_SENTENCES):
            part = trimmed(tokens[places], model.clip).to(device)
            output = network.text.trunk(part)
            output = output[0] if isinstance(output, tuple) else output
            features.append(output.float().cpu())
    return torch.cat(features)[order.argsort()].clone()


def _tokens(sentences: Sequence[str], model: DualEncoder, max_tokens: int) -> torch.Tensor:
    length = min(max_tokens, model.context_length)
    parts = [
        model.tokenize(list(sentences[first : first + _BATCH_SENTENCES]), context_length=length)
        for first in range(0, len(sentences), _BATCH_SENTENCES)
    ]
    # Only some towers read less than their whole context.
    padded = torch.nn.functional.pad(torch.cat(parts), (0, model.context_length - length))
    return trimmed(padded, model.clip)
